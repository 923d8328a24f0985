/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a storm in the guest speaks to the plugin in QEMU: by a store to a word
 * of one page at a fixed address. Word n says that kind n begins: of faults; from
 * "calls" on, of stretches of system calls; from "loads" on, of stretches in which both
 * count, those of every task. Word 0 says that it is over, word "finish" that what was
 * recorded may be written.
 */
#pragma once

#include <cstdint>

namespace marks {
constexpr uint64_t base = 0x5bf000000000;
constexpr uint64_t size = 4096;
constexpr unsigned int none = 0, calls = 256, loads = 384, finish = size / 8 - 1;
} // namespace marks
