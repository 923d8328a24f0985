// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that a device has pinned (mm/gup_test.c): whatever forks and writes, the
 * process that pinned them goes on using these very pages.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <atomic>
#include <vector>

#include "../../../../../mm/gup_test.h"

#include "child.hpp"
#include "counters.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "pages.hpp"
#include "team.hpp"

using namespace spf;

enum How : unsigned {
	for_reading = 0,
	for_writing = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	fast = PIN_LONGTERM_TEST_FLAG_USE_FAST,
};

/* As long as this lives, the pages are pinned. */
class Pin {
public:
	Pin(const Pages &pages, unsigned how)
		: pages_(pages), test_(open("/sys/kernel/debug/gup_test", O_RDWR))
	{
		struct pin_longterm_test range = {};

		if (test_ < 0)
			throw Skip(format("cannot open /sys/kernel/debug/gup_test "
					  "(CONFIG_GUP_TEST): %s",
					  strerror(errno)));
		range.addr = reinterpret_cast<std::uintptr_t>(pages.begin());
		range.size = pages.size();
		range.flags = how;
		must(ioctl(test_, PIN_LONGTERM_TEST_START, &range) == 0, "pinning");
	}
	~Pin() { close(test_); }
	Pin(const Pin &) = delete;
	Pin &operator=(const Pin &) = delete;

	/* What is in the pinned pages is what is at their addresses. */
	void expect_in_place() const
	{
		std::vector<char> pinned(pages_.size());
		std::uint64_t to = reinterpret_cast<std::uintptr_t>(pinned.data());

		must(ioctl(test_, PIN_LONGTERM_TEST_READ, &to) == 0, "reading what is pinned");
		for (std::size_t page = 0; page < pages_.count(); page++)
			expect(!memcmp(&pinned[page * page_size()],
				       const_cast<const std::uint64_t *>(pages_.word(page)),
				       page_size()),
			       "page %zu was replaced while it was pinned", page);
	}

private:
	Pages pages_;
	int test_;
};

/* Pinning makes a shared page ours, still read-only: the write finds it exclusive. */
static void reuse()
{
	OneCpu here;
	Arena arena(tables_of(usual_faults()));
	Pages pages(arena);
	Gate written;

	pages.fill();
	Child child([&] {
		written.wait();
		pages.expect_marked(0);
		return std::string();
	});
	Pin pin(pages, for_reading);

	speculates(pages.count(), [&] { pages.mark(1); });
	pin.expect_in_place();
	pages.expect_marked(1);
	written.open();
	child.collect();
}

/* The child has pages of its own from the start, and neither copies later. */
template <unsigned how> static void fork_after_pin()
{
	OneCpu here;
	Arena arena(1);
	Pages pages(arena);
	Gate written;

	pages.fill();
	Pin pin(pages, how);
	Child child([&] {
		written.wait();
		pages.expect_marked(0);
		pages.mark(2);
		pages.expect_marked(2);
		return std::string();
	});
	pages.mark(1);
	pin.expect_in_place();
	written.open();
	child.collect();
	pages.expect_marked(1);
	pin.expect_in_place();
}

/* Writers never rest while pages are pinned and processes forked. */
static void storm_round(unsigned how)
{
	static constexpr unsigned writers = 2;
	Arena arena(1);
	Pages pages(arena);
	std::atomic<std::uint64_t> passes{0};
	Gate before_pin, after_pin;

	pages.fill();
	Team team(writers, [&](unsigned id) {
		for (std::uint64_t round = 1; !team.stopping(); round++) {
			for (std::size_t page = id; page < pages.count(); page += writers)
				*pages.word(page) = round;
			passes++;
		}
	});
	/* Until each page has been written for sure. */
	auto wait_for_writes = [&] {
		std::uint64_t until = passes + 2 * writers;

		while (passes < until && !team.stopping())
			sched_yield();
	};
	/* A child writes, too, and sees nobody else's writes. */
	auto write_in_child = [&pages](Gate &gate) {
		pages.mark(1);
		gate.wait();
		for (std::size_t page = 0; page < pages.count(); page++)
			pages.expect_page(page, 1);
		return std::string();
	};

	team.start();
	Child first([&] { return write_in_child(before_pin); });

	wait_for_writes();
	Pin pin(pages, how);

	Child second([&] { return write_in_child(after_pin); });

	wait_for_writes();
	team.stop();
	team.finish();
	pin.expect_in_place();
	before_pin.open();
	after_pin.open();
	first.collect();
	second.collect();
	pin.expect_in_place();
}

template <unsigned how> static void storm()
{
	for (unsigned round = 0; round < 6; round++)
		storm_round(how);
}

int main(int argc, char **argv)
{
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"reuse", reuse},
				 {"fork_pinned_for_reading", fork_after_pin<for_reading>},
				 {"fork_pinned_for_writing", fork_after_pin<for_writing>},
				 {"storm_pinned_for_reading", storm<for_reading>},
				 {"storm_pinned_for_writing", storm<for_writing | fast>},
			 });
}
