# SPDX-License-Identifier: GPL-2.0
"""For gdb, attached to a guest that stands still: what its memory holds."""
import struct

import gdb


def value(expression):
    return int(gdb.parse_and_eval(expression))


class Memory:
    """The guest's page frames, by their struct pages."""

    def __init__(self):
        self.direct = value("page_offset_base")
        self.vmemmap = value("vmemmap_base")
        self.page = gdb.lookup_type("struct page")
        self.at = {field: value(f"(unsigned long)&((struct page *)0)->{field}")
                   for field in ("compound_info", "page_type")}
        self.slab_cache = value("(unsigned long)&((struct slab *)0)->slab_cache")
        self.slab_type = value("PGTY_slab")
        self.pages = value("max_pfn")
        self.known = {}

    def read(self, address, form):
        data = gdb.selected_inferior().read_memory(address, struct.calcsize(form))
        return struct.unpack(form, bytes(data))[0]

    def slab_of_frame(self, frame):
        page = self.vmemmap + frame * self.page.sizeof
        head = self.read(page + self.at["compound_info"], "<Q")
        if head & 1:
            # The head's address, or a mask that gives it (of hugetlb's vmemmap): no
            # struct page is as high as that.
            within = head < self.vmemmap + self.pages * self.page.sizeof
            page = head - 1 if within else page & head
        if self.read(page + self.at["page_type"], "<I") >> 24 != self.slab_type:
            return None
        start = self.direct + (page - self.vmemmap) // self.page.sizeof * 4096
        return self.read(page + self.slab_cache, "<Q"), start

    def slab(self, address):
        """(cache, address of its first object) of the slab that an address is in."""
        frame = (address - self.direct) >> 12
        if not 0 <= frame < self.pages:
            return None
        if frame not in self.known:
            self.known[frame] = self.slab_of_frame(frame)
        return self.known[frame]
