# SPDX-License-Identifier: GPL-2.0
"""
Run by gdb beside the recorded guest: name the structure and field, or the
variable, behind each address that a replay found to be transferred.
"""
import os
import sys
import gdb

# The repository is where host/plugin/objects.py is: leave no cache in it.
sys.dont_write_bytecode = True

from objects import Memory, value  # noqa: E402
from symbols import functions  # noqa: E402

DEEP = 2


def index(names):
    return names and names[0].startswith("[")


def path(kind, offset):
    """The names of the fields, outermost first, that an offset is in."""
    kind = kind.strip_typedefs()
    if kind.code == gdb.TYPE_CODE_ARRAY:
        element = kind.target()
        at, within = divmod(offset, element.sizeof)
        inner = path(element, within)
        return [f"[{at}]{inner[0]}", *inner[1:]] if index(inner) else [f"[{at}]", *inner]
    if kind.code not in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        return []
    for field in kind.fields():
        at = getattr(field, "bitpos", None)
        if at is None or not 0 <= offset - at // 8 < field.type.sizeof:
            continue
        inner = path(field.type, offset - at // 8)
        if not field.name:
            return inner
        return [field.name + inner[0], *inner[1:]] if index(inner) else [field.name, *inner]
    return []


def dotted(name, kind, offset):
    return ".".join([name, *path(kind, offset)[:DEEP]]).replace(".[", "[")


class Names:
    """What lies where, of what has no slab and no symbol."""

    def __init__(self, where):
        self.memory = Memory()
        self.function = functions(where + "/symbols")
        self.cpus = [value(f"__per_cpu_offset[{n}]") for n in range(value("nr_cpu_ids"))]
        self.start = value("(unsigned long)&__per_cpu_start")
        self.size = value("(unsigned long)&__per_cpu_end") - self.start
        self.unit = value("pcpu_unit_size")
        self.ranges = []
        for node in range(value("nr_node_ids")):
            self.add_range(f"*node_data[{node}]", "pglist_data")
            self.add_range(f"*root_mem_cgroup->nodeinfo[{node}]", "mem_cgroup_per_node")

    def add_range(self, expression, name):
        try:
            what = gdb.parse_and_eval(expression)
            self.ranges.append((int(what.address), what.type, name))
        except gdb.error:
            pass

    def in_image(self, address):
        name = self.function(address)
        for symbol in (gdb.lookup_global_symbol(name), gdb.lookup_static_symbol(name)):
            if symbol and symbol.is_variable:
                return dotted(name, symbol.type, address - int(symbol.value().address))
        return name

    def in_slab(self, address):
        cache, start = self.memory.slab(address)
        pointer = gdb.Value(cache).cast(gdb.lookup_type("struct kmem_cache").pointer())
        name = pointer["name"].string()
        offset = (address - start) % int(pointer["size"])
        try:
            return dotted(name, gdb.lookup_type("struct " + name), offset)
        except gdb.error:
            return f"{name}+{offset:#x}"

    def name(self, address):
        memory = self.memory
        for start, kind, name in self.ranges:
            if start <= address < start + kind.sizeof:
                return dotted(name, kind, address - start)
        for offset in self.cpus:
            within = address - offset - self.start
            if 0 <= within < self.size:
                return "per-CPU " + self.function(address - offset)
            if 0 <= within < self.unit:
                return "per-CPU, allocated"
        if address >= value("(unsigned long)&_text"):
            return self.in_image(address)
        if memory.slab(address):
            return self.in_slab(address)
        if 0 <= address - memory.vmemmap < memory.pages * memory.page.sizeof:
            return dotted("page", memory.page, (address - memory.vmemmap) % memory.page.sizeof)
        if 0 <= address - memory.direct < memory.pages * 4096:
            return "memory"
        return f"{address:#x}"


def main():
    where = os.environ["RECORD_DIR"]
    gdb.execute("set confirm off")
    gdb.execute(f"target remote {where}/gdb")
    names = Names(where)
    with open(where + "/points") as file:
        words = (line.split() for line in file)
        addresses = sorted({int(word[4], 16) for word in words if word[0] == "line"})
    with open(where + "/names.new", "w") as file:
        for address in addresses:
            file.write(f"{address:x} {names.name(address)}\n")
    os.rename(where + "/names.new", where + "/names")
    gdb.execute("kill")
    gdb.execute("quit 0")


main()
