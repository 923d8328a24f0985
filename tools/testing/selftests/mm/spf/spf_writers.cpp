// SPDX-License-Identifier: GPL-2.0
/*
 * Each activity of the kernel that changes page tables, VMAs or pages, beside a storm
 * of faulting threads: no write is lost, no foreign content is seen, every counter is
 * exact afterwards, the activity really took place, and the faults beside it were
 * speculated. Then what a memory cgroup may see of speculation: nothing.
 */
#include <malloc.h>

#include "ktap.hpp"
#include "writers.hpp"

using namespace spf;

static std::string run_beside_a_storm(const Writer &writer)
{
	Storm storm(writer.shape);
	Dice dice;
	unsigned calls = 0, did = 0;

	storm.start();
	/*
	 * Beside some passes of the storm, however fast the writer is. What is refused
	 * while pages are in use may be refused for a while.
	 */
	for (; calls < scaled(writer.times) || storm.passes() < scaled(2) ||
	       (!did && calls < 10 * scaled(writer.times));
	     calls++)
		did += writer.once(storm, dice);
	storm.stop();
	storm.check(!writer.for_good);
	expect(did, "%s did nothing in %u times, last: %s", writer.name.c_str(), calls,
	       strerror(errno));
	return "";
}

static void test_writer(const Writer &writer)
{
	Needs needs = writer.needs();
	std::uint64_t evidence = writer.evidence.empty() ? 0 : vmstat(writer.evidence);
	Counters start = Counters::now();

	if (writer.for_good)
		Child([&] { return run_beside_a_storm(writer); }).collect();
	else
		run_beside_a_storm(writer);

	Counters moved = Counters::now().since(start);

	expect_speculated(moved, moved["pgfault"] * writer.percent / 100);
	expect(writer.evidence.empty() || vmstat(writer.evidence) > evidence,
	       "%s did not move: the storm was not disturbed", writer.evidence.c_str());
	expect(writer.abort.empty() || mode() != Mode::on || moved.aborts()[writer.abort],
	       "not one fault aborted with %s", writer.abort.c_str());
}

/*
 * A cgroup at its limit, and more memory in use than that: reclaim makes room. In
 * neither mode may anything be out of memory, let alone be killed.
 */
static void memory_limit()
{
	Zram swap;
	Cgroup cgroup;
	Counters start = Counters::now();

	cgroup.set("memory.max", std::to_string(usual_faults() / 2 * page_size()));
	Child([&] {
		cgroup.enter();

		Arena arena(tables_of(usual_faults() * 3 / 4));
		std::size_t share = arena.pages() / owners;
		Team team(owners, [&](unsigned id) {
			for (std::uint64_t pass = 1; pass <= 2; pass++) {
				for (std::size_t i = id * share; i < (id + 1) * share; i++) {
					volatile std::uint64_t *word =
						Block::word(arena.page(i), false);
					std::uint64_t seen = *word;

					expect(seen == (pass - 1) * (i + 1),
					       "page %zu holds %llu in pass %llu", i,
					       static_cast<unsigned long long>(seen),
					       static_cast<unsigned long long>(pass));
					*word = pass * (i + 1);
				}
			}
		});

		team.finish();
		expect_consistent();
		return std::string();
	}).collect();

	Counters moved = Counters::now().since(start);

	expect(cgroup.event("max") > 0, "the cgroup never was at its limit");
	for (const char *event : {"oom", "oom_kill"})
		expect(cgroup.event(event) == 0, "memory.events: %s %llu, expected none", event,
		       static_cast<unsigned long long>(cgroup.event(event)));
	expect_speculated(moved, 1);
	expect(mode() != Mode::on || moved.aborts()["nomem"], "not one fault aborted with nomem");
}

/*
 * A cgroup above what it should have, in a system call that faults on much more. Whoever
 * charges for that reclaims meanwhile: on the way back to the program is too late.
 */
static void memory_high()
{
	Zram swap;
	Cgroup cgroup;
	const std::size_t high = usual_faults() / 4 * page_size();

	cgroup.set("memory.high", std::to_string(high));
	Child([&] {
		cgroup.enter();

		Arena arena(tables_of(usual_faults()));
		int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

		must(zero >= 0, "open of /dev/zero");
		/* The tables are there, so that nobody has to allocate one. */
		for (std::size_t at = 0; at < arena.size(); at += table_span())
			arena.begin()[at] = 1;
		must(read(zero, arena.begin(), arena.size()) == static_cast<ssize_t>(arena.size()),
		     "read of /dev/zero");
		return std::string();
	}).collect();

	std::uint64_t peak = number_in(cgroup.file("memory.peak"));

	expect(cgroup.event("high") > 0, "the cgroup never was above memory.high");
	expect(peak < 2 * high, "%llu kB at the peak, memory.high is %zu kB",
	       static_cast<unsigned long long>(peak / 1024), high / 1024);
}

/*
 * Threads that fault on one page at once each have a page in hand, for a moment. The
 * cgroup's charges are rounded up to a batch a CPU; nothing else may add up.
 */
static void over_allocation()
{
	static constexpr unsigned rounds = 500;
	static constexpr std::uint64_t batch = 64;
	Cgroup cgroup;
	Counters start = Counters::now();

	Child([&] {
		cgroup.enter();

		Arena arena(1);
		Barrier step(owners);
		std::uint64_t before = 0;
		int peak = open(cgroup.file("memory.peak").c_str(), O_RDWR | O_CLOEXEC);
		auto read_peak = [&] {
			char text[32] = {};

			must(pread(peak, text, sizeof(text) - 1, 0) > 0, "read of memory.peak");
			return std::stoull(text);
		};

		if (peak < 0)
			throw Skip("this kernel has no memory.peak to be reset");
		*arena.page(0) = 1;

		Team team(owners, [&](unsigned id) {
			for (unsigned round = 0; round < rounds; round++) {
				step.wait();
				*Block::word(arena.page(1), false) = id + 1;
				step.wait();
				if (id)
					continue;
				arena.advise(page_size(), page_size(), MADV_DONTNEED);
				/* By now, all threads have what they need themselves. */
				if (round == 0) {
					must(write(peak, "reset", 5) == 5, "reset of memory.peak");
					before = read_peak();
				}
			}
		});

		team.finish();

		/* The kernel's own objects are charged as well, by the page. */
		std::uint64_t most =
			(owners + (batch + 4) * sysconf(_SC_NPROCESSORS_ONLN)) * page_size();
		std::uint64_t extra = read_peak() - before;

		expect(extra <= most, "%llu kB more at the peak, expected %llu at most",
		       static_cast<unsigned long long>(extra / 1024),
		       static_cast<unsigned long long>(most / 1024));
		expect_consistent();
		return std::string();
	}).collect();
	expect_speculated(Counters::now().since(start), rounds / 2);
}

int main(int argc, char **argv)
{
	std::vector<Test> tests;

	/* Arenas of the C library's own would come and go with the threads. */
	mallopt(M_ARENA_MAX, 1);
	allow_huge_pages(false);
	for (const Writer &writer : writers())
		tests.push_back({writer.name, [writer] {
					 test_writer(writer);
				 }});
	tests.push_back({"memory_limit", memory_limit});
	tests.push_back({"memory_high", memory_high});
	tests.push_back({"over_allocation", over_allocation});
	return run_tests(argc, argv, tests);
}
