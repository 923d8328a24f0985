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
#include "team.hpp"
#include "trap.hpp"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

using namespace spf;

/* One CPU of the usual four is left for what they are disturbed by. */
static constexpr unsigned owners = 3;

/* What others may do to an owner's pages: discard them, unmap them, take permission. */
struct Allowed {
	bool zero = false;
	bool unmapped = false;
	bool denied = false;
};

/*
 * A block of pages that one thread writes: the first and the last word of each hold
 * a stamp of owner, generation and page. A word that was seen as zero has lost its
 * page, and the stamp must not come back.
 */
class Block {
public:
	Block(Oracle &oracle, unsigned owner, std::size_t first, std::size_t count, Allowed allowed)
		: oracle_(oracle), owner_(owner), first_(first), allowed_(allowed),
		  expected_(count, Words{0, 0})
	{
	}

	std::size_t first() const { return first_; }
	std::size_t count() const { return expected_.size(); }

	/* False when the page is not there now; neither is then a violation by itself. */
	bool check(char *page, std::size_t index)
	{
		Words &words = expected_[index - first_];

		return check_word(word(page, false), words.front, index) &&
		       check_word(word(page, true), words.back, index);
	}
	bool write(char *page, std::size_t index)
	{
		Words &words = expected_[index - first_];
		std::uint64_t stamp = (owner_ + 1ull) << 56 | ++generation_ << 24 | index;

		return write_word(word(page, false), words.front, stamp, index) &&
		       write_word(word(page, true), words.back, stamp, index);
	}
	/* Its owner discarded it: zero from now on. */
	void discarded() { std::fill(expected_.begin(), expected_.end(), Words{0, 0}); }

private:
	struct Words {
		std::uint64_t front, back;
	};

	static volatile std::uint64_t *word(char *page, bool back)
	{
		auto *words = reinterpret_cast<volatile std::uint64_t *>(page);

		return back ? words + page_size() / sizeof(*words) - 1 : words;
	}
	bool check_word(volatile std::uint64_t *at, std::uint64_t &expected, std::size_t index)
	{
		std::uint64_t seen = 0;
		Signal signal = trap([at, &seen] { seen = *at; });

		if (signal.signo)
			return missed(signal, index);
		if (seen != expected && (seen || !allowed_.zero))
			oracle_.violated("page %zu of owner %u holds %#llx, expected %#llx", index,
					 owner_, static_cast<unsigned long long>(seen),
					 static_cast<unsigned long long>(expected));
		expected = seen;
		return true;
	}
	bool write_word(volatile std::uint64_t *at, std::uint64_t &expected, std::uint64_t stamp,
			std::size_t index)
	{
		Signal signal = trap([at, stamp] { *at = stamp; });

		if (signal.signo)
			return missed(signal, index);
		expected = stamp;
		return true;
	}
	bool missed(const Signal &signal, std::size_t index)
	{
		if (signal.signo != SIGSEGV ||
		    !((signal.code == SEGV_MAPERR && allowed_.unmapped) ||
		      (signal.code == SEGV_ACCERR && allowed_.denied)))
			oracle_.violated("page %zu of owner %u: signal %d code %d at %p", index,
					 owner_, signal.signo, signal.code, signal.address);
		return false;
	}

	Oracle &oracle_;
	unsigned owner_;
	std::size_t first_;
	Allowed allowed_;
	std::vector<Words> expected_;
	std::uint64_t generation_ = 0;
};

static void expect_consistent(const Memory &memory)
{
	expect(memory.counted == memory.walked, "rss counts %llu kB, but %llu kB are mapped",
	       static_cast<unsigned long long>(memory.counted),
	       static_cast<unsigned long long>(memory.walked));
}

/* Page tables exactly; a few pages may be the C library's own. */
static void expect_returned(const Memory &after, const Memory &before)
{
	expect_consistent(after);
	expect(after.counted <= before.counted + 64 && after.tables == before.tables,
	       "left behind: %lld kB of pages, %lld kB of page tables",
	       static_cast<long long>(after.counted - before.counted),
	       static_cast<long long>(after.tables - before.tables));
}

/* Some pages of an arena. */
struct Piece {
	std::size_t offset, length;

	static Piece random(const Arena &arena, Dice &dice)
	{
		std::size_t first = dice.below(arena.pages());
		std::size_t count =
			1 + dice.below(std::min<std::size_t>(arena.pages() - first, 64));

		return {first * page_size(), count * page_size()};
	}
	static Piece table(const Arena &arena, Dice &dice)
	{
		return {dice.below(arena.size() / table_span()) * table_span(), table_span()};
	}
};

/* At the end of a storm's arena, in a table of the owners but owned by none. */
static std::size_t spare_pages(const Arena &arena)
{
	return arena.pages() / 32;
}

static void fork_and_exit()
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0)
		_exit(0);
	must(waitpid(pid, nullptr, 0) == pid, "waitpid");
}

/*
 * Owners write and check their blocks over and over, tables shared between them,
 * while @churn is called @times. If it discards no pages, they do. Then everything
 * must be as the owners know it, and unmapping it must leave the process as it was.
 * Of the faults at least @percent must have been speculated.
 */
static void storm(unsigned times, Allowed allowed, unsigned percent,
		  const std::function<void(Arena &, Dice &)> &churn)
{
	Oracle oracle;
	Arena arena(2);
	std::vector<Block> blocks;
	std::size_t share = (arena.pages() - spare_pages(arena)) / owners;
	Dice dice;

	for (unsigned id = 0; id < owners; id++)
		blocks.emplace_back(oracle, id, id * share, share, allowed);

	Team team(owners, [&](unsigned id) {
		Block &block = blocks[id];
		auto each = [&](auto visit) {
			for (std::size_t i = block.first(); i < block.first() + block.count(); i++)
				visit(arena.page(i), i);
		};

		for (std::size_t pass = 0; pass < 4 || !team.stopping(); pass++) {
			/* A first read maps the zero page: one half each of reads and writes. */
			each([&](char *page, std::size_t index) {
				if ((index + pass) % 2)
					block.check(page, index);
				block.write(page, index);
			});
			each([&](char *page, std::size_t index) { block.check(page, index); });
			if (allowed.zero)
				continue;
			if (madvise(arena.page(block.first()), share * page_size(), MADV_DONTNEED))
				oracle.violated("MADV_DONTNEED: %s", strerror(errno));
			block.discarded();
		}
		each([&](char *page, std::size_t index) { block.write(page, index); });
	});
	Memory before = Memory::now();
	Counters start = Counters::now();

	team.start();
	for (unsigned i = 0; i < times; i++)
		churn(arena, dice);
	team.stop();
	team.finish();

	Counters moved = Counters::now().since(start);

	for (Block &block : blocks) {
		for (std::size_t i = block.first(); i < block.first() + block.count(); i++)
			block.check(arena.page(i), i);
	}
	oracle.check();
	expect_consistent(Memory::now());
	arena.map(0, arena.size());
	expect_returned(Memory::now(), before);
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

/* The same with 64 kB folios, mapped and zapped in part. */
static void discard_large_folios()
{
	HugePages allowed;
	Setting always("/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", "always");

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

		/* Until the owners have refilled most of it; the end of one is nobody's. */
		do {
			sched_yield();
			must(mincore(begin, table.length, present.data()) == 0, "mincore");
		} while (std::count(present.begin(), present.end(), 1) * 8 <
			 static_cast<long>(present.size()) * 7);
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
	expect_consistent(Memory::now());
	expect_speculated(moved, moved["pgfault"] * percent / 100);
}

static void move_tables()
{
	move_memory(scaled(100), 2 * table_span(), page_size(), 10);
}

static void move_upper_tables()
{
	std::size_t span = table_span() * (page_size() / 8);

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
	auto *progress =
		static_cast<Progress *>(mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
					     MAP_SHARED | MAP_ANONYMOUS, -1, 0));

	must(progress != MAP_FAILED, "mmap of shared memory");
	new (progress) Progress{};
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
	expect_consistent(Memory::now());
	munmap(progress, sizeof(Progress));
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
	expect_consistent(Memory::now());
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
	expect_consistent(Memory::now());
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

	expect_consistent(Memory::now());
	expect_speculated(moved, moved["pgfault"] * 25 / 100);
}

int main(int argc, char **argv)
{
	/* Arenas of the C library's own would come and go with the threads. */
	mallopt(M_ARENA_MAX, 1);
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
