/* SPDX-License-Identifier: GPL-2.0 */
/* Which way faults were resolved, by the counters, where speculation is on. */
#ifndef SPF_HANDLING_HPP
#define SPF_HANDLING_HPP

#include <initializer_list>

#include "counters.hpp"

namespace spf {

/* Runs @faults, and expects at least 0.99 of @count faults to have been speculated. */
template <class Faults> void mostly_speculates(std::size_t count, Faults faults)
{
	Counters before = Counters::now();

	faults();
	expect_speculated(Counters::now().since(before), count * 99 / 100);
}

/* That at least @count faults were left to a lock for @reasons. */
inline void expect_left(const Counters &moved, std::initializer_list<const char *> reasons,
			std::size_t count)
{
	std::uint64_t left = 0;

	for (const char *reason : reasons)
		left += moved.aborts()[reason];
	if (mode() == Mode::on)
		expect(left >= count, "only %llu of %zu faults were left for %s: %s",
		       static_cast<unsigned long long>(left), count, *reasons.begin(),
		       moved.summary().c_str());
	if (mode() == Mode::off)
		expect(moved.attempt() == 0, "speculation is off, yet: %s",
		       moved.summary().c_str());
}

/* Runs @faults, and expects at least @count to have been left to a lock for @reasons. */
template <class Faults>
void falls_back(std::initializer_list<const char *> reasons, std::size_t count, Faults faults)
{
	Counters before = Counters::now();

	faults();
	expect_left(Counters::now().since(before), reasons, count);
}

} // namespace spf

#endif /* SPF_HANDLING_HPP */
