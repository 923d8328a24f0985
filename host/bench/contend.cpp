// SPDX-License-Identifier: GPL-2.0
/*
 * The only program of a guest in which page faults meet writers (its /init): what
 * programs with many threads do to their address space while they fault in it. Each
 * pattern is run twice by a process of its own: as it is, to be timed, and traced, to
 * see who slept, where, and for how long.
 *
 * Argument: --list prints the names. In the environment, where the kernel puts name=value
 * from its command line, "only" has those to run, "," between them; with "watch" they are
 * only traced, to see for how long tasks do without "preempt", preemption, or "irq",
 * interrupts.
 */
#include <algorithm>
#include <atomic>
#include <chrono>
#include <fcntl.h>
#include <mutex>
#include <random>
#include <sys/prctl.h>
#include <thread>
#include <vector>

#include "guest.hpp"
#include "sleeps.hpp"
#include "stretches.hpp"

using namespace guest;

namespace {

constexpr unsigned int threads = 8;

/* Times in microseconds, rounded to two digits, and how often each was seen. */
class durations {
public:
	void add(uint64_t us)
	{
		uint64_t unit = 1;

		while (us / unit >= 100)
			unit *= 10;
		seen[us / unit * unit]++;
	}
	void add(const durations &other)
	{
		for (const auto &[us, times] : other.seen)
			seen[us] += times;
	}
	friend std::ostream &operator<<(std::ostream &out, const durations &d)
	{
		for (const auto &[us, times] : d.seen)
			out << ' ' << us << ':' << times;
		return out;
	}

private:
	std::map<uint64_t, uint64_t> seen;
};

using steady = std::chrono::steady_clock;

uint64_t since(steady::time_point begin)
{
	return std::chrono::duration_cast<std::chrono::microseconds>(steady::now() - begin).count();
}

/* What a thread of a pattern has: who it is, its random numbers, what its steps took. */
struct worker {
	unsigned int id;
	std::minstd_rand random;
	durations took;

	size_t below(size_t end) { return random() % end; }

	template <class Step> void steps(unsigned int count, Step step)
	{
		while (count--) {
			const auto begin = steady::now();

			step();
			took.add(since(begin));
		}
	}
};

void touch_all(char *area, size_t size)
{
	for (size_t at = 0; at < size; at += page)
		reach(area + at, touch::write);
}

void unmap(char *area, size_t size)
{
	require(!munmap(area, size), "munmap");
}

/* A page table's worth, of which the first page stays, and the others are touched. */
class region {
public:
	region() : area(map_anonymous(nullptr, 2 * table, 0))
	{
		area += -reinterpret_cast<uintptr_t>(area) % table;
		/* Not known where there are no huge pages. */
		require(!madvise(area, table, MADV_NOHUGEPAGE) || errno == EINVAL, "madvise");
		touch_all(area, table);
	}
	void churn()
	{
		zap(area, page);
		touch_all(area, table);
	}

private:
	char *area;
};

/* Look something up in a copy of one of many tables. */
class search {
public:
	static constexpr unsigned int crew = threads;

	search()
	{
		for (auto &table : tables)
			for (unsigned int n = 0; n < numbers; n++)
				table.push_back(3 * n);
	}
	void operator()(worker &self)
	{
		self.steps(300, [&] {
			const auto &table = tables[self.below(std::size(tables))];
			const size_t count = 1 + self.below(numbers);
			const size_t size = count * sizeof(unsigned int);
			char *area = map_anonymous(nullptr, size, 0);
			auto *copy = reinterpret_cast<unsigned int *>(area);

			std::copy_n(table.data(), count, copy);
			const unsigned int *at =
				std::lower_bound(copy, copy + count, 3 * (count / 2));

			if (*at != 3 * (count / 2))
				throw std::runtime_error("the copy of a table is not the table");
			unmap(area, size);
		});
	}

private:
	static constexpr unsigned int numbers = 1 << 14;
	std::vector<unsigned int> tables[16];
};

/* Blocks of all sizes come and go. */
class allocator {
public:
	static constexpr unsigned int crew = threads;

	void operator()(worker &self)
	{
		std::vector<std::string> blocks(32);

		self.steps(1000, [&] {
			const size_t size = size_t(64) << self.below(13);

			blocks[self.below(blocks.size())] = std::string(size, 'x');
		});
	}
};

/* Half of the threads write code and run it, the others fault. */
class compiler {
public:
	static constexpr unsigned int crew = threads;

	void operator()(worker &self)
	{
		if (self.id % 2) {
			region own;

			for (unsigned int n = 0; n < 8; n++)
				own.churn();
			return;
		}
		constexpr size_t size = 16 * page;
		char *area = map_anonymous(nullptr, size, 0);

		self.steps(100, [&] {
			const auto value = static_cast<unsigned char>(self.random());
			/* mov $value, %eax; ret */
			const unsigned char code[] = {0xb8, value, 0, 0, 0, 0xc3};
			char *at = area + self.below(size / page) * page;

			require(!mprotect(area, size, PROT_READ | PROT_WRITE), "mprotect");
			std::memcpy(at, code, sizeof(code));
			require(!mprotect(area, size, PROT_READ | PROT_EXEC), "mprotect");
			if (reinterpret_cast<int (*)()>(at)() != value)
				throw std::runtime_error(
					"the code that ran is not what was written");
		});
	}
};

/* Threads come, need more and more stack, and go. */
class stacks {
public:
	static constexpr unsigned int crew = threads / 2;

	void operator()(worker &self)
	{
		self.steps(100, [] { std::thread(deeper, 64).join(); });
	}

private:
	static void deeper(unsigned int levels)
	{
		volatile char frame[page];

		frame[0] = 1;
		if (levels)
			deeper(levels - 1);
		frame[1] = frame[0];
	}
};

/* Thousands of VMAs, of which every other can be written to, and has been. */
void many_vmas()
{
	constexpr unsigned int vmas = 2000;
	char *area = map_anonymous(nullptr, 2 * vmas * page, 0);

	for (unsigned int n = 0; n < vmas; n++)
		require(!mprotect(area + 2 * n * page, page, PROT_READ), "mprotect");
	for (unsigned int n = 0; n < vmas; n++)
		reach(area + (2 * n + 1) * page, touch::write);
}

/*
 * A process with hundreds of threads and thousands of VMAs forks, while some of its
 * threads fault.
 */
class forks {
public:
	static constexpr unsigned int crew = 4;

	forks() : over(sleepers + 1)
	{
		many_vmas();
		for (unsigned int n = 0; n < sleepers; n++)
			asleep.emplace_back([this] { over.wait(); });
	}
	~forks()
	{
		over.wait();
		for (auto &thread : asleep)
			thread.join();
	}
	void operator()(worker &self)
	{
		if (self.id) {
			region own;

			while (!done)
				own.churn();
			return;
		}
		self.steps(10, [] {
			const pid_t pid = fork();

			if (!pid)
				_exit(0);
			wait_for(pid);
		});
		done = true;
	}

private:
	static constexpr unsigned int sleepers = 250;
	meeting over;
	std::vector<std::thread> asleep;
	std::atomic<bool> done{false};
};

/*
 * The first MMU notifier of a process with thousands of VMAs, each of which the kernel
 * write-locks for it, while threads fault. A child has none, whatever its parent had.
 */
class mirrors {
public:
	static constexpr unsigned int crew = 1;

	mirrors() { many_vmas(); }
	void operator()(worker &self)
	{
		self.steps(10, [] { run_alone("mirrors", open_device); });
	}

private:
	static void open_device()
	{
		constexpr unsigned int faulters = 2;
		meeting begun(faulters + 1);
		std::atomic<bool> done{false};
		std::vector<std::thread> others;

		for (unsigned int n = 0; n < faulters; n++)
			others.emplace_back([&] {
				region own;

				begun.wait();
				while (!done)
					own.churn();
			});
		begun.wait();
		const int device = open("/dev/hmm_dmirror0", O_RDWR);

		done = true;
		for (auto &thread : others)
			thread.join();
		require(device >= 0, "opening /dev/hmm_dmirror0, of CONFIG_TEST_HMM");
		close(device);
	}
};

/* VMAs and page tables are made and freed, as fast as they can be. */
class mappings {
public:
	static constexpr unsigned int crew = threads;

	void operator()(worker &self)
	{
		self.steps(250, [] {
			char *area = map_anonymous(nullptr, 2 * page, 0);

			touch_all(area, 2 * page);
			/* Two VMAs, for a moment. */
			require(!mprotect(area, page, PROT_READ), "mprotect");
			unmap(area, 2 * page);
		});
	}
};

/* How much memory is in objects that are not reclaimed, and in page tables. */
uint64_t held()
{
	const counters now = vmstat({"nr_slab_unreclaimable", "nr_page_table_pages"});
	uint64_t pages = 0;

	for (const auto &[name, value] : now)
		pages += value;
	return pages;
}

template <class Pattern> void run(const char *name, bool told)
{
	Pattern pattern;
	std::vector<worker> workers(Pattern::crew);
	std::vector<std::thread> crew;
	std::atomic<unsigned int> working{Pattern::crew};
	std::exception_ptr failed;
	std::mutex lock;
	durations took;
	const counters before = vmstat();
	const uint64_t least = held();
	uint64_t most = least;
	const auto begin = steady::now();

	for (unsigned int id = 0; id < Pattern::crew; id++)
		crew.emplace_back([&, id, &self = workers[id]] {
			try {
				self.id = id;
				self.random.seed(id + 1);
				pattern(self);
			} catch (...) {
				const std::lock_guard<std::mutex> guard(lock);

				failed = std::current_exception();
			}
			working--;
		});
	/* What is looked at in between has no effect on when it ends. */
	while (working) {
		most = std::max(most, held());
		std::this_thread::sleep_for(std::chrono::milliseconds(10));
	}
	for (auto &thread : crew)
		thread.join();
	const uint64_t us = since(begin);

	if (failed)
		std::rethrow_exception(failed);
	if (!told)
		return;
	counters moved;

	add_since(before, moved);
	for (const worker &self : workers)
		took.add(self.took);
	std::cout << "STORM RAN " << name << " us=" << us
		  << " held_kib=" << (most - least) * page / 1024;
	print(moved);
	std::cout << "STORM STEPS " << name << took << std::endl;
}

struct pattern {
	const char *name;
	void (*run)(const char *name, bool told);
};

constexpr pattern patterns[] = {
	{"search", run<search>},   {"allocator", run<allocator>}, {"compiler", run<compiler>},
	{"stacks", run<stacks>},   {"forks", run<forks>},         {"mappings", run<mappings>},
	{"mirrors", run<mirrors>},
};

void run_traceable(const pattern &p, bool told)
{
	run_alone(p.name, [&] {
		require(!prctl(PR_SET_NAME, tracefs::comm), "prctl");
		p.run(p.name, told);
	});
}

/* The same again, but for its numbers, which tracing has changed. */
template <class Reader>
void trace(const pattern &p, const std::vector<tracefs::event> &events, Reader reader)
{
	std::map<std::string, durations> lasted;
	const counters before = vmstat({"pgfault"});
	tracefs::tracing tracing(events);

	run_traceable(p, false);
	const counters after = vmstat({"pgfault"});
	const uint64_t lost = tracing.end([&](const std::string &text) {
		reader.line(text,
			    [&](const std::string &what, uint64_t us) { lasted[what].add(us); });
	});

	std::cout << "STORM FAULTS " << p.name << ' ' << after.at("pgfault") - before.at("pgfault")
		  << " lost=" << lost << std::endl;
	for (const auto &[what, took] : lasted) {
		const auto at = what.find(' ');

		std::cout << "STORM " << what.substr(0, at) << ' ' << p.name << what.substr(at)
			  << took << std::endl;
	}
}

void storm()
{
	const char *watch = getenv("watch");

	for (const pattern &p : patterns) {
		if (!wanted(p.name))
			continue;
		if (watch) {
			trace(p, stretches::reader::events(watch), stretches::reader());
			continue;
		}
		run_traceable(p, true);
		trace(p, sleeps::reader::events(), sleeps::reader());
	}
	std::cout << "STORM READY" << std::endl;
}

} // namespace

int main(int argc, char **argv)
{
	if (argc == 2 && argv[1] == std::string("--list")) {
		for (const pattern &p : patterns)
			std::cout << p.name << '\n';
		return 0;
	}
	try {
		set_up();
		mount_at("/dev", "devtmpfs");
		tracefs::set_up();
		storm();
	} catch (const std::exception &error) {
		std::cout << "STORM FAILED " << error.what() << std::endl;
	}
	return end_guest();
}
