# SPDX-License-Identifier: GPL-2.0
"""What "nm -n" says of a kernel."""
import bisect


def functions(path):
    """A function that names the function an address is in."""
    with open(path) as file:
        symbols = sorted((int(line.split()[0], 16), line.split()[2]) for line in file)
    starts = [start for start, _ in symbols]
    return lambda pc: symbols[bisect.bisect_right(starts, pc) - 1][1]
