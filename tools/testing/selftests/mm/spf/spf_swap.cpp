// SPDX-License-Identifier: GPL-2.0
/*
 * Faults on pages that were swapped out. A page that is still, or again, in the swap
 * cache is mapped speculatively; a page that must be read is not, but may be once it was
 * read. Devices of the test's own are swapped to.
 */
#include <sched.h>

#include "cgroup.hpp"
#include "child.hpp"
#include "counters.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "pages.hpp"
#include "swap.hpp"
#include "team.hpp"

using namespace spf;

static const std::size_t tables = tables_of(usual_faults());

static std::uint64_t swapped_pages()
{
	return proc_field("/proc/self/status", "VmSwap") * 1024 / page_size();
}

static void page_out(const Arena &arena)
{
	arena.advise(0, arena.size(), MADV_PAGEOUT);
	expect(swapped_pages() >= arena.pages() * 99 / 100, "%llu of %zu pages were swapped out",
	       static_cast<unsigned long long>(swapped_pages()), arena.pages());
}

/* Whatever was swapped out is back, and its space in the device is free again. */
static void expect_nothing_swapped(const SwapSpace &space)
{
	expect(swapped_pages() == 0, "%llu pages are still swapped out",
	       static_cast<unsigned long long>(swapped_pages()));
	expect(space.used() == 0, "%llu kB of the device are still in use",
	       static_cast<unsigned long long>(space.used()));
}

/* Each page comes from the device, in the way it always did. */
static void miss()
{
	OneCpu here;
	Zram zram;
	Arena arena(tables);
	Pages pages(arena);

	pages.fill();
	page_out(arena);
	Counters before = Counters::now();

	pages.touch();
	Counters moved = Counters::now().since(before);

	expect(moved["pswpin"] >= pages.count() * 99 / 100 &&
		       moved["pgmajfault"] >= pages.count() * 99 / 100,
	       "not every page was read from the device: %s", moved.summary().c_str());
	pages.expect_marked(0);
	pages.mark(1);
	pages.expect_marked(1);
	expect_nothing_swapped(zram);
}

/*
 * Swapped out, then shared by fork(): what the child reads stays in the swap cache as
 * long as the parent has not read it, too.
 */
static void shared_hit()
{
	OneCpu here;
	Zram zram;
	Arena arena(tables);
	Pages pages(arena);
	Gate cached, mapped;

	pages.fill();
	page_out(arena);
	Child child([&] {
		pages.expect_marked(0);
		cached.open();
		mapped.wait();
		pages.expect_marked(0);
		pages.mark(2);
		pages.expect_marked(2);
		return std::string();
	});
	cached.wait();
	std::uint64_t read = Counters::now()["pswpin"];

	speculates(pages.count(), [&] { pages.touch(); });
	read = Counters::now()["pswpin"] - read;
	expect(read <= pages.count() / 100, "%llu pages were not in the swap cache",
	       static_cast<unsigned long long>(read));
	pages.expect_marked(0);
	pages.mark(1);
	mapped.open();
	child.collect();
	pages.expect_marked(1);
	expect_nothing_swapped(zram);
}

/* Nobody else has these pages: a write may have them as they are. */
template <bool write> static void exclusive_hit()
{
	OneCpu here;
	Zram zram;
	Arena arena(tables);
	Pages pages(arena);

	pages.fill();
	Held held(arena.begin(), arena.size());

	page_out(arena);
	std::uint64_t read = Counters::now()["pswpin"];

	speculates(pages.count(), [&] {
		if (write)
			pages.mark(1);
		else
			pages.touch();
	});
	read = Counters::now()["pswpin"] - read;
	expect(read <= pages.count() / 100, "%llu pages were not in the swap cache",
	       static_cast<unsigned long long>(read));
	pages.expect_marked(write);
	expect_nothing_swapped(zram);
}

/* A control group of the calling process's own, as long as this lives. */
class Group {
public:
	Group() { group_.enter(); }
	~Group() { Cgroup::leave(); }
	Group(const Group &) = delete;
	Group &operator=(const Group &) = delete;

	/* Gives up what was swapped out, and is still in memory. */
	void drop_swap_cache() const
	{
		for (int tries = 0; std::uint64_t cached = swap_cached(); tries++) {
			expect(tries < 1000, "%llu bytes stay in the swap cache",
			       static_cast<unsigned long long>(cached));
			write_file(group_.file("memory.reclaim"), std::to_string(cached));
		}
	}

private:
	std::uint64_t swap_cached() const { return group_.number("memory.stat", "swapcached"); }

	Cgroup group_;
};

/*
 * A page that has to be waited for: the wait is without a lock, and the fault that goes
 * on after it is speculated.
 */
static void retry()
{
	/* No page but the one that is asked for. */
	Setting alone("/proc/sys/vm/page-cluster", "0");
	OneCpu here;
	Loop loop;
	Group group;
	Arena arena(tables);
	Pages pages(arena);

	pages.fill();
	page_out(arena);
	group.drop_swap_cache();
	Counters before = Counters::now();

	pages.touch();
	Counters moved = Counters::now().since(before);
	std::uint64_t retried = moved["vma_lock_retry"];

	expect(moved["pswpin"] >= pages.count() * 99 / 100 && retried >= pages.count() / 4,
	       "too few pages were waited for: %s", moved.summary().c_str());
	expect_speculated(moved, retried * 99 / 100);
	pages.expect_marked(0);
	pages.mark(1);
	pages.expect_marked(1);
	expect(swapped_pages() == 0, "%llu pages are still swapped out",
	       static_cast<unsigned long long>(swapped_pages()));
}

/*
 * Threads count up in words of their own in every page while the pages are swapped out
 * and processes forked: they meet at the lock of the folio, and no count is lost.
 */
static void storm()
{
	static constexpr unsigned writers = 2;
	Zram zram;
	Arena arena(1);
	Pages pages(arena);
	Team team(writers, [&](unsigned id) {
		for (std::uint64_t value = 1; !team.stopping(); value++) {
			for (std::size_t page = 0; page < pages.count(); page++) {
				expect(*pages.word(page, id) == value - 1,
				       "page %zu holds %llu, not the %llu written last", page,
				       static_cast<unsigned long long>(*pages.word(page, id)),
				       static_cast<unsigned long long>(value - 1));
				*pages.word(page, id) = value;
			}
		}
	});

	team.start();
	for (unsigned round = 0; round < 8 && !team.stopping(); round++) {
		arena.advise(0, arena.size(), MADV_PAGEOUT);
		Child([&] {
			pages.touch();
			return std::string();
		}).collect();
	}
	team.stop();
	team.finish();
	pages.touch();
	expect(swapped_pages() == 0, "%llu pages are still swapped out",
	       static_cast<unsigned long long>(swapped_pages()));
}

int main(int argc, char **argv)
{
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"miss", miss},
				 {"shared_hit", shared_hit},
				 {"exclusive_hit_read", exclusive_hit<false>},
				 {"exclusive_hit_write", exclusive_hit<true>},
				 {"retry", retry},
				 {"storm", storm},
			 });
}
