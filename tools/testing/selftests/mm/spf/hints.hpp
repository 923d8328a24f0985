/* SPDX-License-Identifier: GPL-2.0 */
/* NUMA hinting faults, as many as there can be. */
#ifndef SPF_HINTS_HPP
#define SPF_HINTS_HPP

#include <cstdint>
#include <string>

#include "counters.hpp"

namespace spf {

/* Hints as fast as the kernel makes them; for processes that are forked meanwhile. */
class Hints {
	static std::string knob(const char *name)
	{
		return std::string("/sys/kernel/debug/sched/numa_balancing/") + name;
	}

	Setting on_{"/proc/sys/kernel/numa_balancing", "1"};
	Setting delay_{knob("scan_delay_ms"), "50"};
	Setting least_{knob("scan_period_min_ms"), "10"};
	Setting most_{knob("scan_period_max_ms"), "10"};
	Setting size_{knob("scan_size_mb"), "256"};
};

/* How many pages the kernel has taken access to away from, ever. */
inline std::uint64_t hints_given()
{
	return Counters::now()["numa_pte_updates"];
}

/* Runs until that number is reached: it is from the timer's tick that hints are given. */
inline void wait_for_hints(std::uint64_t until)
{
	constexpr unsigned patience = 20000;

	for (unsigned i = 0; hints_given() < until; i++)
		expect(i < patience, "the kernel gives no hints: %s",
		       Counters::now().summary().c_str());
}

} // namespace spf

#endif /* SPF_HINTS_HPP */
