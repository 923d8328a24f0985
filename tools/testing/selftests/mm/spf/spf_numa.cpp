// SPDX-License-Identifier: GPL-2.0
/*
 * NUMA hinting faults: the kernel takes away access to pages to learn who uses them
 * from where. Where the page is at home the fault only gives access back, which
 * speculation can do; a page that is to move is left to the ordinary path.
 */
#include <sys/syscall.h>

#include <vector>

#include "child.hpp"
#include "counters.hpp"
#include "hints.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "pages.hpp"
#include "team.hpp"

using namespace spf;

static const std::size_t tables = tables_of(usual_faults());

/* A CPU of that node, as "0-1" or "2" in sysfs. */
static unsigned first_cpu(unsigned node)
{
	auto text = read_file(format("/sys/devices/system/node/node%u/cpulist", node));

	if (!text)
		throw Skip(format("this machine has no node %u", node));
	if (text->size() < 2)
		throw Skip(format("node %u has no CPU", node));
	return std::stoul(*text);
}

static std::size_t pages_on(const Pages &pages, int node)
{
	std::vector<void *> at(pages.count());
	std::vector<int> nodes(pages.count());
	std::size_t count = 0;

	for (std::size_t page = 0; page < at.size(); page++)
		at[page] = pages.begin() + page * page_size();
	must(syscall(SYS_move_pages, 0, at.size(), at.data(), nullptr, nodes.data(), 0) == 0,
	     "move_pages");
	for (int found : nodes)
		count += found == node;
	return count;
}

/* Access to a page at home, from there. */
static void local_in_thread()
{
	std::uint64_t given = hints_given();
	Arena arena(tables);
	Pages pages(arena);
	Counters moved;

	pages.fill();
	expect(pages_on(pages, 0) == pages.count(), "%zu of %zu pages are on node 0",
	       pages_on(pages, 0), pages.count());
	/* Some hints are for other pages, and some come while pages are touched. */
	for (unsigned rounds = 0; moved["numa_hint_faults"] < pages.count() / 2; rounds++) {
		expect(rounds < 20, "no round of 20 had many hinting faults, the last: %s",
		       moved.summary().c_str());
		wait_for_hints(given + pages.count() / 2);
		given = hints_given();
		Counters before = Counters::now();

		pages.mark(1);
		moved = Counters::now().since(before);
	}
	std::uint64_t faults = moved["numa_hint_faults"];

	expect(moved["numa_hint_faults_local"] >= faults * 99 / 100, "faults were not local: %s",
	       moved.summary().c_str());
	expect_speculated(moved, faults * 99 / 100);
	expect(moved["pgfault"] <= faults * 105 / 100, "more than hinting faults: %s",
	       moved.summary().c_str());
	pages.expect_marked(1);
}

/* In one of two threads: a process of one gets no hints for pages at home. */
static std::string local_in_child()
{
	OneCpu here(first_cpu(0));
	Team team(1, [](unsigned) { local_in_thread(); });

	team.finish();
	return "";
}

/* The same from the other node, until half of the pages have come. */
static std::string remote_in_child()
{
	unsigned away = first_cpu(1);
	std::uint64_t given = hints_given();
	Arena arena(tables);
	Pages pages(arena);

	{
		OneCpu home(first_cpu(0));

		pages.fill();
	}
	OneCpu here(away);
	std::uint64_t rounds = 0;

	while (pages_on(pages, 1) < pages.count() / 2) {
		expect(rounds < 20, "only %zu of %zu pages came after 20 rounds: %s",
		       pages_on(pages, 1), pages.count(), Counters::now().summary().c_str());
		wait_for_hints(given + pages.count() / 2);
		given = hints_given();
		pages.mark(++rounds);
	}
	pages.expect_marked(rounds);
	return "";
}

/* A process of its own: the kernel plans hints when a process begins. */
template <std::string (*body)()> static void in_child()
{
	Hints hints;

	Child(body).collect();
}

int main(int argc, char **argv)
{
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"local", in_child<local_in_child>},
				 {"remote", in_child<remote_in_child>},
			 });
}
