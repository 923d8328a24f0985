/* SPDX-License-Identifier: GPL-2.0 */
/* A storm of faults with an oracle: threads that know to the word what they must see. */
#ifndef SPF_STORM_HPP
#define SPF_STORM_HPP

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <memory>
#include <optional>
#include <vector>

#include "counters.hpp"
#include "failures.hpp"
#include "mapping.hpp"
#include "oracle.hpp"
#include "team.hpp"
#include "trap.hpp"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace spf {

/* One CPU of the usual four is left for what they are disturbed by. */
inline constexpr unsigned owners = 3;

/* What others may do to an owner's pages. */
struct Allowed {
	bool zero = false;     /* discard them */
	bool unmapped = false; /* unmap them, or guard them */
	bool denied = false;   /* take permission */
	bool poisoned = false; /* break their memory */

	Allowed operator|(const Allowed &other) const
	{
		return {zero || other.zero, unmapped || other.unmapped, denied || other.denied,
			poisoned || other.poisoned};
	}
};

/* What is mapped, and with it what is there when a page was discarded. */
enum class Backing {
	anonymous,    /* zeroes */
	private_file, /* a stamp of the file */
	shared_file,  /* what was written last */
};

/*
 * A block of pages that one thread writes: the first and the last word of each hold
 * a stamp of owner, generation and page. A word that was seen as zero has lost its
 * page, and the stamp must not come back. Pages that are @alike have no stamp of the
 * page, so that they can be merged.
 */
class Block {
public:
	Block(Oracle &oracle, unsigned owner, std::size_t first, std::size_t count, Allowed allowed,
	      Backing backing = Backing::anonymous, bool alike = false)
		: oracle_(oracle), owner_(owner), first_(first), allowed_(allowed),
		  backing_(backing), alike_(alike)
	{
		for (std::size_t i = first; i < first + count; i++)
			expected_.push_back({untouched(i), untouched(i)});
	}

	std::size_t first() const { return first_; }
	std::size_t count() const { return expected_.size(); }

	/* What the storm's file holds before anyone wrote to it. */
	static std::uint64_t file_stamp(std::size_t index) { return 0xffull << 56 | index; }

	static volatile std::uint64_t *word(char *page, bool back)
	{
		auto *words = reinterpret_cast<volatile std::uint64_t *>(page);

		return back ? words + page_size() / sizeof(*words) - 1 : words;
	}

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

		if (!alike_)
			generation_++;
		std::uint64_t stamp =
			(owner_ + 1ull) << 56 | generation_ << 24 | (alike_ ? 0 : index);

		return write_word(word(page, false), words.front, stamp, index) &&
		       write_word(word(page, true), words.back, stamp, index);
	}
	void next_pass()
	{
		if (alike_)
			generation_++;
	}
	/* Its owner discarded it. */
	void discarded()
	{
		if (backing_ == Backing::shared_file)
			return;
		for (std::size_t i = 0; i < expected_.size(); i++)
			expected_[i] = {untouched(first_ + i), untouched(first_ + i)};
	}

private:
	struct Words {
		std::uint64_t front, back;
	};

	std::uint64_t untouched(std::size_t index) const
	{
		return backing_ == Backing::anonymous ? 0 : file_stamp(index);
	}
	bool lost(std::uint64_t seen, std::size_t index) const
	{
		return allowed_.zero && (!seen || seen == untouched(index));
	}
	bool check_word(volatile std::uint64_t *at, std::uint64_t &expected, std::size_t index)
	{
		std::uint64_t seen = 0;
		Signal signal = trap([at, &seen] { seen = *at; });

		if (signal.signo)
			return missed(signal, index);
		if (seen != expected && !lost(seen, index))
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
		auto is = [&signal](int signo, int code) {
			return signal.signo == signo &&
			       (signal.code == code || Failures::untold(signal));
		};

		if (!(is(SIGSEGV, SEGV_MAPERR) && allowed_.unmapped) &&
		    !(is(SIGSEGV, SEGV_ACCERR) && allowed_.denied) &&
		    !(is(SIGBUS, BUS_MCEERR_AR) && allowed_.poisoned))
			oracle_.violated("page %zu of owner %u: signal %d code %d at %p", index,
					 owner_, signal.signo, signal.code, signal.address);
		return false;
	}

	Oracle &oracle_;
	unsigned owner_;
	std::size_t first_;
	Allowed allowed_;
	Backing backing_;
	bool alike_;
	std::vector<Words> expected_;
	std::uint64_t generation_ = 0;
};

/*
 * What rss counts is what is mapped. Kernel threads that collapse, merge and move pages
 * may be at work between two readings. What is lost or counted twice stays so, and is in
 * the last one too, of which the memory is returned.
 */
inline Memory expect_consistent()
{
	Memory memory = Memory::now();
	FileMemory file = FileMemory::now();

	for (int more = 50; more; more--) {
		if (memory.counted == memory.walked && file.counted == file.walked)
			return memory;
		memory = Memory::now();
		file = FileMemory::now();
	}
	expect(memory.counted == memory.walked, "rss counts %llu kB, but %llu kB are mapped",
	       static_cast<unsigned long long>(memory.counted),
	       static_cast<unsigned long long>(memory.walked));
	expect(file.counted == file.walked, "rss counts %llu kB of files, but %llu kB are mapped",
	       static_cast<unsigned long long>(file.counted),
	       static_cast<unsigned long long>(file.walked));
	return memory;
}

/*
 * A few pages, and a table, may be those of the C library's stacks. A page table that is
 * lost for good the kernel reports when the process ends, however small it is.
 */
inline void expect_returned(const Memory &before)
{
	Memory after = expect_consistent();
	std::uint64_t own = std::max<std::uint64_t>(64, 4 * page_size() / 1024);

	expect(after.counted <= before.counted + own &&
		       after.tables <= before.tables + page_size() / 1024,
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
inline std::size_t spare_pages(const Arena &arena)
{
	return arena.pages() / 32;
}

/*
 * Owners write and check their blocks over and over, tables shared between them, while
 * others do to @arena what is allowed. The owners discard their pages between passes,
 * if nobody else does; paced ones only on request, and look at their pages meanwhile.
 */
class Storm {
public:
	struct Shape {
		Allowed allowed = {};
		Backing backing = Backing::anonymous;
		bool paced = false;
		bool alike = false;
		bool discards = true;
	};

	explicit Storm(const Shape &shape)
		: arena(std::max<std::size_t>(2, tables_of(256))), shape_(shape),
		  share_((arena.pages() - spare_pages(arena)) / owners)
	{
		if (shape.backing != Backing::anonymous)
			map_file();
		for (unsigned id = 0; id < owners; id++)
			blocks_.emplace_back(oracle_, id, id * share_, share_, shape.allowed,
					     shape.backing, shape.alike);
		team_.emplace(owners, [this](unsigned id) { own(id); });
		before_ = Memory::now();
	}
	~Storm()
	{
		team_.reset();
		if (file_ >= 0)
			close(file_);
	}
	Storm(const Storm &) = delete;
	Storm &operator=(const Storm &) = delete;

	int file() const { return file_; }

	void start() { team_->start(); }
	void stop()
	{
		team_->stop();
		team_->finish();
	}

	/* What the slowest owner has done. */
	unsigned passes() const
	{
		return *std::min_element(std::begin(passes_), std::end(passes_));
	}

	/* Paced owners: discard and write everything anew. */
	void next_pass() { pass_++; }
	/* The same, and wait until they have. */
	void refill()
	{
		unsigned pass = ++pass_;

		for (std::atomic<unsigned> &filled : filled_) {
			while (filled < pass && !team_->stopping())
				sched_yield();
		}
	}

	/*
	 * Everything is as the owners know it. If it @returns, unmapping it leaves the
	 * process as it was; not what was sealed, nor beside threads that map memory too.
	 */
	void check(bool returns = true)
	{
		for (Block &block : blocks_) {
			each(block, [&](char *page, std::size_t i) { block.check(page, i); });
		}
		oracle_.check();
		/* For smaps the entry that a poisoned page left behind is a page, for rss not. */
		if (shape_.allowed.poisoned)
			madvise(arena.begin(), arena.size(), MADV_DONTNEED_LOCKED);
		expect_consistent();
		if (shape_.backing == Backing::anonymous)
			expect_swap_consistent();
		if (!returns)
			return;
		arena.map(0, arena.size());
		expect_returned(before_);
	}

	Arena arena;

private:
	template <class Visit> void each(const Block &block, Visit visit)
	{
		for (std::size_t i = block.first(); i < block.first() + block.count(); i++)
			visit(arena.page(i), i);
	}

	void map_file()
	{
		file_ = memfd_create("storm", MFD_CLOEXEC);
		must(file_ >= 0, "memfd_create");
		must(ftruncate(file_, arena.size()) == 0, "ftruncate");
		arena.map_file(file_, PROT_READ | PROT_WRITE, MAP_SHARED);
		for (std::size_t i = 0; i < arena.pages(); i++) {
			for (bool back : {false, true})
				*Block::word(arena.page(i), back) = Block::file_stamp(i);
		}
		/* Anew, so that there is no page table yet. */
		arena.map(0, arena.size());
		arena.map_file(file_, PROT_READ | PROT_WRITE,
			       shape_.backing == Backing::shared_file ? MAP_SHARED : MAP_PRIVATE);
	}

	/* Only without shared memory, whose swapped pages are no process's. */
	static void expect_swap_consistent()
	{
		std::uint64_t counted = proc_field("/proc/self/status", "VmSwap");
		std::uint64_t walked = proc_field("/proc/self/smaps_rollup", "Swap");

		expect(counted == walked, "%llu kB of swap counted, %llu kB in page tables",
		       static_cast<unsigned long long>(counted),
		       static_cast<unsigned long long>(walked));
	}

	void own(unsigned id)
	{
		Block &block = blocks_[id];
		unsigned asked = 0;
		auto check = [&](char *page, std::size_t i) {
			block.check(page, i);
		};

		for (std::size_t pass = 0; pass < 4 || !team_->stopping(); pass++) {
			block.next_pass();
			/* A first read maps the zero page: one half each of reads and writes. */
			each(block, [&](char *page, std::size_t i) {
				if ((i + pass) % 2)
					block.check(page, i);
				block.write(page, i);
			});
			each(block, check);
			filled_[id] = asked;
			while (shape_.paced && pass_ == asked && !team_->stopping()) {
				each(block, check);
				sched_yield();
			}
			asked = pass_;
			if (shape_.discards)
				discard(block);
			passes_[id]++;
		}
		block.next_pass();
		each(block, [&](char *page, std::size_t i) { block.write(page, i); });
	}

	/* Also where others locked it. ENOMEM means that there are holes. */
	void discard(Block &block)
	{
		if (madvise(arena.page(block.first()), share_ * page_size(),
			    MADV_DONTNEED_LOCKED) &&
		    !(errno == ENOMEM && shape_.allowed.unmapped))
			oracle_.violated("MADV_DONTNEED_LOCKED: %s", strerror(errno));
		block.discarded();
	}

	Shape shape_;
	std::size_t share_;
	int file_ = -1;
	Oracle oracle_;
	std::vector<Block> blocks_;
	std::atomic<unsigned> pass_{0};
	std::atomic<unsigned> filled_[owners] = {};
	std::atomic<unsigned> passes_[owners] = {};
	Memory before_ = {};
	std::optional<Team> team_;
};

} // namespace spf

#endif /* SPF_STORM_HPP */
