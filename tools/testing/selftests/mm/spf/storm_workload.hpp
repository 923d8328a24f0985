/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the threads of spf_storm do. A workload object lives for one sample. All
 * threads prepare(), the main thread may then settle(), and all threads run(),
 * which is the only part that is timed and counted.
 */
#ifndef SPF_STORM_WORKLOAD_HPP
#define SPF_STORM_WORKLOAD_HPP

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "mapping.hpp"

namespace spf {

struct Shape {
	unsigned threads;
	std::size_t tables; /* that each thread's share of the memory spans */
};

/* What one thread did while it was measured. */
struct Work {
	std::uint64_t faults = 0; /* pages touched that were not there, or not writable */
	std::uint64_t writes = 0; /* system calls that changed the address space */
};

class Workload {
public:
	virtual ~Workload() = default;
	virtual void prepare(unsigned) {}
	virtual void settle() {}
	virtual Work run(unsigned id) = 0;
};

/*
 * A child that ends at once: what fork() does to our page tables is the point.
 * Returns how many faults the child took.
 */
inline std::uint64_t fork_and_reap()
{
	struct rusage usage;
	pid_t child = fork();

	must(child >= 0, "fork");
	if (child == 0)
		_exit(0);
	must(wait4(child, nullptr, 0, &usage) == child, "wait4");
	return usage.ru_minflt + usage.ru_majflt;
}

inline std::uint64_t faults_of_this_thread()
{
	struct rusage usage;

	must(getrusage(RUSAGE_THREAD, &usage) == 0, "getrusage");
	return usage.ru_minflt + usage.ru_majflt;
}

/*
 * One VMA. Each thread has a share of it, a whole number of page tables, so that
 * threads meet at the VMA and the mm, not at a page-table lock. Huge pages are
 * kept out: a page touched is to be a fault.
 */
class Shared : public Workload {
protected:
	explicit Shared(const Shape &shape)
		: tables_(shape.tables), arena_(shape.tables * shape.threads)
	{
		/* EINVAL: a kernel that has no huge pages to keep out. */
		if (madvise(arena_.begin(), arena_.size(), MADV_NOHUGEPAGE))
			must(errno == EINVAL, "madvise of an arena");
	}

	std::size_t share_size() const { return tables_ * table_span(); }
	char *share(unsigned id) const { return arena_.begin() + id * share_size(); }

	/* Calls @touch for each page but the first of each table. */
	template <class Touch> std::uint64_t each_but_first(unsigned id, Touch touch) const
	{
		std::uint64_t touched = 0;

		for (std::size_t table = 0; table < tables_; table++) {
			char *begin = share(id) + table * table_span();

			for (std::size_t at = page_size(); at < table_span(); at += page_size()) {
				touch(begin + at);
				touched++;
			}
		}
		return touched;
	}

	std::uint64_t write_each(unsigned id) const
	{
		std::uint64_t touched = 0;

		for (std::size_t at = 0; at < share_size(); at += page_size()) {
			write(share(id) + at);
			touched++;
		}
		return touched;
	}

	/* The first page of each table, which keeps the table there. */
	void write_first(unsigned id) const
	{
		for (std::size_t at = 0; at < share_size(); at += table_span())
			write(share(id) + at);
	}

	/* In halves: a discard of a whole table's range invites the kernel to free the table. */
	void discard_but_first(unsigned id) const
	{
		std::size_t half = table_span() / 2;

		for (std::size_t at = 0; at < share_size(); at += table_span()) {
			char *begin = share(id) + at;

			must(madvise(begin + page_size(), half - page_size(), MADV_DONTNEED) == 0 &&
				     madvise(begin + half, half, MADV_DONTNEED) == 0,
			     "madvise of half a table");
		}
	}

	static void write(char *page) { *static_cast<volatile char *>(page) = 1; }
	static void read(const char *page) { (void)*static_cast<const volatile char *>(page); }

private:
	std::size_t tables_;
	Arena arena_;
};

class FirstTouch : public Shared {
public:
	explicit FirstTouch(const Shape &shape) : Shared(shape) {}
	Work run(unsigned id) override { return {write_each(id)}; }
};

class Refault : public Shared {
public:
	explicit Refault(const Shape &shape) : Shared(shape) {}
	void prepare(unsigned id) override
	{
		write_each(id);
		discard_but_first(id);
	}
	Work run(unsigned id) override { return {each_but_first(id, write)}; }
};

class ReadZero : public Shared {
public:
	explicit ReadZero(const Shape &shape) : Shared(shape) {}
	void prepare(unsigned id) override { write_first(id); }
	Work run(unsigned id) override { return {each_but_first(id, read)}; }
};

class CowReuse : public Shared {
public:
	explicit CowReuse(const Shape &shape) : Shared(shape) {}
	void prepare(unsigned id) override { write_each(id); }
	/* Leaves every page read-only and, once the child is gone, ours alone. */
	void settle() override { fork_and_reap(); }
	Work run(unsigned id) override { return {write_each(id)}; }
};

/* Most threads refault while the last ones, one in four, change the address space. */
class Churn : public Shared {
public:
	void prepare(unsigned id) override { write_first(id); }
	Work run(unsigned id) override
	{
		Work work;

		if (id < first_churner_) {
			work.faults = each_but_first(id, write);
			faulting_--;
		} else {
			while (faulting_)
				change(id, work);
		}
		return work;
	}

protected:
	explicit Churn(const Shape &shape)
		: Shared(shape), first_churner_(shape.threads - std::max(shape.threads / 4, 1u)),
		  faulting_(first_churner_)
	{
	}

	virtual void change(unsigned id, Work &work) = 0;

private:
	unsigned first_churner_;
	std::atomic<unsigned> faulting_;
};

class ChurnOther : public Churn {
public:
	explicit ChurnOther(const Shape &shape) : Churn(shape) {}

private:
	void change(unsigned, Work &work) override
	{
		std::size_t size = 16 * page_size();
		void *at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		must(at != MAP_FAILED, "mmap");
		must(munmap(at, size) == 0, "munmap");
		work.writes += 2;
	}
};

class ChurnSame : public Churn {
public:
	explicit ChurnSame(const Shape &shape) : Churn(shape) {}

private:
	/* Splits the VMA in which the others fault, and lets it merge again. */
	void change(unsigned id, Work &work) override
	{
		std::size_t size = 8 * page_size();
		char *at = share(id) + size;

		must(mprotect(at, size, PROT_READ) == 0, "mprotect to read-only");
		must(mprotect(at, size, PROT_READ | PROT_WRITE) == 0, "mprotect to writable");
		must(madvise(at, size, MADV_DONTNEED) == 0, "madvise of a piece");
		work.writes += 3;
	}
};

class ForkStorm : public Churn {
public:
	explicit ForkStorm(const Shape &shape) : Churn(shape) {}

private:
	void change(unsigned, Work &work) override
	{
		std::uint64_t before = faults_of_this_thread();

		/* Its own pages are read-only after the fork, too, and the child's. */
		work.faults += fork_and_reap();
		work.faults += faults_of_this_thread() - before;
		work.writes++;
	}
};

/* What an allocator does for a program with large buffers: map, fill, search, unmap. */
class Allocate : public Workload {
public:
	explicit Allocate(const Shape &shape)
		: rounds_(std::max<std::size_t>(1, shape.tables * ptes_per_table() / pages_))
	{
	}
	Work run(unsigned id) override
	{
		Work work;

		for (std::size_t round = 0; round < rounds_; round++) {
			fill_and_search(round + id);
			work.faults += pages_;
			work.writes += 2;
		}
		return work;
	}

private:
	static void fill_and_search(std::size_t seed)
	{
		std::size_t size = pages_ * page_size();
		std::size_t step = page_size() / sizeof(std::size_t);
		void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		must(memory != MAP_FAILED, "mmap");

		auto *words = static_cast<std::size_t *>(memory);
		std::size_t low = 0, high = pages_ - 1, key = seed % pages_;

		for (std::size_t page = 0; page < pages_; page++)
			words[page * step] = seed + page;
		while (low < high) {
			std::size_t middle = (low + high) / 2;

			if (words[middle * step] < seed + key)
				low = middle + 1;
			else
				high = middle;
		}
		bool found = words[low * step] == seed + key;

		must(munmap(memory, size) == 0, "munmap");
		expect(found, "a page lost what was written to it");
	}

	static constexpr std::size_t pages_ = 64;
	std::size_t rounds_;
};

struct Kind {
	const char *name;
	unsigned least_threads;
	const char *what;
	std::unique_ptr<Workload> (*make)(const Shape &shape);
};

template <class Type> std::unique_ptr<Workload> make(const Shape &shape)
{
	return std::make_unique<Type>(shape);
}

inline const std::vector<Kind> &kinds()
{
	static const std::vector<Kind> all = {
		{"first_touch", 1, "write faults in one new VMA, page tables not there yet",
		 make<FirstTouch>},
		{"refault", 1, "write faults in one VMA whose page tables stay", make<Refault>},
		{"read_zero", 1, "read faults to the zero page, page tables present",
		 make<ReadZero>},
		{"cow_reuse", 1, "write faults on present pages, read-only since a fork",
		 make<CowReuse>},
		{"churn_other", 2, "write faults in one VMA beside mmap and munmap of others",
		 make<ChurnOther>},
		{"churn_same", 2, "write faults beside mprotect and madvise in the same VMA",
		 make<ChurnSame>},
		{"fork_storm", 2, "write faults in one VMA while the process forks",
		 make<ForkStorm>},
		{"arena", 1, "each thread maps, fills, searches and unmaps memory of its own",
		 make<Allocate>},
	};

	return all;
}

} // namespace spf

#endif /* SPF_STORM_WORKLOAD_HPP */
