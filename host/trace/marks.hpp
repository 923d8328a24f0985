/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the storm in the guest speaks to the plugin in QEMU: by a store to a
 * word of one page at a fixed address. Word n says that fault kind n begins,
 * word 0 that it is over, word "finish" that the trace may be written.
 */
#pragma once

#include <cstdint>

namespace marks {
constexpr uint64_t base = 0x5bf000000000;
constexpr uint64_t size = 4096;
constexpr unsigned int none = 0, read = 1, write = 2, reuse = 3, finish = 4;
constexpr const char *names[] = {"none", "read", "write", "reuse"};
} // namespace marks
