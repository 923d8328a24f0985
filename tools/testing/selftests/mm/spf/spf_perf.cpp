// SPDX-License-Identifier: GPL-2.0
/*
 * What perf and tracefs show of speculative faults: the event "spf" counts those that
 * were resolved, tracepoints tell of those that were aborted, and both agree with
 * /proc/vmstat. Without speculation they are there and stay 0.
 */
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <set>

#include "accesses.hpp"
#include "child.hpp"
#include "file.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "perf_event.hpp"
#include "team.hpp"

using namespace spf;

static const std::size_t tables = tables_of(usual_faults());

static perf_event_attr resolved_faults()
{
	if (mode() == Mode::absent)
		throw Skip("this kernel has no speculative page faults");
	return software_event(PERF_COUNT_SW_SPF);
}

static unsigned long long number(std::uint64_t value)
{
	return value;
}

/* Memory of which the page tables are there, and whose other pages are to fault. */
class Untouched {
public:
	Untouched() : arena_(tables)
	{
		touch();
		arena_.discard_but_one_per_table();
	}

	const Arena &operator*() const { return arena_; }
	std::size_t faults() const { return arena_.pages() - tables; }

	/* The part @id of @parts: tables of its own, of which nobody else has the locks. */
	void touch(unsigned id = 0, unsigned parts = 1) const
	{
		std::size_t per_table = arena_.pages() / tables;

		for (std::size_t i = tables * id / parts * per_table;
		     i < tables * (id + 1) / parts * per_table; i++)
			*word(arena_.page(i)) = i + 1;
	}

private:
	Arena arena_;
};

/* A thread's count is its own: all of its faults, and none that others take meanwhile. */
static void task()
{
	PerfEvent resolved(resolved_faults());
	PerfEvent minor(software_event(PERF_COUNT_SW_PAGE_FAULTS_MIN));
	PerfEvent major(software_event(PERF_COUNT_SW_PAGE_FAULTS_MAJ));
	Untouched mine, others;
	Team other(1, [&](unsigned) { others.touch(); });
	Counters before = Counters::now();
	std::uint64_t start = resolved.count(), all = minor.count() + major.count();

	mine.touch();
	other.start();
	other.finish();
	std::uint64_t count = resolved.count() - start;

	all = minor.count() + major.count() - all;
	Counters moved = Counters::now().since(before);

	expect_speculated(moved, (mine.faults() + others.faults()) * 99 / 100);
	expect(all >= mine.faults() && all <= mine.faults() * 105 / 100,
	       "%llu faults of %zu are this thread's", number(all), mine.faults());
	if (mode() == Mode::off)
		expect(count == 0, "speculation is off, yet %llu were resolved", number(count));
	else
		expect(count >= mine.faults() * 99 / 100 && count <= all,
		       "%llu of %llu faults were resolved, expected %zu", number(count),
		       number(all), mine.faults());
}

/* What a task clones is counted with it, if one asks for that. */
static void threads_and_children()
{
	perf_event_attr attr = resolved_faults();

	attr.inherit = 1;
	PerfEvent resolved(attr);
	Untouched memory;
	std::uint64_t start = resolved.count();

	Team(4, [&](unsigned id) { memory.touch(id, 4); }).finish();
	std::uint64_t threads = resolved.count() - start;

	Child([] {
		Untouched().touch();
		return std::string();
	}).collect();
	std::uint64_t child = resolved.count() - start - threads;

	for (std::uint64_t count : {threads, child}) {
		if (mode() == Mode::off)
			expect(count == 0, "speculation is off, yet %llu were resolved",
			       number(count));
		else
			expect(count >= memory.faults() * 99 / 100,
			       "%llu of threads and %llu of a child, expected %zu", number(threads),
			       number(child), memory.faults());
	}
}

static void need_counters()
{
	if (!Counters::now().present())
		throw Skip("this kernel does not count (CONFIG_SPECULATIVE_PAGE_FAULT_STATS)");
}

/*
 * The machine's counts of @attr, and what /proc/vmstat says of the same: a reading
 * around all of it, and one within. What the events count lies between the two, unless
 * some other task was between counting for the one and for the other.
 */
static std::uint64_t agrees(const perf_event_attr &attr, const std::string &counter,
			    const std::function<void()> &faults)
{
	for (unsigned more = 2;; more--) {
		Counters before = Counters::now();
		std::vector<PerfEvent> events;

		for (unsigned cpu : cpus())
			events.emplace_back(attr, cpu);
		Counters begin = Counters::now();

		faults();
		std::uint64_t least = Counters::now().since(begin)[counter], count = 0;

		for (const PerfEvent &event : events)
			count += event.count();
		std::uint64_t most = Counters::now().since(before)[counter];
		bool agree = least <= count && count <= most;

		expect(agree || more, "%s grew by %llu to %llu, the events say %llu",
		       counter.c_str(), number(least), number(most), number(count));
		if (agree)
			return count;
	}
}

/* All CPUs together have as many as the counter of successes. */
static void all_cpus()
{
	need_counters();
	std::size_t faults = 0;
	std::uint64_t count = agrees(resolved_faults(), "spf_success", [&] {
		Untouched memory;

		Team(4, [&](unsigned id) { memory.touch(id, 4); }).finish();
		faults = memory.faults();
	});

	expect(mode() == Mode::on ? count >= faults * 99 / 100 : !count,
	       "%llu of %zu faults were counted", number(count), faults);
}

/* Faults of system calls are the kernel's. */
static void user_and_kernel()
{
	Untouched user, kernel;
	File file("/dev/shm");
	perf_event_attr attr = resolved_faults();

	file.write(0, (*kernel).pages(), 1);
	attr.exclude_kernel = 1;
	PerfEvent of_user(attr);

	attr.exclude_kernel = 0;
	attr.exclude_user = 1;
	PerfEvent of_kernel(attr);

	for (bool system_call : {false, true}) {
		std::uint64_t users = of_user.count(), kernels = of_kernel.count();

		if (!system_call) {
			user.touch();
		} else {
			for (std::size_t i = 0; i < (*kernel).pages(); i++)
				must(pread(file.fd(), (*kernel).page(i), page_size(),
					   i * page_size()) == static_cast<ssize_t>(page_size()),
				     "read of a page");
		}
		users = of_user.count() - users;
		kernels = of_kernel.count() - kernels;
		std::uint64_t counted = system_call ? kernels : users;

		if (mode() == Mode::off)
			expect(!users && !kernels, "speculation is off, yet %llu and %llu",
			       number(users), number(kernels));
		else
			expect(counted >= user.faults() * 99 / 100 &&
				       users + kernels - counted <= user.faults() / 100,
			       "by %s: %llu in user mode, %llu in kernel mode",
			       system_call ? "a system call" : "the program", number(users),
			       number(kernels));
	}
}

/* What an event has recorded of each fault, for the reader of its ring. */
class Samples {
public:
	explicit Samples(const PerfEvent &event)
		: ring_(static_cast<char *>(mmap(nullptr, page_size() + size(),
						 PROT_READ | PROT_WRITE, MAP_SHARED, event.fd(),
						 0)))
	{
		must(ring_ != MAP_FAILED, "mmap of an event's ring");
	}
	~Samples() { munmap(ring_, page_size() + size()); }
	Samples(const Samples &) = delete;
	Samples &operator=(const Samples &) = delete;

	struct Sample {
		perf_event_header header;
		std::uint32_t process, thread;
		std::uint64_t address;
	};

	std::vector<Sample> read() const
	{
		auto *control = reinterpret_cast<perf_event_mmap_page *>(ring_);
		std::uint64_t head = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE);
		std::vector<Sample> samples;
		Sample sample;

		expect(head <= size(), "the ring has overflowed");
		for (std::uint64_t at = 0; at < head; at += sample.header.size) {
			memcpy(&sample.header, ring_ + page_size() + at, sizeof(sample.header));
			expect(sample.header.type == PERF_RECORD_SAMPLE &&
				       sample.header.size == sizeof(sample),
			       "a record of type %u has %u bytes", sample.header.type,
			       sample.header.size);
			memcpy(&sample, ring_ + page_size() + at, sizeof(sample));
			samples.push_back(sample);
		}
		return samples;
	}

private:
	/* Whole pages, a power of two of them. */
	static std::size_t size() { return 1 << 20; }

	char *ring_;
};

/* A sample of each fault has the thread and the address that it accessed. */
static void samples()
{
	static constexpr std::size_t many = 16;
	perf_event_attr attr = resolved_faults();

	attr.sample_period = 1;
	attr.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_ADDR;
	PerfEvent event(attr);
	Samples samples(event);
	Arena arena = used_arena();
	std::set<std::uint64_t> wanted, seen;

	for (std::size_t i = 3; i < 3 + many; i++) {
		*word(arena.page(i), 5) = 1;
		wanted.insert(reinterpret_cast<std::uintptr_t>(word(arena.page(i), 5)));
	}
	for (const Samples::Sample &sample : samples.read()) {
		expect(sample.process == static_cast<std::uint32_t>(getpid()) &&
			       sample.thread == static_cast<std::uint32_t>(gettid()),
		       "a sample is of thread %u in process %u", sample.thread, sample.process);
		if (wanted.count(sample.address))
			seen.insert(sample.address);
	}
	expect(seen.size() == (mode() == Mode::on ? many : 0), "%zu of %zu faults have a sample",
	       seen.size(), many);
}

/* Each reason to abort has a tracepoint, which is passed as often as it is counted. */
static void aborts()
{
	static const std::set<std::string> met = {"pmd_none", "vma_noanon", "vma_access",
						  "vma_none"};

	need_counters();
	for (const auto &[reason, ever] : Counters::now().aborts()) {
		perf_event_attr attr = tracepoint("pagefault/spf_" + reason);
		std::uint64_t count = agrees(attr, "spf_abort_" + reason, [] {
			Arena arena(1);

			for (std::size_t i = 0; i < 8; i++) {
				reading(arena.page(i));
				writing(arena.page(i));
			}
			must(mprotect(arena.begin(), arena.size(), PROT_READ) == 0, "mprotect");
			for (std::size_t i = 0; i < 8; i++)
				writing(arena.page(i));
			arena.unmap(0, arena.size());
			for (std::size_t i = 0; i < 8; i++)
				reading(arena.page(i));
		});

		if (mode() == Mode::off)
			expect(count == 0, "speculation is off, yet %llu aborts are %s",
			       number(count), reason.c_str());
		else
			expect(count >= met.count(reason), "no abort is %s", reason.c_str());
	}
}

/* A tracer of its own in tracefs: its buffer holds nothing but the events of @name. */
class Trace {
public:
	explicit Trace(const std::string &name) : path_("/sys/kernel/tracing/instances/spf_perf")
	{
		if (mkdir(path_.c_str(), 0700) && errno != EEXIST)
			throw Skip(format("no tracer of our own in tracefs: %s", strerror(errno)));
		try {
			must(write_file(path_ + "/trace", "\n") == 0, "emptying a trace");
			must(write_file(path_ + "/events/" + name + "/enable", "1") == 0,
			     "enabling an event");
		} catch (...) {
			rmdir(path_.c_str());
			throw;
		}
	}
	~Trace() { rmdir(path_.c_str()); }
	Trace(const Trace &) = delete;
	Trace &operator=(const Trace &) = delete;

	/* How many of its lines hold all of @words. */
	std::size_t lines(std::initializer_list<std::string> words) const
	{
		std::istringstream trace(read_file(path_ + "/trace").value());
		std::size_t found = 0;

		for (std::string line; std::getline(trace, line);)
			found += std::all_of(words.begin(), words.end(),
					     [&line](const std::string &word) {
						     return line.find(word) != line.npos;
					     });
		return found;
	}

private:
	std::string path_;
};

/* Who tried to do what, and where, is in the event. */
static void trace()
{
	if (mode() == Mode::absent)
		throw Skip("this kernel has no speculative page faults");
	Arena arena = used_arena();
	Trace trace("pagefault/spf_vma_access");
	std::size_t wanted = mode() == Mode::on;

	must(mprotect(arena.begin(), arena.size(), PROT_READ) == 0, "mprotect");
	expect(writing(arena.page(4)) == "SEGV_ACCERR", "a read-only page was written");
	must(mprotect(arena.begin(), arena.size(), PROT_NONE) == 0, "mprotect");
	expect(reading(arena.page(5)) == "SEGV_ACCERR", "a page without permission was read");

	for (const auto &[page, access] : {std::pair(4, "write"), std::pair(5, "read")}) {
		std::uint64_t at = reinterpret_cast<std::uintptr_t>(arena.page(page)) + inside;
		std::size_t found =
			trace.lines({format("-%d ", gettid()), format("address=%#llx ", number(at)),
				     format(" user %s ", access)});

		expect(found == wanted, "%zu events have the %s at %#llx", found, access,
		       number(at));
	}
}

int main(int argc, char **argv)
{
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"task", task},
				 {"threads_and_children", threads_and_children},
				 {"all_cpus", all_cpus},
				 {"user_and_kernel", user_and_kernel},
				 {"samples", samples},
				 {"aborts", aborts},
				 {"trace", trace},
			 });
}
