// SPDX-License-Identifier: GPL-2.0
/*
 * Storms of faults beside everything that changes mappings and page tables, with an
 * oracle: each thread owns pages and knows to the word what they must hold. A page
 * of another thread, a page that was discarded and comes back, a lost write, a page
 * in a hole, a page or table that stays behind, an unexpected signal: each fails.
 *
 * SPF_TEST_SCALE multiplies the work (1 unless set).
 */
#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <memory>

#include "child.hpp"
#include "counters.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "oracle.hpp"
#include "storm.hpp"
#include "team.hpp"
#include "trap.hpp"

using namespace spf;

static void fork_and_exit()
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0)
		_exit(0);
	must(waitpid(pid, nullptr, 0) == pid, "waitpid");
}

/* @churn beside a storm, @times; of all faults at least @percent were speculated. */
static void storm(unsigned times, Allowed allowed, unsigned percent,
		  const std::function<void(Arena &, Dice &)> &churn)
{
	Storm storm({.allowed = allowed, .discards = !allowed.zero});
	Dice dice;
	Counters start = Counters::now();

	storm.start();
	for (unsigned i = 0; i < times; i++)
		churn(storm.arena, dice);
	storm.stop();

	Counters moved = Counters::now().since(start);

	storm.check();
	expect_speculated(moved, moved["pgfault"] * percent / 100);
}

/* All threads in one VMA, tables emptied and refilled, nothing else. */
static void one_vma()
{
	storm(scaled(20), {}, 50, [](Arena &, Dice &) { sched_yield(); });
}

/* Another thread discards pieces and whole tables, which frees the tables. */
static void discard(Arena &arena, Dice &dice)
{
	Piece piece = dice.below(4) ? Piece::random(arena, dice) : Piece::table(arena, dice);

	arena.advise(piece.offset, piece.length, MADV_DONTNEED);
}

static void discard_inside()
{
	storm(scaled(200), {.zero = true}, 25, discard);
}

/* The same with large folios, mapped and zapped in part. */
static void discard_large_folios()
{
	HugePages allowed;
	Setting always(folio_file(usual_folio_kb(), "enabled"), "always");

	storm(scaled(200), {.zero = true}, 25, discard);
}

/* mprotect() splits and merges the VMA; no write that went through gets lost. */
static void protect_inside()
{
	storm(scaled(200), {.denied = true}, 25, [](Arena &arena, Dice &dice) {
		static const int protections[] = {PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE};
		Piece piece = Piece::random(arena, dice);

		must(mprotect(arena.begin() + piece.offset, piece.length,
			      protections[dice.below(3)]) == 0,
		     "mprotect");
		if (dice.below(8) == 0)
			must(mprotect(arena.begin(), arena.size(), PROT_READ | PROT_WRITE) == 0,
			     "mprotect");
	});
}

/* Pieces are unmapped and mapped anew, in two steps or in one. */
static void replace_inside()
{
	storm(scaled(200), {.zero = true, .unmapped = true}, 25, [](Arena &arena, Dice &dice) {
		Piece piece =
			dice.below(8) ? Piece::random(arena, dice) : Piece::table(arena, dice);

		if (dice.below(2))
			arena.unmap(piece.offset, piece.length);
		arena.map(piece.offset, piece.length);
	});
}

/*
 * Collapsing a table's pages to a huge page deposits the live table; discarding the
 * huge page frees it, while others may still be looking into it.
 */
static void collapse_inside()
{
	HugePages allowed;
	unsigned collapsed = 0;
	int error = 0;

	storm(scaled(10), {.zero = true}, 25, [&](Arena &arena, Dice &dice) {
		Piece table = Piece::table(arena, dice);

		char *begin = arena.begin() + table.offset;
		std::vector<unsigned char> present(table.length / page_size());
		/* The end of one is nobody's: the spare pages, and what is left of three shares. */
		long missing = std::max(present.size() / 8, spare_pages(arena) + owners);

		/* Until the owners have refilled most of it. */
		do {
			sched_yield();
			must(mincore(begin, table.length, present.data()) == 0, "mincore");
		} while (std::count(present.begin(), present.end(), 1) <
			 static_cast<long>(present.size()) - missing);
		/* EAGAIN while pages are new: they wait in batches to be put on a list. */
		for (int tries = 0; tries < 2; tries++) {
			if (!madvise(begin, table.length, MADV_COLLAPSE)) {
				collapsed++;
				break;
			}
			error = errno;
		}
		arena.advise(table.offset, table.length, MADV_DONTNEED);
	});
	note("%u tables collapsed", collapsed);
	expect(collapsed, "not one table was collapsed, last: %s", strerror(error));
}

/*
 * Mappings that the owners do not use come and go: beyond a hole of one page in a
 * table that they use, and far away.
 */
static void churn_elsewhere()
{
	Arena far(1);
	unsigned char pattern = 0;

	*far.begin() = 1; /* keeps its table */

	storm(scaled(20), {}, 20, [&](Arena &arena, Dice &dice) {
		std::size_t first = arena.pages() - spare_pages(arena);
		std::size_t offset = (first + 1) * page_size();
		std::size_t length = arena.size() - offset;
		char *from = arena.begin() + offset;
		char *to = far.page(1 + dice.below(far.pages() - 1));

		arena.unmap(first * page_size(), arena.size() - first * page_size());
		arena.map(offset, length);
		pattern = pattern % 100 + 1;
		for (std::size_t at = 0; at < length; at += page_size()) {
			expect(from[at] == 0, "a fresh page holds %d", from[at]);
			from[at] = pattern;
		}
		must(mprotect(from, length / 2, PROT_READ) == 0, "mprotect");
		must(mremap(from, page_size(), page_size(), MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
			     to,
		     "mremap");
		expect(*to == pattern, "a moved page holds %d, expected %d", *to, pattern);
		far.map(to - far.begin(), page_size());
	});
}

/*
 * Whole tables, or what one entry two levels up maps, move to another address and
 * back without anyone taking the page-table locks of the pages, while each fork()
 * makes every write fault. A write that went through is at one of the two addresses.
 */
static void move_memory(unsigned times, std::size_t length, std::size_t stride, unsigned percent)
{
	Oracle oracle;
	Arena home(length / table_span(), length);
	Arena away(length / table_span(), length);
	std::vector<Block> blocks;
	std::size_t share = length / stride / owners;

	away.unmap(0, length);
	for (unsigned id = 0; id < owners; id++)
		blocks.emplace_back(oracle, id, id * share, share, Allowed{.unmapped = true});

	Team team(owners, [&](unsigned id) {
		Block &block = blocks[id];

		do {
			for (std::size_t i = block.first(); i < block.first() + block.count();
			     i++) {
				char *places[] = {home.begin() + i * stride,
						  away.begin() + i * stride};

				for (int at = 0; !block.check(places[at], i); at = !at)
					;
				for (int at = 0; !block.write(places[at], i); at = !at)
					;
			}
		} while (!team.stopping());
	});
	Counters start = Counters::now();
	char *from = home.begin();
	char *to = away.begin();

	team.start();
	for (unsigned i = 0; i < times; i++) {
		if (i % 2 == 0)
			fork_and_exit();
		must(mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to,
		     "mremap of whole tables");
		std::swap(from, to);
	}
	team.stop();
	team.finish();

	Counters moved = Counters::now().since(start);

	for (Block &block : blocks) {
		for (std::size_t i = block.first(); i < block.first() + block.count(); i++)
			expect(block.check(from + i * stride, i), "page %zu is not there", i);
	}
	oracle.check();
	expect_consistent();
	expect_speculated(moved, moved["pgfault"] * percent / 100);
}

static void move_tables()
{
	move_memory(scaled(100), 2 * table_span(), page_size(), 10);
}

static void move_upper_tables()
{
	std::size_t span = table_span() * upper_entries();

	move_memory(scaled(50), span, span / 64, 10);
}

/*
 * fork() while every page is being written. What the child has of a page is what
 * its owner wrote between the call and the return of fork(), its first word at most
 * one generation ahead of its last; and neither process sees the other's writes.
 */
struct Progress {
	std::atomic<std::uint64_t> begun[owners];
	std::atomic<std::uint64_t> ended[owners];
};

static void fork_inside()
{
	static constexpr std::uint64_t poison = ~0ull;
	Arena arena(1);
	Oracle oracle;
	std::size_t last = page_size() / sizeof(std::uint64_t) - 1;
	std::size_t share = arena.pages() / owners;
	Shared<Progress> progress;

	auto word = [&](std::size_t page, std::size_t index) {
		return reinterpret_cast<std::uint64_t *>(arena.page(page)) + index;
	};
	auto load = [](std::uint64_t *at) {
		return __atomic_load_n(at, __ATOMIC_ACQUIRE);
	};
	auto store = [](std::uint64_t *at, std::uint64_t value) {
		__atomic_store_n(at, value, __ATOMIC_RELEASE);
	};
	auto stamp = [](std::uint64_t generation, std::size_t page) {
		return generation ? generation << 16 | page : 0;
	};

	Team team(owners, [&](unsigned id) {
		for (std::uint64_t next = 1; next == 1 || !team.stopping(); next++) {
			progress->begun[id] = next;
			for (std::size_t i = id * share; i < (id + 1) * share; i++) {
				std::uint64_t old = stamp(next - 1, i);

				if (load(word(i, 0)) != old || load(word(i, last)) != old)
					oracle.violated("page %zu lost its owner's last write", i);
				store(word(i, 0), stamp(next, i));
				store(word(i, last), stamp(next, i));
			}
			progress->ended[id] = next;
		}
	});

	auto in_child = [&](const std::vector<std::uint64_t> &ended) {
		for (std::size_t i = 0; i < owners * share; i++) {
			std::uint64_t front = load(word(i, 0)), back = load(word(i, last));
			std::uint64_t newest = progress->begun[i / share];

			expect((!front || (front & 0xffff) == i) && (!back || (back & 0xffff) == i),
			       "page %zu holds what belongs to another", i);
			front >>= 16;
			back >>= 16;
			expect(back >= ended[i / share] && front >= back && front <= back + 1 &&
				       front <= newest,
			       "page %zu: generations %llu and %llu, written were %llu to %llu", i,
			       static_cast<unsigned long long>(front),
			       static_cast<unsigned long long>(back),
			       static_cast<unsigned long long>(ended[i / share]),
			       static_cast<unsigned long long>(newest));
			store(word(i, 0), poison);
			store(word(i, last), poison);
		}
		for (std::size_t i = 0; i < owners * share; i++)
			expect(load(word(i, 0)) == poison && load(word(i, last)) == poison,
			       "page %zu of the child changed", i);
		return std::string();
	};
	Counters start = Counters::now();

	team.start();
	for (unsigned i = 0; i < scaled(20); i++) {
		std::vector<std::uint64_t> ended(std::begin(progress->ended),
						 std::end(progress->ended));

		Child([&] { return in_child(ended); }).collect();
	}
	team.stop();
	team.finish();

	Counters moved = Counters::now().since(start);

	oracle.check();
	expect_consistent();
	expect_speculated(moved, moved["pgfault"] * 10 / 100);
}

/*
 * All threads write a word of their own into the same fresh page: had two of them
 * mapped a page, one word would be missing.
 */
static void same_pages()
{
	Arena arena(1);
	Oracle oracle;
	Barrier step(owners);
	unsigned rounds = scaled(20);
	Counters start = Counters::now();
	Team team(owners, [&](unsigned id) {
		for (unsigned round = 1; round <= rounds; round++) {
			auto word = [&](std::size_t page, unsigned owner) {
				return reinterpret_cast<volatile std::uint64_t *>(
					       arena.page(page)) +
				       owner;
			};

			step.wait();
			for (std::size_t i = 0; i < arena.pages(); i++)
				*word(i, id) = round;
			step.wait();
			for (std::size_t i = 0; i < arena.pages() * owners; i++) {
				std::uint64_t seen = *word(i / owners, i % owners);

				if (seen != round)
					oracle.violated(
						"page %zu lost the write of owner %zu: %llu",
						i / owners, i % owners,
						static_cast<unsigned long long>(seen));
			}
			step.wait();
			if (id == 0)
				arena.discard_but_one_per_table();
		}
	});

	team.finish();

	Counters moved = Counters::now().since(start);

	oracle.check();
	expect_consistent();
	expect_speculated(moved, rounds * arena.pages() / 2);
}

/*
 * A hole is torn into a VMA that threads fault in, with neighbours that keep its
 * page table, and forks reuse the freed VMA at once. All this in a forked child, where
 * VMAs carry the same sequence numbers as those that its own forks will set up. When
 * each thread has seen the hole, there must be no page in it.
 */
static std::string hole_in_child(const Arena &arena, std::size_t round)
{
	std::size_t count = arena.pages() / 4;
	std::size_t first = arena.pages() / 4 + round % count;
	char *hole = arena.page(first);
	std::atomic<unsigned> writing{0};
	Team team(owners - 1, [&](unsigned id) {
		for (std::size_t i = id;; i++) {
			char *page = hole + i % count * page_size();
			Signal signal = try_write(page);

			if (signal.signo) {
				expect(signal.is(SIGSEGV, SEGV_MAPERR, page),
				       "signal %d code %d in a hole", signal.signo, signal.code);
				return;
			}
			if (i == id)
				writing++;
		}
	});

	team.start();
	while (writing < owners - 1 && !team.stopping())
		sched_yield();
	must(munmap(hole, count * page_size()) == 0, "munmap");
	fork_and_exit();
	fork_and_exit();
	team.finish();

	std::vector<unsigned char> present(count);

	expect(mincore(hole, count * page_size(), present.data()) && errno == ENOMEM,
	       "there is something in the hole");
	expect_consistent();
	must(mmap(hole, count * page_size(), PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == hole,
	     "mmap into the hole");
	must(mincore(hole, count * page_size(), present.data()) == 0, "mincore");
	for (std::size_t i = 0; i < count; i++)
		expect(!(present[i] & 1) && hole[i * page_size()] == 0,
		       "page %zu of the hole was not gone", i);
	return "";
}

static void hole_and_recycled_vma()
{
	Arena arena(1);
	Counters start = Counters::now();

	for (std::size_t i = 0; i < arena.pages(); i += 8)
		*arena.page(i) = 1;
	for (unsigned round = 0; round < scaled(50); round++)
		Child([&] { return hole_in_child(arena, round); }).collect();

	Counters moved = Counters::now().since(start);

	expect_consistent();
	expect_speculated(moved, moved["pgfault"] * 25 / 100);
}

int main(int argc, char **argv)
{
	/* Arenas of the C library's own would come and go with the threads. */
	mallopt(M_ARENA_MAX, 1);
	keep_stacks(owners);
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"one_vma", one_vma},
				 {"same_pages", same_pages},
				 {"discard_inside", discard_inside},
				 {"protect_inside", protect_inside},
				 {"replace_inside", replace_inside},
				 {"churn_elsewhere", churn_elsewhere},
				 {"move_tables", move_tables},
				 {"move_upper_tables", move_upper_tables},
				 {"fork_inside", fork_inside},
				 {"hole_and_recycled_vma", hole_and_recycled_vma},
				 {"discard_large_folios", discard_large_folios},
				 {"collapse_inside", collapse_inside},
			 });
}
