// SPDX-License-Identifier: GPL-2.0
#include <algorithm>

#include "counters.hpp"
#include "error.hpp"
#include "ktap.hpp"
#include "trap.hpp"

#include "kselftest.h"

namespace spf {

void note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	ksft_print_msg("%s\n", vformat(fmt, args).c_str());
	va_end(args);
}

/*
 * Something else on the machine may be in a fault at the moment of reading. A lost
 * or doubled count stays wrong, so a few readings tell one from the other.
 */
static Counters balanced_counters()
{
	for (int tries = 0; tries < 100; tries++) {
		Counters counters = Counters::now();

		if (counters.balanced())
			return counters;
	}
	throw Failure("spf_attempt is not spf_success plus all spf_abort_*: " +
		      Counters::now().summary());
}

static void run_one(const Test &test)
{
	Mode mode_before = mode();
	Counters before = balanced_counters();

	test.run();

	Counters moved = balanced_counters().since(before);

	note("%s: %s", test.name.c_str(), moved.summary().c_str());
	expect(mode() == mode_before, "the test left %s changed", mode_path);
	expect(mode_before == Mode::absent || moved.present(), "%s is there, spf_attempt is not",
	       mode_path);
}

static std::vector<Test> named(int argc, char **argv, const std::vector<Test> &all)
{
	std::vector<Test> tests;

	for (int i = 1; i < argc; i++) {
		auto found = std::find_if(all.begin(), all.end(),
					  [&](const Test &test) { return test.name == argv[i]; });
		std::string names;

		for (const Test &test : all)
			names += " " + test.name;
		if (found == all.end())
			ksft_exit_fail_msg("%s has no test \"%s\". Name one of:%s\n", argv[0],
					   argv[i], names.c_str());
		tests.push_back(*found);
	}
	return argc > 1 ? tests : all;
}

int run_tests(int argc, char **argv, const std::vector<Test> &all)
{
	ksft_print_header();
	const std::vector<Test> tests = named(argc, argv, all);

	ksft_set_plan(tests.size());
	install_traps();

	switch (mode()) {
	case Mode::absent:
		note("no %s: results are checked, counters are skipped", mode_path);
		break;
	case Mode::off:
		note("speculation is off");
		break;
	case Mode::on:
		note("speculation is on");
		break;
	}

	for (const Test &test : tests) {
		try {
			run_one(test);
			ksft_test_result_pass("%s\n", test.name.c_str());
		} catch (const Skip &skip) {
			ksft_test_result_skip("%s: %s\n", test.name.c_str(), skip.what());
		} catch (const std::exception &failure) {
			ksft_test_result_fail("%s: %s\n", test.name.c_str(), failure.what());
		}
	}

	ksft_print_cnts();
	if (ksft_get_fail_cnt())
		return KSFT_FAIL;
	return ksft_get_xskip_cnt() == static_cast<int>(tests.size()) ? KSFT_SKIP : KSFT_PASS;
}

} // namespace spf
