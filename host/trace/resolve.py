# SPDX-License-Identifier: GPL-2.0
"""
Run by gdb beside the traced guest: name the structure and field behind
each address that the fault path wrote, print the table and give the verdict.

An address belongs to an mm_struct or a vm_area_struct if its page is a slab of
the cache that all of them come from, whichever process they belong to, or if
it lies in init_mm. The offset within the object names the field.
"""
import bisect
import collections
import contextlib
import os
import sys
import gdb

# The repository is where host/plugin/objects.py is: leave no cache in it.
sys.dont_write_bytecode = True

from objects import Memory, value  # noqa: E402
from symbols import functions  # noqa: E402

PATHS = ("locked", "lockless")

# Written by the lockless path all the same: the percpu counter's spill, its
# lock taken and released and its sum, once a batch of 32 faults at the most
# often. A copy flushes the TLB, as it always did: it bumps context.tlb_gen, and once a
# second notes in context.next_trim_cpumask that it looked at the mask of CPUs. After
# fork() the storm copies a few pages of its own, a page in a thousand, beside those that
# it counts.
EXEMPT = {"mm_struct.rss_stat": 4 / 32, "mm_struct.context.tlb_gen": 1 / 1000,
          "mm_struct.context.next_trim_cpumask": 1 / 1000}

# Faults may fall back, on a page table's lock that is taken for example.
FELL_BACK_MAX = 0.01


def fields(kind, base=0, prefix=""):
    """(offset, name) of each field; anonymous members are looked into."""
    for field in kind.fields():
        if not hasattr(field, "bitpos"):
            continue
        at = base + field.bitpos // 8
        inner = field.type.strip_typedefs()
        name = prefix + (field.name or "")
        nested = inner.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
        if nested and (not field.name or field.name == "context"):
            yield from fields(inner, at, name + "." if field.name else prefix)
        else:
            yield at, name


class Structure:
    """The objects of one type: their cache, and how their fields lie."""

    def __init__(self, name, cache):
        self.name = name
        self.cache = value(cache)
        self.size = value(f"((struct kmem_cache *){self.cache})->size")
        self.fields = {}
        for at, field in fields(gdb.lookup_type("struct " + name)):
            names = self.fields.setdefault(at, [])
            if field not in names:
                names.append(field)
        self.starts = sorted(self.fields)

    def field(self, offset):
        start = self.starts[bisect.bisect_right(self.starts, offset) - 1]
        return f"{self.name}.{'|'.join(self.fields[start])}"


class Kinds:
    """Which addresses belong to the structures of concern."""

    def __init__(self):
        self.memory = Memory()
        self.mm = Structure("mm_struct", "'kernel/fork.c'::mm_cachep")
        self.vma = Structure("vm_area_struct", "'mm/vma_init.c'::vm_area_cachep")
        self.init_mm = value("(unsigned long)&init_mm")

    def resolve(self, address):
        """structure.field, or None for memory of no concern."""
        offset = address - self.init_mm
        if 0 <= offset < gdb.lookup_type("struct mm_struct").sizeof:
            return self.mm.field(offset)
        cache, start = self.memory.slab(address) or (None, None)
        for kind in (self.mm, self.vma):
            if cache == kind.cache:
                return kind.field((address - start) % kind.size)
        return None


def storm(path):
    """What the guest counted: {kind: {name: count}}, and the kinds' names."""
    counts, names = {}, {}
    with open(path) as file:
        for line in file:
            word = line.split()
            if word[1].isdigit():
                names[int(word[1])] = word[2]
                pairs = (pair.split("=") for pair in word[3:])
                counts[int(word[1])] = {name: int(count) for name, count in pairs}
    return counts, names


def judge(kind, guest, faults, rows, stores):
    """The sentences to be said against one kind of fault; none if all is well."""
    every = faults[kind, 0] + faults[kind, 1]
    fell_back = faults[kind, 0] > every * FELL_BACK_MAX
    if every < guest["pages"] or stores < every:
        yield f"only {every} faults with {stores} stores were traced, so the trace has gaps"
    if faults[kind, 1] > guest.get("spf_success", 0):
        yield (f"{faults[kind, 1]} faults seem lockless, but the kernel says "
               f"{guest.get('spf_success', 0)}: a locking function is not known to the tracer")
    if fell_back:
        yield f"{faults[kind, 0]} of {every} faults took a lock, so theirs are judged too"
    for path in (0, 1) if fell_back else (1,):
        written = collections.Counter()
        for (row_kind, row_path, field, _), count in rows.items():
            if (row_kind, row_path) == (kind, path):
                written[field] += count
        for field, count in written.most_common():
            rate = count / faults[kind, path]
            if rate > EXEMPT.get(field, 0):
                yield (f"the {PATHS[path]} path writes {field}: {count} times in "
                       f"{faults[kind, path]} faults, {rate:.3f} a fault")


def report(where):
    """Print the table and the verdict; true if it is good."""
    guest, names = storm(where + "/storm")
    function = functions(where + "/symbols")
    kinds = Kinds()
    faults, stores, rows = (collections.Counter() for _ in range(3))
    wrong = []
    with open(where + "/trace") as file:
        for line in file:
            word = line.split()
            if word[0] == "store":
                kind, path, count = int(word[1]), 1 - int(word[2]), int(word[5])
                field = kinds.resolve(int(word[4], 16))
                stores[kind] += count
                if field:
                    rows[kind, path, field, function(int(word[3], 16))] += count
            elif word[0] == "faults":
                faults[int(word[1]), 1 - int(word[2])] = int(word[3])
            elif word[0] == "lost" and word[1] != "0":
                wrong.append(f"{word[1]} returns to user mode were missed")
        if word[0] != "end":
            wrong.append("the trace file is cut short")

    form = "{:6} {:9} {:36} {:30} {:>8} {:>10}"
    print(form.format("fault", "path", "structure.field", "writing function", "count",
                      "per fault"))
    for (kind, path, field, writer), count in sorted(
            rows.items(), key=lambda row: (row[0][:2], -row[1])):
        print(form.format(names[kind], PATHS[path], field, writer, count,
                          f"{count / faults[kind, path]:.4f}"))
    for kind, name in names.items():
        every = faults[kind, 0] + faults[kind, 1]
        print(f"{name}: {every} faults, {faults[kind, 1]} lockless, "
              f"{stores[kind] / max(every, 1):.0f} stores a fault to all of memory")
        wrong += [f"{name}: {sentence}" for sentence in
                  judge(kind, guest[kind], faults, rows, stores[kind])]
    if not names:
        wrong.append("the storm reported nothing")
    for sentence in wrong:
        print(f"FAIL: {sentence}.")
    if not wrong:
        print("PASS: lockless faults write to no field of mm_struct or vm_area_struct "
              f"(but for {', '.join(EXEMPT)}, now and then).")
    return not wrong


def main():
    where = os.environ["TRACE_DIR"]
    gdb.execute("set confirm off")
    gdb.execute(f"target remote {where}/gdb")
    with open(where + "/report", "w") as file, contextlib.redirect_stdout(file):
        good = report(where)
    gdb.execute("kill")
    gdb.execute(f"quit {0 if good else 1}")


main()
