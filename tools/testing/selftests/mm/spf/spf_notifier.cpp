// SPDX-License-Identifier: GPL-2.0
/*
 * Processes whose memory a device mirrors (lib/test_hmm.c): the device hears of each
 * page before it is replaced, so no copy is made behind its back.
 */
#include <sched.h>

#include <atomic>
#include <vector>

#include "child.hpp"
#include "counters.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "mirror.hpp"
#include "pages.hpp"
#include "team.hpp"

using namespace spf;

static std::string aborts_in_child()
{
	OneCpu here;
	std::size_t tables = tables_of(usual_faults());
	Arena arena(tables);
	Pages pages(arena);
	Gate copied;

	pages.fill();
	Child sharer([&] {
		copied.wait();
		pages.expect_marked(0);
		return std::string();
	});
	Mirror mirror;
	Counters before = Counters::now();

	pages.mark(1);
	Counters moved = Counters::now().since(before);

	if (mode() == Mode::on) {
		expect(moved.aborts()["notifier"] >= pages.count() * 99 / 100,
		       "copies were not left to who calls notifiers: %s", moved.summary().c_str());
		expect(moved.success() <= pages.count() / 100,
		       "copies were made without a call of the notifiers: %s",
		       moved.summary().c_str());
	}
	pages.expect_marked(1);
	copied.open();
	sharer.collect();

	/* A page that is reused, or new, is nothing that notifiers are told. */
	Child([] { return std::string(); }).collect();
	speculates(pages.count(), [&] { pages.mark(2); });
	pages.expect_marked(2);
	arena.discard_but_one_per_table();
	speculates(pages.count() - tables, [&] { pages.mark(3); });

	/* Nobody mirrors the child. */
	Child([&] {
		speculates(pages.count(), [&] { pages.mark(4); });
		return std::string();
	}).collect();
	for (std::size_t page = 0; page < pages.count(); page++)
		expect(*pages.word(page, 1) == 0 || page % ptes_per_table() == 0,
		       "a discarded page is back");
	return "";
}

/* A process that had a notifier is not what it was: each test has one of its own. */
static void aborts()
{
	Child(aborts_in_child).collect();
}

/*
 * Two threads count up in each page, while one of them forks. What a page held before
 * the device reads it is the least that it may read.
 */
class Storm {
public:
	Storm() : arena_(1), pages_(arena_), written_(pages_.count()) {}

	std::string run()
	{
		Team team(2, [&](unsigned id) {
			if (id)
				mirror(team);
			else
				count_up(team);
		});

		team.start();
		for (std::uint64_t value = 1; !team.stopping(); value++)
			fork_and_write(value);
		team.finish();
		return "";
	}

private:
	static constexpr unsigned reads = 16;
	static constexpr std::size_t piece = 32;

	/* Every other page. */
	void write(std::size_t first, std::uint64_t value)
	{
		for (std::size_t page = first; page < pages_.count(); page += 2) {
			*pages_.word(page) = value;
			written_[page].store(value, std::memory_order_release);
		}
	}

	void count_up(const Team &team)
	{
		for (std::uint64_t value = 1; !team.stopping(); value++)
			write(0, value);
	}

	/* A child that is there while pages are written, so that each is copied. */
	void fork_and_write(std::uint64_t value)
	{
		Gate written;
		Child sharer([&] {
			written.wait();
			return std::string();
		});

		write(1, value);
		written.open();
		sharer.collect();
		forks_++;
	}

	/* Opens the device in the middle of the storm, and reads a piece of the pages a time. */
	void mirror(Team &team)
	{
		std::vector<std::uint64_t> before(piece);
		std::vector<char> seen(piece * page_size());

		while (!forks_ && !team.stopping())
			sched_yield();
		Mirror device;

		for (unsigned i = 0; i < reads && !team.stopping(); i++) {
			std::size_t first = i * piece % pages_.count();

			for (std::size_t page = 0; page < piece; page++)
				before[page] =
					written_[first + page].load(std::memory_order_acquire);
			device.read(Pages(arena_.page(first), piece), seen.data());
			compare(before, Pages(seen.data(), piece));
		}
		team.stop();
	}

	void compare(const std::vector<std::uint64_t> &before, const Pages &seen) const
	{
		for (std::size_t page = 0; page < before.size(); page++)
			expect(*seen.word(page) >= before[page],
			       "page %zu held %llu, later the device read %llu from it", page,
			       static_cast<unsigned long long>(before[page]),
			       static_cast<unsigned long long>(*seen.word(page)));
	}

	Arena arena_;
	Pages pages_;
	std::vector<std::atomic<std::uint64_t>> written_;
	std::atomic<unsigned> forks_{0};
};

/* Several times, since it is the first notifier of a process that races with copies. */
static void storm()
{
	for (unsigned round = 0; round < 4; round++)
		Child([] { return Storm().run(); }).collect();
}

/*
 * Registration write-locks each VMA of the process. That takes long where there are
 * thousands, in all of which threads fault meanwhile.
 */
static std::string many_vmas_in_child()
{
	static constexpr std::size_t vmas = 4096;
	static constexpr unsigned threads = 3;
	Arena arena(tables_of(vmas));
	Pages pages(arena);
	std::atomic<unsigned> passes{0};
	std::size_t share = vmas / threads;

	/* Linked to an anon_vma before it is split. */
	*pages.word(0) = 1;
	for (std::size_t page = 0; page < vmas; page += 2)
		arena.advise(page * page_size(), page_size(), MADV_DONTFORK);

	Team team(threads, [&](unsigned id) {
		std::size_t first = id * share;

		for (std::uint64_t pass = 1; !team.stopping(); pass++) {
			/* The first page of each share stays, and so does its page table. */
			arena.advise((first + 1) * page_size(), (share - 1) * page_size(),
				     MADV_DONTNEED);
			for (std::size_t page = first; page < first + share; page++)
				*pages.word(page) = pass + page;
			for (std::size_t page = first; page < first + share; page++)
				expect(*pages.word(page) == pass + page, "page %zu lost a write",
				       page);
			passes++;
		}
	});
	auto another = [&](unsigned more) {
		for (unsigned until = passes + more; passes < until && !team.stopping();)
			sched_yield();
	};
	Counters before = Counters::now();

	team.start();
	another(threads);
	Mirror device;

	another(threads);
	team.stop();
	team.finish();
	expect_speculated(Counters::now().since(before), vmas / 2);
	return "";
}

static void many_vmas()
{
	for (unsigned round = 0; round < 4; round++)
		Child(many_vmas_in_child).collect();
}

int main(int argc, char **argv)
{
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {{"aborts", aborts}, {"storm", storm}, {"many_vmas", many_vmas}});
}
