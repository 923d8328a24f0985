/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A program's tests, reported through kselftest.h. That header keeps its counts in
 * static variables, so only ktap.cpp includes it.
 */
#ifndef SPF_KTAP_HPP
#define SPF_KTAP_HPP

#include <functional>
#include <string>
#include <vector>

namespace spf {

struct Test {
	std::string name;
	std::function<void()> run; /* returns: passed; throws Failure or Skip */
};

/* A line of explanation in the output. */
[[gnu::format(printf, 1, 2)]] void note(const char *fmt, ...);

/*
 * Runs those that main()'s arguments name, or all, in order and returns the exit code
 * for main(). Each test must leave the spf_* counters balanced and the switch as it
 * was.
 */
int run_tests(int argc, char **argv, const std::vector<Test> &all);

} // namespace spf

#endif /* SPF_KTAP_HPP */
