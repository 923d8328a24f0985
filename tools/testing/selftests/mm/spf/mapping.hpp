/* SPDX-License-Identifier: GPL-2.0 */
/* Memory under test. */
#ifndef SPF_MAPPING_HPP
#define SPF_MAPPING_HPP

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "counters.hpp"

namespace spf {

inline std::size_t page_size()
{
	static const std::size_t size = sysconf(_SC_PAGESIZE);

	return size;
}

/* Which of its two MMUs a 64-bit powerpc uses, "hash" or "radix"; elsewhere nothing. */
inline const std::string &mmu()
{
	static const std::string name = [] {
		std::string cpus = read_file("/proc/cpuinfo").value_or("");

		if (cpus.find("\nMMU\t\t: Hash\n") != cpus.npos)
			return "hash";
		return cpus.find("\nMMU\t\t: Radix\n") != cpus.npos ? "radix" : "";
	}();

	return name;
}

/* Entries of a table that maps pages, and of one that maps such tables. */
struct Geometry {
	std::size_t lower, upper;
};

/* Tables are pages full of entries, but powerpc's have sizes of their own, see asm/book3s/64. */
inline Geometry geometry()
{
	bool large = page_size() > 4096;

	if (mmu() == "hash")
		return large ? Geometry{256, 1024} : Geometry{512, 128};
	if (mmu() == "radix")
		return large ? Geometry{32, 512} : Geometry{512, 512};
	return {page_size() / 8, page_size() / 8};
}

/* Bytes that one page table maps: what a huge pmd maps, where there are any. */
inline std::size_t table_span()
{
	static const std::size_t span = [] {
		auto text = read_file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");

		return text ? std::stoul(*text) : page_size() * geometry().lower;
	}();

	return span;
}

inline std::size_t ptes_per_table()
{
	return table_span() / page_size();
}

/* Page tables of one table above them. */
inline std::size_t upper_entries()
{
	return geometry().upper;
}

/* Page tables that map so many pages, or a few more. */
inline std::size_t tables_of(std::size_t pages)
{
	return (pages + ptes_per_table() - 1) / ptes_per_table();
}

/*
 * Faults of a kind, or pages to take them on, beside which those of the rest of the
 * machine hardly count. No more than 64 MiB of them, where pages are large.
 */
inline std::size_t usual_faults()
{
	return std::min<std::size_t>(4096, (64 << 20) / page_size());
}

/* Whether this process, and what it forks, may get more than a page at once. */
inline void allow_huge_pages(bool allow)
{
	must(prctl(PR_SET_THP_DISABLE, !allow, 0, 0, 0) == 0, "prctl(PR_SET_THP_DISABLE)");
}

/* What sysfs has for folios of one size. */
inline std::string folio_file(std::size_t kilobytes, const char *name)
{
	return "/sys/kernel/mm/transparent_hugepage/hugepages-" + std::to_string(kilobytes) +
	       "kB/" + name;
}

/* How many folios of that size faults on anonymous memory have got, ever. */
inline std::uint64_t folios_allocated(std::size_t kilobytes)
{
	return std::stoull(read_file(folio_file(kilobytes, "stats/anon_fault_alloc")).value());
}

/* A large folio that is no huge page; those of anonymous memory have four pages at least. */
inline std::size_t usual_folio_kb()
{
	return std::max<std::size_t>(64, 4 * page_size() / 1024);
}

/*
 * As long as this lives: huge pages on request, and folios of enabled sizes, made by
 * faults. Their daemon, which write-locks VMAs to make some itself, rests: it looks at
 * a table each time it is told so, and not even that in a process that has had no huge
 * page and that mapped its memory before a size of it was enabled.
 */
class HugePages {
public:
	HugePages() { allow_huge_pages(true); }
	~HugePages() { allow_huge_pages(false); }

private:
	static std::string sysfs(const char *name)
	{
		return std::string("/sys/kernel/mm/transparent_hugepage/") + name;
	}

	Setting never_{sysfs("enabled"), "never"};
	Setting compact_{sysfs("defrag"), "always"};
	Setting little_{sysfs("khugepaged/pages_to_scan"), "1"};
	Setting seldom_{sysfs("khugepaged/scan_sleep_millisecs"), "4294967295"};
};

/*
 * Private anonymous memory that begins and ends on page-table boundaries, or where a
 * larger power of two is asked for at a multiple of it, with an inaccessible table's worth
 * on both sides: its tables hold nobody else's pages, so they come and go with it. Unmapped
 * as a whole, holes or not.
 */
class Arena {
public:
	explicit Arena(std::size_t tables, std::size_t alignment = table_span())
		: size_(tables * table_span()), outer_size_(size_ + alignment + 2 * table_span())
	{
		outer_ = mmap(nullptr, outer_size_, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		must(outer_ != MAP_FAILED, "mmap of an arena");
		std::uintptr_t first = reinterpret_cast<std::uintptr_t>(outer_) + table_span();

		begin_ = reinterpret_cast<char *>((first + alignment - 1) & -alignment);
		map(0, size_);
	}
	~Arena()
	{
		if (outer_)
			munmap(outer_, outer_size_);
	}
	Arena(Arena &&other) noexcept
		: size_(other.size_), outer_size_(other.outer_size_),
		  outer_(std::exchange(other.outer_, nullptr)), begin_(other.begin_)
	{
	}
	Arena &operator=(Arena &&) = delete;

	char *begin() const { return begin_; }
	std::size_t size() const { return size_; }
	std::size_t pages() const { return size_ / page_size(); }
	char *page(std::size_t index) const { return begin_ + index * page_size(); }

	/* Replaces what is mapped there by fresh memory in one step. */
	void map(std::size_t offset, std::size_t length, int prot = PROT_READ | PROT_WRITE)
	{
		void *at = mmap(begin_ + offset, length, prot,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

		must(at == begin_ + offset, "mmap over a piece of an arena");
	}
	/* The same with a file, from its begin to the end of the arena. */
	void map_file(int file, int prot, int flags)
	{
		void *at = mmap(begin_, size_, prot, flags | MAP_FIXED, file, 0);

		must(at == begin_, "mmap of a file over an arena");
	}
	void unmap(std::size_t offset, std::size_t length)
	{
		must(munmap(begin_ + offset, length) == 0, "munmap of a piece of an arena");
	}
	void advise(std::size_t offset, std::size_t length, int advice) const
	{
		must(madvise(begin_ + offset, length, advice) == 0, "madvise of an arena");
	}

	/* Frees every page but the first of each table, which keeps the tables there. */
	void discard_but_one_per_table()
	{
		for (std::size_t at = 0; at < size_; at += table_span())
			advise(at + page_size(), table_span() - page_size(), MADV_DONTNEED);
	}

private:
	std::size_t size_;
	std::size_t outer_size_;
	void *outer_;
	char *begin_;
};

/*
 * Turns page @index of @arena into a stack, with nothing between it and the first page.
 * Close to that page, because stacks are limited in bytes, but 256 pages are kept free.
 */
inline char *map_stack(Arena &arena, std::size_t index)
{
	char *top = arena.page(index);

	arena.unmap(page_size(), index * page_size());
	must(mmap(top, page_size(), PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0) == top,
	     "mmap of a stack");
	return top;
}

/* Whether discarded memory takes its page tables with it: powerpc keeps them. */
inline bool discards_tables()
{
	/* A table may be so small that several of them are needed to make a kilobyte. */
	Arena arena(16);

	for (std::size_t at = 0; at < arena.size(); at += table_span())
		arena.begin()[at] = 1;
	std::uint64_t before = proc_field("/proc/self/status", "VmPTE");

	arena.advise(0, arena.size(), MADV_DONTNEED);
	return proc_field("/proc/self/status", "VmPTE") < before;
}

} // namespace spf

#endif /* SPF_MAPPING_HPP */
