/* SPDX-License-Identifier: GPL-2.0 */
/* What a program must see, whether speculation is on or off. */
#ifndef SPF_CASES_HPP
#define SPF_CASES_HPP

#include <string>
#include <vector>

#include "child.hpp"
#include "counters.hpp"
#include "ktap.hpp"

namespace spf {

/* Runs in a child, and returns what it saw as text. */
struct Case {
	const char *name;
	std::string (*run)();
	const char *expected;
};

inline void check(const Case &test)
{
	auto expect_same = [&test](const char *when) {
		std::string seen = Child(test.run).collect();

		expect(seen == test.expected, "%s saw \"%s\", not \"%s\"", when, seen.c_str(),
		       test.expected);
	};

	if (mode() == Mode::absent)
		return expect_same("the program");
	for (const char *value : {"0", "1"}) {
		Setting current(mode_path, value);

		expect_same(*value == '1' ? "with speculation it" : "without speculation it");
	}
}

template <std::size_t count> std::vector<Test> tests_of(const Case (&cases)[count])
{
	std::vector<Test> tests;

	for (const Case &test : cases)
		tests.push_back({test.name, [&test] {
					 check(test);
				 }});
	return tests;
}

} // namespace spf

#endif /* SPF_CASES_HPP */
