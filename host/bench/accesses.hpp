/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What record.cpp writes and replay.cpp reads: "first", then for each page fault a
 * "fault" and as many of "access" as it says, last a fault of kind "end" that has
 * in "thread" how many returns to user mode were missed.
 */
#pragma once

#include <cstdint>

namespace accesses {

constexpr uint64_t first = 0x31656e696c667073; /* "spfline1" */
constexpr uint32_t end = UINT32_MAX;
constexpr uint64_t line_size = 64;

struct fault {
	uint32_t kind, thread, vcpu, instructions, count;
};

/*
 * A string instruction has one for each line. "gap" is how many instructions came
 * since the access before, this one included. Addresses have more than 48 bits where
 * there are five levels of page tables.
 */
struct access {
	uint64_t addr;
	uint32_t gap;
	uint8_t shift, store, locked, unused;
};

static_assert(sizeof(access) == 16, "what is written has no holes");

} // namespace accesses
