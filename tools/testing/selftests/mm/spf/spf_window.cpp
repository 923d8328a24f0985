// SPDX-License-Identifier: GPL-2.0
/*
 * Races whose windows are a few instructions wide: faults are held up there
 * (CONFIG_DEBUG_SPECULATIVE_PAGE_FAULT), while another thread does what is dangerous
 * then. What would be memory used after it was freed shows on a kernel with KASAN only.
 *
 * SPF_TEST_HOLD multiplies how long faults are held up (1 unless set), for slow guests. At
 * most by 5, for no delay is longer than a second.
 */
#include <fcntl.h>
#include <malloc.h>

#include <vector>

#include "child.hpp"
#include "counters.hpp"
#include "file.hpp"
#include "handling.hpp"
#include "hints.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "mirror.hpp"
#include "pages.hpp"
#include "race.hpp"
#include "storm.hpp"
#include "swap.hpp"
#include "userfault.hpp"

using namespace spf;

/* Microseconds at each point: enough for what the other threads do in the guest. */
static const unsigned hold = scaled(20000, "SPF_TEST_HOLD");

static constexpr unsigned rounds = 12;

/* How long a fault is left alone in this round, of the @points where it is held up. */
static unsigned moment(unsigned round, unsigned points)
{
	return hold * points * round / rounds;
}

/* A page that was written, and is seen so by whoever looks from now on. */
static void expect_word(const volatile std::uint64_t *word, std::uint64_t expected, const char *who)
{
	std::uint64_t seen = *word;

	expect(seen == expected, "%s saw %#llx in a page that holds %#llx", who,
	       static_cast<unsigned long long>(seen), static_cast<unsigned long long>(expected));
}

/*
 * Page tables move to a new address, while a page in them is replaced by a copy. Who has
 * looked at the new address before must see the copy.
 */
static void move_tables(std::size_t size)
{
	Arena arena(2 * size / table_span(), size);
	char *sides[] = {arena.begin(), arena.begin() + size};
	Gate end;

	Pages(sides[0], rounds).fill();
	Child sharer([&] {
		end.wait();
		return std::string();
	});
	auto word = [&](unsigned round, bool moved) {
		return Pages(sides[(round + moved) % 2], rounds).word(round);
	};
	auto write = [&](unsigned round) {
		volatile std::uint64_t *before = word(round, false);

		if (trap([=] { *before = round; }).signo)
			*word(round, true) = round;
	};
	auto move = [&](unsigned round) {
		char *from = sides[round % 2], *to = sides[(round + 1) % 2];

		linger(moment(round, 2));
		must(mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap");
		(void)*word(round, true);
	};
	Race race(rounds, {{"locked", hold}}, {write, [&](unsigned round) {
						       move(round);
						       race.await_fault(round);
						       expect_word(word(round, true), round,
								   "who had looked before");
					       }});

	race.run();
	end.open();
	sharer.collect();
	expect_consistent();
}

/*
 * A device begins to mirror a process, which copies pages. It is told of those that are
 * copied after it has seen them, or they are copied before.
 */
static std::string mirror_in_child(const Pages &pages, unsigned round)
{
	std::vector<char> seen(pages.size());
	auto mirror = [&](Race &race) {
		linger(moment(round, 2));
		Mirror device;

		device.read(pages, seen.data());
		race.await_fault(0);
		/* One by one: from the first that it has to look up, it would look up all. */
		for (std::size_t page = 0; page < pages.count(); page++)
			device.read(Pages(pages.begin() + page * page_size(), 1),
				    seen.data() + page * page_size());
		Pages(seen.data(), pages.count()).expect_marked(1);
	};
	Race race(1, {{"locked", hold}},
		  {[&](unsigned) {
			   /* Or hardly a tick would see the CPU outside of an RCU section. */
			   pages.mark(1, [] { sched_yield(); });
		   },
		   [&](unsigned) {
			   mirror(race);
		   }});

	race.run();
	pages.expect_marked(1);
	expect_consistent();
	return "";
}

static void first_notifier()
{
	Arena arena(1);
	/* Some are left to copy when the grace period is over and the device has seen all. */
	Pages pages(arena.begin(), 16);

	pages.fill();
	for (unsigned round = 0; round < rounds; round++)
		Child([&] { return mirror_in_child(pages, round); }).collect();
	pages.expect_marked(0);
}

/*
 * A page table is replaced by a huge page and put aside for it, and freed with it, while
 * a fault has it mapped.
 */
static void deposited_table()
{
	HugePages allowed;
	Arena arena(1);
	Pages pages(arena);
	unsigned collapsed = 0;

	*pages.word(0) = 1;
	auto collapse = [&](unsigned round, Race &race) {
		linger(moment(round, 1) / 4);
		/* May fail: pages that are just being used are not collapsed. */
		collapsed += madvise(pages.begin(), pages.size(), MADV_COLLAPSE) == 0;
		arena.advise(0, arena.size(), MADV_DONTNEED);
		race.await_fault(round);
		std::uint64_t seen = *pages.word(round + 1);

		expect(!seen || seen == 1, "a page of round %u holds %#llx", round,
		       static_cast<unsigned long long>(seen));
		arena.advise(0, arena.size(), MADV_DONTNEED);
		*pages.word(0) = 1;
	};
	Race race(rounds, {{"unlocked", 10 * hold}},
		  {[&](unsigned round) { *pages.word(round + 1) = 1; },
		   [&](unsigned round) {
			   collapse(round, race);
		   }});

	race.run();
	expect(collapsed, "none of %u calls of MADV_COLLAPSE succeeded", rounds);
	expect_consistent();
}

/*
 * The same while faults make pages writable, one after the other. Who collapses the table
 * gets at its lock between two of them, to look at the pages; the next one finds the VMA
 * unchanged still, and holds the lock when the table is taken out of use. What it then
 * tells a hash MMU must not outlive that: a third one, who goes on writing to the page by
 * it, would write to what has been copied already.
 */
static void collapse_pages()
{
	static constexpr std::size_t count = 8;
	HugePages allowed;
	/* A table a round. */
	Arena arena(rounds);
	auto pages_of = [&](unsigned round) {
		return Pages(arena.begin() + round * table_span(), count);
	};

	for (unsigned round = 0; round < rounds; round++)
		pages_of(round).mark(1);
	/* Read-only from here on, and ours alone. Pages that are new would not be collapsed. */
	Child([] { return std::string(); }).collect();
	Arena others(tables_of(usual_faults()));

	Pages(others).mark(1);

	unsigned collapsed = 0;
	std::atomic<unsigned> over{0};
	std::atomic<std::size_t> writable{0};
	auto write = [&](unsigned round) {
		for (std::size_t page = 0; page < count; page++) {
			*pages_of(round).word(page) = round;
			writable++;
		}
	};
	auto count_up = [&](unsigned round, Race &race) {
		std::size_t before = round * count;
		std::uint64_t counted[count] = {};

		while ((over <= round || !race.faulted(round)) && !race.stopping()) {
			std::size_t now = writable;

			if (now <= before)
				continue;
			std::size_t page = now - before - 1;
			volatile std::uint64_t *word = pages_of(round).word(page, 1);

			expect_word(word, counted[page], "who counts");
			*word = ++counted[page];
		}
		for (std::size_t page = 0; page < count; page++)
			expect_word(pages_of(round).word(page, 1), counted[page], "who counted");
	};
	/* Who collapses has looked at the pages, and waits to write-lock: time for a fault. */
	auto read_lock = [&](unsigned round, Race &race) {
		while (over <= round && !race.stopping())
			others.advise(0, others.size(), MADV_COLD);
	};
	auto collapse = [&](unsigned round, Race &race) {
		linger(moment(round, 1));
		/* May fail: pages that are just being used are not collapsed. */
		collapsed += madvise(pages_of(round).begin(), table_span(), MADV_COLLAPSE) == 0;
		over = round + 1;
		race.await_fault(round);
	};
	Race race(rounds, {{"locked", hold}},
		  {write, [&](unsigned round) { count_up(round, race); },
		   [&](unsigned round) { read_lock(round, race); },
		   [&](unsigned round) {
			   collapse(round, race);
		   }});

	race.run();
	expect(collapsed, "none of %u calls of MADV_COLLAPSE succeeded", rounds);
	expect_consistent();
}

/* What is lost has to be written while the page is copied: chance, where it can happen. */
static void collapsed_page()
{
	for (unsigned i = 0; i < (mmu() == "hash" ? 10 : 1); i++)
		collapse_pages();
}

/* Two threads write to a page that is not there. The second one finds that of the first. */
static void same_page()
{
	Arena arena(1);
	Pages pages(arena);

	/* For the table to be there. */
	*pages.word(rounds) = 1;
	auto second = [&](unsigned round, Race &race) {
		linger(moment(round, 1));
		*pages.word(round, 1) = 1;
		race.await_fault(round);
		expect_word(pages.word(round), 1, "the second");
		expect_word(pages.word(round, 1), 1, "the second");
	};
	Race race(rounds, {{"unlocked", hold}},
		  {[&](unsigned round) { *pages.word(round) = 1; },
		   [&](unsigned round) {
			   second(round, race);
		   }});

	race.run();
	expect_consistent();
}

/* Page tables that nobody has entries in are freed, while a fault is about to set one. */
static void reclaimed_table()
{
	Arena arena(1);
	Pages pages(arena);

	*pages.word(0) = 1;
	auto discard = [&](unsigned round, Race &race) {
		linger(moment(round, 2));
		arena.advise(0, arena.size(), MADV_DONTNEED);
		race.await_fault(round);
		std::uint64_t seen = *pages.word(round + 1);

		expect(!seen || seen == 1, "a page of round %u holds %#llx", round,
		       static_cast<unsigned long long>(seen));
		*pages.word(0) = 1;
	};
	Race race(rounds, {{"snapshot", hold}, {"unlocked", hold}},
		  {[&](unsigned round) { *pages.word(round + 1) = 1; },
		   [&](unsigned round) {
			   discard(round, race);
		   }});

	race.run();
	expect_consistent();
}

/*
 * Two VMAs in one page table. The second one is to be unmapped; the pages of the first
 * one keep the table.
 */
class Neighbours {
public:
	Neighbours() : arena_(1)
	{
		arena_.unmap(count * page_size(), page_size());
		arena_.unmap((2 * count + 1) * page_size(),
			     arena_.size() - (2 * count + 1) * page_size());
		staying_.fill();
	}

	const Pages &leaving() const { return leaving_; }
	void unmap() { arena_.unmap((count + 1) * page_size(), count * page_size()); }

private:
	/* One for each round; the smallest page tables have 32 entries. */
	static constexpr std::size_t count = rounds;

	Arena arena_;
	Pages staying_{arena_.begin(), count};
	Pages leaving_{arena_.page(count + 1), count};
};

/*
 * In a new process all VMAs have the same, first sequence. So has the VMA of a child that
 * gets the memory of the one that was just unmapped. Memory is recycled where it was freed:
 * the process is begun, and the VMA unmapped, on the same CPU.
 */
static void recycle(Neighbours &memory, const Race::Turn &fault, const Race::Delays &delays,
		    unsigned lead)
{
	std::optional<OneCpu> here(cpus()[1 % cpus().size()]);
	Child process([&] {
		Gate end;
		auto unmap = [&](Race &race) {
			linger(lead);
			memory.unmap();
			Child other([&] {
				end.wait();
				return std::string();
			});

			race.await_fault(0);
			end.open();
			other.collect();
		};

		here.reset();
		Race race(1, delays, {fault, [&](unsigned) {
					      unmap(race);
				      }});

		race.run();
		expect_consistent();
		return std::string();
	});

	process.collect();
}

/* A fault on a VMA that is unmapped and becomes another process's meanwhile. */
static void recycled_vma()
{
	Neighbours memory;
	char *page = memory.leaving().begin();

	/* Writes are speculated on once there is an anon_vma. */
	*page = 1;
	Counters before = Counters::now();

	for (unsigned round = 0; round < rounds; round++)
		recycle(
			memory, [&](unsigned) { try_write(page + page_size()); },
			{{"unlocked", 3 * hold}}, moment(round, 1));
	expect_left(Counters::now().since(before), {"vma_changed"}, rounds / 2);
}

/* The same where the page was swapped out: read by then, or held in the swap cache. */
static void swapped_vma(bool cached)
{
	Zram zram;
	Neighbours memory;
	const Pages &pages = memory.leaving();

	for (unsigned round = 0; round < rounds; round++)
		*pages.word(round) = round;
	std::optional<Held> held;

	if (cached)
		held.emplace(pages.begin(), pages.size());
	must(madvise(pages.begin(), pages.size(), MADV_PAGEOUT) == 0, "MADV_PAGEOUT");
	for (unsigned round = 0; round < rounds; round++) {
		auto read = [&](unsigned) {
			volatile std::uint64_t *word = pages.word(round), seen = round;

			trap([&] { seen = *word; });
			expect(seen == round, "a page that was swapped out has changed");
		};

		recycle(memory, read, {{"unlocked", hold}}, moment(round, 2));
	}
	held.reset();
	memory.unmap();
	expect(zram.used() == 0, "%llu kB of the device are still in use",
	       static_cast<unsigned long long>(zram.used()));
}

/*
 * The file of a mapping is closed, its memory becomes that of a pipe, and the pipe goes,
 * with an inode for which nobody waits. A fault has read from it what to map.
 */
static void recycled_file()
{
	Arena arena(1);
	char *at = arena.page(8);

	*arena.begin() = 1;
	auto map = [&] {
		int file = memfd_create("window", MFD_CLOEXEC);

		must(file >= 0, "memfd_create");
		must(write(file, "7", 1) == 1, "writing to a file");
		must(mmap(at, page_size(), PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == at,
		     "mmap of a file");
		close(file);
	};
	auto close_it = [&](unsigned round, Race &race) {
		int ends[2];

		linger(moment(round, 1));
		must(munmap(at, page_size()) == 0, "munmap of a file");
		must(pipe(ends) == 0, "pipe");
		linger(hold);
		close(ends[0]);
		close(ends[1]);
		race.await_fault(round);
		map();
	};
	auto read = [&](unsigned) {
		char seen = '7';

		trap([&] { seen = *static_cast<volatile char *>(at); });
		expect(seen == '7', "a page of a file holds %d", seen);
	};

	map();
	Race race(rounds, {{"snapshot", hold}, {"mapping", hold}}, {read, [&](unsigned round) {
									    close_it(round, race);
								    }});

	race.run();
	expect_consistent();
}

/*
 * A fault that reads memory nobody has written to finds it written and swapped out. What
 * it knows of the VMA is older than the anon_vma of the page.
 */
static void younger_anon_vma()
{
	Zram zram;
	Arena arena(1);
	Pages page(arena.page(8), 1);

	arena.unmap(page_size(), arena.size() - page_size());
	*arena.begin() = 1;
	auto map = [&] {
		arena.map(8 * page_size(), page_size());
	};
	auto swap = [&](unsigned round, Race &race) {
		linger(moment(round, 1) / 2);
		page.mark(1);
		Held held(page.begin(), page.size());

		must(madvise(page.begin(), page.size(), MADV_PAGEOUT) == 0, "MADV_PAGEOUT");
		race.await_fault(round);
		expect_word(page.word(0, 1), 0, "a reader");
		page.mark(2);
		map();
	};
	auto read = [&](unsigned) {
		std::uint64_t stamp = *page.word(0);

		expect(*page.word(0) == stamp || !stamp, "a page that was swapped out has changed");
	};

	map();
	Race race(rounds, {{"snapshot", hold}}, {read, [&](unsigned round) {
							 swap(round, race);
						 }});

	race.run();
	arena.unmap(8 * page_size(), page_size());
	expect(zram.used() == 0, "%llu kB of the device are still in use",
	       static_cast<unsigned long long>(zram.used()));
	expect_consistent();
}

/*
 * A userfaultfd is armed by who has the sequence that a fault has just read, and has it no
 * more when the fault sees whether anybody has: that fault must not take the memory for
 * what it was before.
 */
static void armed_vma()
{
	Arena arena(2);
	Pages pages(arena.begin(), std::min<std::size_t>(arena.pages() / 2, 200));
	Userfault userfault;
	const unsigned pause = hold / 80;
	auto write = [&](unsigned round) {
		for (std::size_t page = 0; page < pages.count(); page++)
			*pages.word(page) = round;
	};
	auto arm = [&](unsigned round, Race &race) {
		/* Half of the VMA: to split it takes time, in which faults begin. */
		while (!race.faulted(round)) {
			userfault.arm(pages.begin(), pages.size(), UFFDIO_REGISTER_MODE_MISSING);
			/* Another writer would have a sequence of its own. */
			linger(4 * pause);
			userfault.disarm(pages.begin(), pages.size());
			/* Who waited goes on, and others with him. */
			linger(4 * pause);
		}
		race.await_fault(round);
		for (std::size_t page = 0; page < pages.count(); page++)
			expect_word(pages.word(page), round, "who armed it");
		arena.advise(0, pages.size(), MADV_DONTNEED);
	};

	*arena.page(arena.pages() - 1) = 1;
	Race race(rounds, {{"sequence", pause}}, {write, [&](unsigned round) {
							  arm(round, race);
						  }});

	race.run();
	expect_consistent();
}

/*
 * Memory is unmapped after a fault has found its VMA, and before it reads the sequence. The
 * page table is still there, for a neighbour, and nobody changes the sequence of a VMA that
 * is gone: that it is gone is all there is to see.
 */
static void detached_vma()
{
	Arena arena(1);
	File file("/dev/shm");
	volatile char *page = arena.page(2);
	auto map = [&] {
		arena.map(2 * page_size(), page_size());
		expect(!*page, "a page of what was unmapped is in what came next");
		must(mmap(arena.page(2), page_size(), PROT_READ, MAP_SHARED | MAP_FIXED, file.fd(),
			  0) == arena.page(2),
		     "mmap of a file");
	};
	auto unmap = [&](unsigned round, Race &race) {
		linger(moment(round, 1));
		arena.unmap(2 * page_size(), page_size());
		race.await_fault(round);
		map();
	};

	file.write(0, 1, 1);
	arena.unmap(page_size(), arena.size() - page_size());
	*arena.page(0) = 1;
	map();
	Race race(rounds, {{"found", hold}},
		  {[&](unsigned) { trap([&] { (void)*page; }); },
		   [&](unsigned round) {
			   unmap(round, race);
		   }});

	race.run();
	expect_consistent();
}

/*
 * Memory moves page by page to where nobody may write. Its VMA is there before the pages are, but
 * locked: who writes to the last page does so when it has come, or it would come over that.
 */
static void moving_pages()
{
	Arena from(tables_of(usual_faults())), to(tables_of(usual_faults()) + 1);
	const std::size_t size = from.size();
	/* Not where whole page tables could move. A neighbour keeps the last table. */
	char *there = to.begin() + page_size();
	volatile std::uint64_t *last = Pages(there, from.pages()).word(from.pages() - 1);
	auto move = [&](char *old, char *place) {
		must(mremap(old, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place,
		     "mremap");
	};
	/* Nobody else may get what would be a hole. */
	auto forbid = [&] {
		to.map(page_size(), size, PROT_NONE);
	};
	auto follow = [&](unsigned round, Race &race) {
		while (trap([=] { *last = round + 1; }).signo && !race.stopping()) {
		}
	};

	Pages(from).fill();
	*to.page(from.pages() + 1) = 1;
	forbid();
	Race race(rounds, {},
		  {[&](unsigned round) { follow(round, race); },
		   [&](unsigned round) {
			   move(from.begin(), there);
			   race.await_fault(round);
			   expect_word(last, round + 1, "who moved it");
			   move(there, from.begin());
			   forbid();
		   }});

	race.run();
	expect_consistent();
}

/*
 * A page that was shared is about to be written to where it is, when the permission goes. Who
 * took that away has seen what was written, or it is never written.
 */
static void protected_page()
{
	Arena arena(1);
	volatile std::uint64_t *word = Pages(arena).word(0);
	auto permit = [&](int protection) {
		must(mprotect(arena.begin(), page_size(), protection) == 0, "mprotect");
	};
	auto share = [&] {
		*word = 0;
		Child([] { return std::string(); }).collect();
	};
	auto protect = [&](unsigned round, Race &race) {
		linger(moment(round, 1));
		permit(PROT_READ);
		std::uint64_t seen = *word;

		race.await_fault(round);
		expect_word(word, seen, "who took the permission away");
		permit(PROT_READ | PROT_WRITE);
		share();
	};

	share();
	Race race(rounds, {{"unlocked", hold}},
		  {[&](unsigned round) { trap([=] { *word = round + 1; }); },
		   [&](unsigned round) {
			   protect(round, race);
		   }});

	race.run();
	expect_consistent();
}

/*
 * fork() takes the permission to write away, and tells other CPUs when it has copied all
 * of the memory. Until then one of them still writes to the page, so no fault may copy it.
 */
class Fork {
public:
	/* What comes after the pages keeps fork() at work. */
	Fork()
		: arena_(1 + tables_of(4 * usual_faults())), pages_(arena_.begin(), forks),
		  rest_(arena_.begin() + table_span(), 4 * usual_faults())
	{
		pages_.fill();
		for (std::size_t page = 0; page < rest_.count(); page++)
			*rest_.word(page) = page;
		memory_ = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
		must(memory_ >= 0, "opening /proc/self/mem");
	}
	~Fork() { close(memory_); }
	Fork(const Fork &) = delete;
	Fork &operator=(const Fork &) = delete;

	void run()
	{
		Gate end;
		auto before = std::chrono::steady_clock::now();
		Child sharer([&] {
			end.wait();
			return std::string();
		});
		auto took = std::chrono::steady_clock::now() - before;

		/* It looks at the page, and copies it, when the next fork() is half done. */
		hold_ = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
		printf("# fork() takes %u us\n", hold_);
		Race race(forks, {{"snapshot", hold_ / 4}, {"unlocked", hold_ / 4}},
			  {[&](unsigned round) { fault(round, race); },
			   [&](unsigned round) { write(round, race); },
			   [&](unsigned round) {
				   fork(round, race);
			   }});

		race.run();
		end.open();
		sharer.collect();
		expect_consistent();
	}

private:
	/* In every other round when fork() has the VMA already. */
	void fault(unsigned round, const Race &race)
	{
		begun_ = round + 1;
		if (round % 2) {
			while (hot_ <= round && !race.stopping()) {
			}
			linger(hold_ / 8);
		}
		*pages_.word(round, 2) = round;
	}

	/*
	 * Where the fault is held up before it looks at the page, gets a copy of the page that
	 * may be written to, in a way that is not held up, and goes on writing to that.
	 */
	void write(unsigned round, Race &race)
	{
		volatile std::uint64_t *word = pages_.word(round);
		std::uint64_t value = 1;

		while (begun_ <= round) {
		}
		linger(hold_ / 50);
		must(pwrite(memory_, &value, sizeof(value),
			    reinterpret_cast<std::uintptr_t>(word)) == sizeof(value),
		     "writing to /proc/self/mem");
		*word = value;
		hot_ = round + 1;
		while (forked_ <= round && !race.stopping()) {
			expect(*word == value, "wrote %llu to a page, later it holds %llu",
			       static_cast<unsigned long long>(value),
			       static_cast<unsigned long long>(*word));
			*word = ++value;
		}
	}

	void fork(unsigned round, Race &race)
	{
		Gate end;

		while (hot_ <= round && !race.faulted(round)) {
		}
		Child child([&] {
			std::uint64_t before = *pages_.word(round);

			end.wait();
			expect_word(pages_.word(round), before, "a child");
			return std::string();
		});

		race.await_fault(round);
		forked_ = round + 1;
		end.open();
		expect(child.collect().empty(), "a child died");
		expect_word(pages_.word(round, 2), round, "who forked");
	}

	/* Each with a page of its own. */
	static constexpr unsigned forks = 12;

	Arena arena_;
	Pages pages_, rest_;
	int memory_;
	unsigned hold_ = 0;
	std::atomic<unsigned> begun_{0}, hot_{0}, forked_{0};
};

/*
 * Permissions become those of the VMA in front, with which it is merged, while a NUMA
 * hinting fault holds the lock and is about to note who faults.
 */
static std::string merge_in_child()
{
	Arena arena(2);
	Pages pages(arena), changing(arena.page(arena.pages() / 2), arena.pages() / 2);
	std::uint64_t given = hints_given();

	{
		OneCpu here;

		pages.fill();
	}
	auto protect = [&](int prot) {
		must(mprotect(changing.begin(), changing.size(), prot) == 0, "mprotect");
	};
	auto hints = [&] {
		wait_for_hints(given + pages.count() / 2);
		given = hints_given();
	};
	auto merge = [&](unsigned round, Race &race) {
		linger(moment(round, 1) / 2);
		protect(PROT_READ | PROT_WRITE);
		race.await_fault(round);
		protect(PROT_READ);
		hints();
	};

	Race race(rounds, {{"locked", hold / 2}},
		  {[&](unsigned) { Pages(changing.begin(), 4).touch(); },
		   [&](unsigned round) {
			   merge(round, race);
		   }});

	/* With the threads there: a process of one gets no hints for pages at home. */
	protect(PROT_READ);
	hints();
	race.run();
	pages.expect_marked(0);
	expect_consistent();
	return "";
}

static void merged_vma()
{
	Hints hints;

	Child(merge_in_child).collect();
}

int main(int argc, char **argv)
{
	/* An arena of the C library's own could be where the next mremap() moves something. */
	mallopt(M_ARENA_MAX, 1);
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"moved_table",
				  [] {
					  move_tables(table_span());
				  }},
				 {"moved_tables",
				  [] {
					  move_tables(table_span() * upper_entries());
				  }},
				 {"first_notifier", first_notifier},
				 {"deposited_table", deposited_table},
				 {"collapsed_page", collapsed_page},
				 {"same_page", same_page},
				 {"reclaimed_table", reclaimed_table},
				 {"recycled_vma", recycled_vma},
				 {"recycled_file", recycled_file},
				 {"younger_anon_vma", younger_anon_vma},
				 {"armed_vma", armed_vma},
				 {"detached_vma", detached_vma},
				 {"moving_pages", moving_pages},
				 {"protected_page", protected_page},
				 {"fork",
				  [] {
					  Child([] {
						  Fork().run();
						  return std::string();
					  }).collect();
				  }},
				 {"swapped_vma_cached",
				  [] {
					  swapped_vma(true);
				  }},
				 {"swapped_vma_read",
				  [] {
					  swapped_vma(false);
				  }},
				 {"merged_vma", merged_vma},
			 });
}
