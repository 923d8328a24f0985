// SPDX-License-Identifier: GPL-2.0
/*
 * Faults that the kernel takes in a program's memory, while it copies there or from
 * there: resolved speculatively and without mmap_lock by count, and right by content;
 * refused where the program may not go, with what it may do unchanged.
 */
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

#include <algorithm>
#include <csignal>

#include "cases.hpp"
#include "child.hpp"
#include "counters.hpp"
#include "file.hpp"
#include "io_uring.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "oracle.hpp"
#include "pagemap.hpp"
#include "perf_event.hpp"
#include "team.hpp"
#include "trap.hpp"
#include "vhost.hpp"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

using namespace spf;

/* 2048 pages with 4K pages. */
static const std::size_t tables = tables_of(std::min<std::size_t>(2048, usual_faults()));

/* In shared memory, where no fault is for a disk. */
static const char *scratch = "/dev/shm";

/* All of it but the first page of each table, which is there so that the table is. */
class Untouched : public Arena {
public:
	explicit Untouched(std::size_t tables = ::tables) : Arena(tables)
	{
		for (std::size_t at = 0; at < size(); at += table_span())
			*static_cast<volatile char *>(begin() + at) = 1;
	}

	/* For what was mapped there later. */
	void touch_tables() const
	{
		for (std::size_t at = 0; at < size(); at += table_span())
			(void)*static_cast<volatile char *>(begin() + at);
	}

	template <class Visit> void each(std::size_t step, Visit visit) const
	{
		std::size_t per_table = table_span() / page_size();

		for (std::size_t first = 0; first < pages(); first += per_table) {
			for (std::size_t i = 1; i + step <= per_table; i += step)
				visit(page(first + i), first + i);
		}
	}
	/* By the page tables: mincore() would tell of the page cache as well. */
	std::size_t present() const
	{
		PageBits bits = Pagemap().bits(begin(), pages(), pagemap_present);

		return std::count(bits.begin(), bits.end(), '1');
	}
};

/*
 * Has the kernel touch each @step pages of fresh memory twice. The first time each
 * fault is speculated, and only those that were aborted may take mmap_lock, beside
 * what the system call itself does, which the second time shows. Of each touch's
 * faults @unseen are where perf does not follow: in threads of the kernel's own, and
 * in those that end.
 */
template <class Touch>
static void resolves(const Untouched &memory, std::size_t step, Touch touch, std::size_t unseen = 0)
{
	PerfEvent events = mmap_lock_attempts();
	auto locked_by_touching = [&] {
		std::uint64_t before = events.count();

		memory.each(step, touch);
		return events.count() - before;
	};
	std::size_t present = memory.present();
	Counters before = Counters::now();
	std::uint64_t locked = locked_by_touching();
	Counters moved = Counters::now().since(before);
	std::size_t faults = memory.present() - present;
	std::uint64_t own = locked_by_touching();

	expect(faults >= usual_faults() / 4, "only %zu pages were touched", faults);
	expect_resolved(moved, faults);
	note("%zu faults, mmap_lock %llu times, %llu without a fault", faults,
	     static_cast<unsigned long long>(locked), static_cast<unsigned long long>(own));
	/* Or else this counts nothing. */
	std::size_t seen = faults - std::min(faults, memory.pages() / step * unseen);

	expect(mode() == Mode::on || locked >= own + seen * 99 / 100,
	       "without speculation mmap_lock was taken %llu times for %zu faults",
	       static_cast<unsigned long long>(locked), faults);
	expect(mode() != Mode::on || locked <= own + moved.attempt() - moved.success(),
	       "mmap_lock was taken %llu times, %llu times without a fault: %s",
	       static_cast<unsigned long long>(locked), static_cast<unsigned long long>(own),
	       moved.summary().c_str());
}

static constexpr ssize_t length = 64;

/* What a system call says: nothing but "ok" when all went through. */
static std::string said(ssize_t done, ssize_t whole)
{
	if (done < 0 && errno == ENOSYS)
		throw Skip("a system call is missing: CONFIG_CROSS_MEMORY_ATTACH is off");
	if (done < 0)
		return strerrorname_np(errno);
	return done == whole ? "ok" : std::to_string(done);
}

static void expect_ok(ssize_t done, ssize_t whole, std::size_t page)
{
	std::string what = said(done, whole);

	expect(what == "ok", "page %zu: %s of %zd bytes", page, what.c_str(), whole);
}

static void expect_zero(const Untouched &memory)
{
	memory.each(1, [](char *page, std::size_t index) { expect_stamp(page, index, 0); });
}

static void expect_stamps(const Untouched &memory)
{
	memory.each(1, [](char *page, std::size_t index) {
		expect_stamp(page, index, stamp(1, index));
	});
}

/* @fill reads a page's content from a file, of which it gets the number. */
template <class Fill> static void fills_pages(Fill fill, std::size_t unseen = 0)
{
	Untouched memory;
	File file(scratch);

	file.write(0, memory.pages(), 1);
	auto fill_one = [&](char *page, std::size_t index) {
		expect_ok(fill(file.fd(), page, index * page_size()), page_size(), index);
	};

	resolves(memory, 1, fill_one, unseen);
	expect_stamps(memory);
}

static void read_file_page()
{
	fills_pages([](int file, char *page, std::size_t offset) {
		return pread(file, page, page_size(), offset);
	});
}

/* In the context of the one who submits, and in that of a worker. */
static void io_uring_page()
{
	IoUring ring;

	fills_pages([&](int file, char *page, std::size_t offset) {
		return ring.read(file, page, page_size(), offset);
	});
}

static void io_uring_worker()
{
	IoUring ring;

	auto fill = [&](int file, char *page, std::size_t offset) {
		return ring.read(file, page, page_size(), offset, IOSQE_ASYNC);
	};

	fills_pages(fill, 1);
}

/* What was never written is written as zeroes, over what was there. */
static void write_file_page()
{
	Untouched memory;
	File file(scratch);
	std::vector<char> content(page_size(), 'x');

	resolves(memory, 1, [&](char *page, std::size_t index) {
		must(pwrite(file.fd(), content.data(), page_size(), 0) > 0, "pwrite");
		expect_ok(pwrite(file.fd(), page, length, 0), length, index);
	});
	must(pread(file.fd(), content.data(), page_size(), 0) > 0, "pread");
	for (std::size_t i = 0; i < page_size(); i++)
		expect(content[i] == (i < std::size_t{length} ? 0 : 'x'), "byte %zu written is %d",
		       i, content[i]);
	expect_zero(memory);
}

/* From a file's page that is in the cache, and mapped by nobody. */
static void write_from_file()
{
	Setting one_page("/sys/kernel/debug/fault_around_bytes", std::to_string(page_size()));
	Untouched memory;
	File file(scratch), sink(scratch);

	file.write(0, memory.pages(), 1);
	memory.map_file(file.fd(), PROT_READ, MAP_PRIVATE);
	memory.touch_tables();
	resolves(memory, 1, [&](char *page, std::size_t index) {
		std::uint64_t content = 0;

		expect_ok(pwrite(sink.fd(), page, sizeof(content), 0), sizeof(content), index);
		must(pread(sink.fd(), &content, sizeof(content), 0) == sizeof(content), "pread");
		expect(content == stamp(1, index), "of page %zu %#llx was written", index,
		       static_cast<unsigned long long>(content));
	});
}

static void write_pipe()
{
	Untouched memory;
	char content[length];
	int ends[2];

	must(pipe(ends) == 0, "pipe");
	resolves(memory, 1, [&](char *page, std::size_t index) {
		expect_ok(write(ends[1], page, length), length, index);
		must(read(ends[0], content, length) == length, "read from a pipe");
		expect(std::count(content, content + length, 0) == length,
		       "page %zu was not written as zeroes", index);
	});
	close(ends[0]);
	close(ends[1]);
	expect_zero(memory);
}

/* A process that does nothing, and whose first pages of @memory hold stamps. */
class Other {
public:
	static std::size_t pages() { return std::min<std::size_t>(64, ptes_per_table()); }

	explicit Other(const Arena &memory)
		: child_([&memory] {
			  for (std::size_t i = 0; i < pages(); i++) {
				  *front_word(memory.page(i)) = stamp(1, i);
				  *back_word(memory.page(i)) = stamp(1, i);
			  }
			  raise(SIGSTOP);
			  return std::string();
		  })
	{
		int status;

		must(waitpid(child_.pid(), &status, WUNTRACED) == child_.pid(), "waitpid");
		expect(WIFSTOPPED(status), "a child ended with status %#x", status);
	}
	~Other() { kill(child_.pid(), SIGKILL); }

	pid_t pid() const { return child_.pid(); }

private:
	Child child_;
};

/* The other side's memory is pinned under its own mmap_lock; ours is copied to. */
static void process_vm_readv_page()
{
	Untouched memory;
	Arena theirs(1);
	Other other(theirs);

	resolves(memory, 1, [&](char *page, std::size_t index) {
		struct iovec local = {page, page_size()};
		struct iovec remote = {theirs.page(index % Other::pages()), page_size()};

		expect_ok(process_vm_readv(other.pid(), &local, 1, &remote, 1, 0), page_size(),
			  index);
	});
	memory.each(1, [](char *page, std::size_t index) {
		expect_stamp(page, index, stamp(1, index % Other::pages()));
	});
}

static void process_vm_writev_page()
{
	Untouched memory;
	Arena theirs(1);
	Other other(theirs);

	resolves(memory, 1, [&](char *page, std::size_t index) {
		struct iovec local = {page, length};
		struct iovec remote = {theirs.page(0), length};

		expect_ok(process_vm_writev(other.pid(), &local, 1, &remote, 1, 0), length, index);
	});

	char content[length] = {1};
	struct iovec local = {content, length}, remote = {theirs.page(0), length};

	must(process_vm_readv(other.pid(), &local, 1, &remote, 1, 0) == length, "process_vm_readv");
	expect(std::count(content, content + length, 0) == length, "zeroes were not written");
	expect_zero(memory);
}

static long futex(void *word, int operation, std::uint32_t value, void *word2 = nullptr,
		  std::uint32_t value3 = 0)
{
	return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, word2,
		       value3);
}

/* First tried with faults disabled, then read again. The value differs: no wait. */
static void futex_wait()
{
	Untouched memory;

	resolves(memory, 1, [](char *page, std::size_t index) {
		long result = futex(page, FUTEX_WAIT, 1);

		expect(result == -1 && errno == EAGAIN, "FUTEX_WAIT on page %zu: %s", index,
		       result ? strerror(errno) : "waited");
	});
	expect_zero(memory);
}

/*
 * The operation runs with faults disabled, and what makes the page present holds
 * mmap_lock: nothing that speculation may meddle with.
 */
static void futex_wake_op()
{
	Untouched memory;
	std::uint32_t word = 0;
	Counters before = Counters::now();
	std::size_t faults = 0;

	memory.each(1, [&](char *page, std::size_t index) {
		long result = futex(&word, FUTEX_WAKE_OP, 0, page,
				    FUTEX_OP(FUTEX_OP_SET, 7, FUTEX_OP_CMP_EQ, 1));

		expect(result == 0, "FUTEX_WAKE_OP on page %zu: %ld", index, result);
		faults++;
	});
	Counters moved = Counters::now().since(before);

	memory.each(1, [](char *page, std::size_t index) {
		expect(*front_word(page) == 7 && *back_word(page) == 0,
		       "page %zu after FUTEX_WAKE_OP", index);
	});
	expect(moved.attempt() <= faults * 5 / 100, "speculated with faults disabled: %s",
	       moved.summary().c_str());
}

/*
 * Within each fault a sample of the stack is taken, with faults disabled, and runs into
 * what was never touched: it ends there, which neither adds a page nor harms the fault.
 */
static const Untouched *sampled;
static ucontext_t sampler, back;

static void write_sampled()
{
	sampled->each(1, [](char *page, std::size_t index) {
		if (index >= sampled->pages() / 2)
			*front_word(page) = stamp(1, index);
	});
}

static void sampled_faults()
{
	static constexpr std::size_t stack_pages = 16, ring_pages = 8;
	Untouched memory(2 * tables);
	struct perf_event_attr attr = {};

	attr.type = PERF_TYPE_SOFTWARE;
	attr.size = sizeof(attr);
	attr.config = PERF_COUNT_SW_PAGE_FAULTS_MIN;
	attr.sample_period = 1;
	attr.sample_type = PERF_SAMPLE_STACK_USER;
	/* Its size is one of 16 bits, and a multiple of eight. */
	attr.sample_stack_user = std::min<std::size_t>(2 * page_size(), 65536 - 8);
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		throw Skip(format("cannot sample faults: %s", strerror(errno)));
	/* Not writable for us: the oldest samples are overwritten. */
	void *ring = mmap(nullptr, (1 + ring_pages) * page_size(), PROT_READ, MAP_SHARED, fd, 0);

	must(ring != MAP_FAILED, "mmap of a ring for samples");
	must(getcontext(&sampler) == 0, "getcontext");
	sampler.uc_stack.ss_sp = memory.page(1);
	sampler.uc_stack.ss_size = stack_pages * page_size();
	sampler.uc_link = &back;
	makecontext(&sampler, write_sampled, 0);
	sampled = &memory;
	Counters before = Counters::now();

	must(swapcontext(&back, &sampler) == 0, "swapcontext");
	Counters moved = Counters::now().since(before);
	bool sampled_something = static_cast<struct perf_event_mmap_page *>(ring)->data_head;

	munmap(ring, (1 + ring_pages) * page_size());
	close(fd);
	expect(sampled_something, "there is no sample");

	std::size_t present = memory.present(), half = memory.pages() / 2;

	expect(present <= half + tables + stack_pages, "%zu pages are there, %zu were touched",
	       present, half);
	memory.each(1, [half](char *page, std::size_t index) {
		if (index >= half)
			expect(*front_word(page) == stamp(1, index) && *back_word(page) == 0,
			       "page %zu holds %#llx", index,
			       static_cast<unsigned long long>(*front_word(page)));
	});
	expect_resolved(moved, half - tables);
	expect(moved.attempt() <= half * 105 / 100, "speculated with faults disabled: %s",
	       moved.summary().c_str());
}

static void getcpu_page()
{
	OneCpu here;
	Untouched memory;

	resolves(memory, 1, [](char *page, std::size_t) {
		must(syscall(SYS_getcpu, page, nullptr, nullptr) == 0, "getcpu");
	});
	memory.each(1, [](char *page, std::size_t index) {
		expect(*front_word(page) == static_cast<std::uint64_t>(sched_getcpu()),
		       "page %zu: not on CPU %llu", index,
		       static_cast<unsigned long long>(*front_word(page)));
	});
}

/*
 * When a thread starts, its number is written; when it ends, its list of robust mutexes
 * is read and a word cleared. A page each; the second time none of it is fresh.
 */
static int start_and_end(void *pages)
{
	char *memory = static_cast<char *>(pages);

	syscall(SYS_set_robust_list, memory + page_size(), 3 * sizeof(long));
	syscall(SYS_set_tid_address, memory + 2 * page_size());
	return 0;
}

static void start_and_end_of_thread()
{
	Untouched memory;
	std::vector<char> stack(64 * 1024);
	std::vector<pid_t> numbers;

	auto start_and_end_one = [&](char *pages, std::size_t) {
		pid_t pid = clone(start_and_end, stack.data() + stack.size(),
				  CLONE_VM | CLONE_VFORK | CLONE_CHILD_SETTID |
					  CLONE_CHILD_CLEARTID | SIGCHLD,
				  pages, nullptr, nullptr, pages);

		must(pid > 0 && waitpid(pid, nullptr, 0) == pid, "clone of a thread");
		numbers.push_back(pid);
	};

	resolves(memory, 3, start_and_end_one, 2);
	std::size_t next = numbers.size() / 2;

	memory.each(3, [&](char *pages, std::size_t index) {
		expect_stamp(pages + page_size(), index + 1, 0);
		expect_stamp(pages + 2 * page_size(), index + 2, 0);
		expect(*front_word(pages) == static_cast<std::uint64_t>(numbers[next]),
		       "page %zu has thread %llu, expected %d", index,
		       static_cast<unsigned long long>(*front_word(pages)), numbers[next]);
		next++;
	});
}

static volatile sig_atomic_t signal_value;

static void on_signal(int, siginfo_t *info, void *)
{
	signal_value = info->si_value.sival_int;
}

/* Each on a stack of its own that nobody has touched: the kernel writes the frame. */
static void signal_frame()
{
	std::size_t least = std::max<std::size_t>(getauxval(AT_MINSIGSTKSZ), MINSIGSTKSZ);
	std::size_t stack = (least + 8192 + page_size() - 1) / page_size();
	Untouched memory(4 * tables);
	struct sigaction action = {}, old_action;
	stack_t old_stack;

	action.sa_sigaction = on_signal;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK;
	must(sigaction(SIGUSR1, &action, &old_action) == 0, "sigaction");
	must(sigaltstack(nullptr, &old_stack) == 0, "sigaltstack");
	resolves(memory, stack, [&](char *pages, std::size_t index) {
		stack_t here = {pages, 0, stack * page_size()};
		sigval value = {};

		value.sival_int = index;
		must(sigaltstack(&here, nullptr) == 0, "sigaltstack");
		must(sigqueue(getpid(), SIGUSR1, value) == 0, "sigqueue");
		expect(signal_value == static_cast<int>(index), "signal %zu brought %d", index,
		       static_cast<int>(signal_value));
	});
	sigaltstack(&old_stack, nullptr);
	sigaction(SIGUSR1, &old_action, nullptr);
}

/* A kernel thread may use memory that nobody keeps for it: each of its faults is refused. */
static void kernel_thread()
{
	static constexpr std::uint64_t packets = 100;
	Arena memory(1);
	File file(scratch);

	file.resize(memory.pages());
	memory.map_file(file.fd(), PROT_READ | PROT_WRITE, MAP_SHARED);
	Vhost vhost(memory);
	Counters before = Counters::now();

	for (std::uint64_t i = 0; i < packets; i++)
		vhost.take_packet();
	Counters moved = Counters::now().since(before);

	expect(moved["pgfault"] >= packets, "there were no faults: %s", moved.summary().c_str());
	expect(mode() != Mode::on || moved["spf_abort_kthread"] >= packets,
	       "a kernel thread speculated: %s", moved.summary().c_str());
}

/* The kernel's ways into @memory, then those out of it, @whole bytes where they take more. */
static std::string all_ways(char *memory, ssize_t whole = length)
{
	IoUring ring;
	File file(scratch), sink(scratch);
	std::vector<char> own(whole);
	struct iovec there = {memory, own.size()}, here = {own.data(), own.size()};
	std::string seen;

	file.write(0, 1, 1);
	auto add = [&](const std::string &what) {
		seen += (seen.empty() ? "" : " ") + what;
	};

	add(said(pread(file.fd(), memory, whole, 0), whole));
	add(said(process_vm_readv(getpid(), &there, 1, &here, 1, 0), whole));
	add(said(ring.read(file.fd(), memory, whole, 0), whole));
	add(said(syscall(SYS_getcpu, memory, nullptr, nullptr), 0));
	add(said(futex(own.data(), FUTEX_WAKE_OP, 0, memory,
		       FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 1)),
		 0));
	add("|");
	add(said(pwrite(sink.fd(), memory, whole, 0), whole));
	add(said(process_vm_writev(getpid(), &there, 1, &here, 1, 0), whole));
	/* Differs from all that is written by the others. */
	add(futex(memory, FUTEX_WAIT, 0x12345678) < 0 && errno == EAGAIN ? "ok"
									 : strerrorname_np(errno));
	return seen;
}

/* In each of these places: what differs is said one after the other. */
static std::string all_ways(std::initializer_list<char *> places)
{
	std::string all;

	for (char *memory : places) {
		std::string seen = all_ways(memory);

		if (all.find(seen) == all.npos)
			all += (all.empty() ? "" : "; ") + seen;
	}
	return all;
}

static const char all_well[] = "ok ok ok ok ok | ok ok ok";
static const char all_fault[] = "EFAULT EFAULT EFAULT EFAULT EFAULT | EFAULT EFAULT EFAULT";
static const char all_in_fault[] = "EFAULT EFAULT EFAULT EFAULT EFAULT | ok ok ok";

static std::string fresh()
{
	Untouched memory(1);

	return all_ways(memory.page(1));
}

/* What all_ways() maps for itself is mapped above, and not in a hole of this. */
template <class Memory> static Memory below_room(std::size_t tables)
{
	Arena room(1);

	return Memory(tables);
}

static std::string unmapped()
{
	Untouched memory = below_room<Untouched>(1);

	memory.unmap(page_size(), page_size());
	return all_ways(memory.page(1));
}

/* Not even a page table. */
static std::string far_from_all()
{
	Arena memory = below_room<Arena>(1);

	memory.unmap(0, memory.size());
	return all_ways(memory.begin());
}

static std::string with_protection(int protection)
{
	Untouched memory(1);

	must(mprotect(memory.begin(), memory.size(), protection) == 0, "mprotect");
	return all_ways({memory.page(0), memory.page(1)});
}

static std::string no_access()
{
	return with_protection(PROT_NONE);
}

static std::string read_only()
{
	return with_protection(PROT_READ);
}

static std::string guard_region()
{
	Untouched memory(1);

	if (madvise(memory.page(1), page_size(), MADV_GUARD_INSTALL))
		throw Skip("this kernel has no MADV_GUARD_INSTALL");
	return all_ways(memory.page(1));
}

/* SIGBUS, would the program do it. */
static std::string beyond_end_of_file(int flags)
{
	Arena memory(1);
	File file(scratch);

	file.write(0, 1, 1);
	memory.map_file(file.fd(), PROT_READ | PROT_WRITE, flags);
	return all_ways(memory.page(1));
}

static std::string beyond_end_of_shared()
{
	return beyond_end_of_file(MAP_SHARED);
}

static std::string beyond_end_of_private()
{
	return beyond_end_of_file(MAP_PRIVATE);
}

/* The kernel's own memory, and what no address space has. */
static std::string not_the_programs()
{
	auto at = [](std::uintptr_t address) {
		return reinterpret_cast<char *>(address);
	};

	return all_ways({at(-(std::uintptr_t{1} << 63)), at(-(std::uintptr_t{1} << 47)),
			 at(-page_size()), at(std::uintptr_t{1} << 62)});
}

/* Half of it is there: what could be copied was, and is counted. */
static std::string across_an_edge()
{
	Untouched memory = below_room<Untouched>(1);

	memory.unmap(2 * page_size(), page_size());
	return all_ways(memory.page(2) - length, 2 * length);
}

static std::string grows_down()
{
	/* Farther from what is below than the 256 pages that are kept free, see mm/mmap.c. */
	static constexpr std::size_t index = 300;
	Arena memory = below_room<Arena>(tables_of(index + 1));

	return all_ways(map_stack(memory, index) - 4 * page_size());
}

/*
 * Where the program is stopped by a signal that it handles, because the kernel cannot
 * write its frame, it must be killed: by SIGSEGV, not by what it was sent.
 */
static std::string frame_on_no_stack()
{
	Untouched memory(1);
	struct sigaction action = {};
	stack_t stack = {memory.page(0), 0, memory.size() / 2};

	must(mprotect(memory.begin(), memory.size(), PROT_READ) == 0, "mprotect");
	action.sa_handler = [](int) {
	};
	action.sa_flags = SA_ONSTACK;
	must(sigaction(SIGUSR1, &action, nullptr) == 0, "sigaction");
	must(sigaltstack(&stack, nullptr) == 0, "sigaltstack");
	signal(SIGSEGV, SIG_DFL);
	raise(SIGUSR1);
	return "the signal was handled";
}

/*
 * System calls into and out of memory that another thread takes away and gives back:
 * each says how much it did or EFAULT, and what it did is in its place.
 */
static void storm(const std::function<void(Arena &, Dice &)> &churn)
{
	static constexpr unsigned callers = 3;
	static constexpr std::size_t at_once = 16;
	Arena memory(tables_of(512));
	File file(scratch);
	Oracle oracle;
	Dice dice;
	std::size_t share = memory.pages() / callers / at_once * at_once;

	file.write(0, memory.pages(), 1);
	/* Zero since it was last mapped, or what was read into it, byte by byte. */
	auto look = [&](std::uint64_t seen, std::size_t page) {
		std::uint64_t read = stamp(1, page);

		for (std::uint64_t byte = 0xff; byte; byte <<= 8) {
			if ((seen & byte) && (seen & byte) != (read & byte)) {
				oracle.violated("page %zu holds %#llx", page,
						static_cast<unsigned long long>(seen));
				return;
			}
		}
	};
	auto ended = [&](const char *call, ssize_t done) {
		if (done < 0 ? errno != EFAULT
			     : done == 0 || done > static_cast<ssize_t>(at_once * page_size()))
			oracle.violated("%s: %s", call, said(done, 0).c_str());
	};
	/* Not mapped where @churn has made a hole. */
	std::vector<std::vector<char>> contents(callers, std::vector<char>(at_once * page_size()));
	Counters before = Counters::now();
	Team team(callers, [&](unsigned id) {
		std::vector<char> &content = contents[id];
		File sink(scratch);
		std::size_t first = id * share;

		for (std::size_t step = 0; step < 100 || !team.stopping(); step++) {
			std::size_t page = first + step * at_once % share;
			ssize_t done = pread(file.fd(), memory.page(page), content.size(),
					     page * page_size());

			ended("read", done);
			for (std::size_t i = page; i < page + at_once; i++) {
				std::uint64_t seen = 0;

				trap([&seen, at = front_word(memory.page(i))] { seen = *at; });
				look(seen, i);
			}
			done = pwrite(sink.fd(), memory.page(page), content.size(), 0);
			ended("write", done);
			if (done < 0)
				continue;
			must(pread(sink.fd(), content.data(), done, 0) == done, "pread");
			for (ssize_t at = 0; at + 8 <= done; at += page_size())
				look(*front_word(&content[at]), page + at / page_size());
		}
	});

	team.start();
	for (unsigned i = 0; i < scaled(400) && !team.stopping(); i++)
		churn(memory, dice);
	team.stop();
	team.finish();

	Counters moved = Counters::now().since(before);

	oracle.check();
	Memory rss = Memory::now();

	expect(rss.counted == rss.walked, "rss counts %llu kB, but %llu kB are mapped",
	       static_cast<unsigned long long>(rss.counted),
	       static_cast<unsigned long long>(rss.walked));
	expect_speculated(moved, moved["pgfault"] * 25 / 100);
}

static void unmapped_meanwhile()
{
	storm([](Arena &memory, Dice &dice) {
		std::size_t first = dice.below(memory.pages());
		std::size_t count =
			1 + dice.below(std::min<std::size_t>(memory.pages() - first, 64));

		memory.unmap(first * page_size(), count * page_size());
		if (dice.below(2))
			sched_yield();
		memory.map(first * page_size(), count * page_size());
	});
}

static void protected_meanwhile()
{
	storm([](Arena &memory, Dice &dice) {
		std::size_t first = dice.below(memory.pages());
		std::size_t count =
			1 + dice.below(std::min<std::size_t>(memory.pages() - first, 64));
		int protection = dice.below(2) ? PROT_READ : PROT_NONE;

		must(mprotect(memory.page(first), count * page_size(), protection) == 0,
		     "mprotect");
		if (dice.below(2))
			sched_yield();
		must(mprotect(memory.begin(), memory.size(), PROT_READ | PROT_WRITE) == 0,
		     "mprotect");
		/* So that there are faults to come. */
		memory.discard_but_one_per_table();
	});
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"fresh", fresh, all_well},
		{"unmapped", unmapped, all_fault},
		{"far_from_all", far_from_all, all_fault},
		{"no_access", no_access, all_fault},
		{"read_only", read_only, all_in_fault},
		{"guard_region", guard_region, all_fault},
		{"beyond_end_of_shared", beyond_end_of_shared, all_fault},
		{"beyond_end_of_private", beyond_end_of_private, all_fault},
		{"not_the_programs", not_the_programs, all_fault},
		{"across_an_edge", across_an_edge, "64 64 64 ok ok | 64 64 ok"},
		{"grows_down", grows_down, all_well},
		{"frame_on_no_stack", frame_on_no_stack, "killed by signal 11"},
	};
	std::vector<Test> tests = {
		{"read_file", read_file_page},
		{"write_file", write_file_page},
		{"write_from_file", write_from_file},
		{"write_pipe", write_pipe},
		{"process_vm_readv", process_vm_readv_page},
		{"process_vm_writev", process_vm_writev_page},
		{"io_uring", io_uring_page},
		{"io_uring_worker", io_uring_worker},
		{"futex_wait", futex_wait},
		{"futex_wake_op", futex_wake_op},
		{"sampled_faults", sampled_faults},
		{"getcpu", getcpu_page},
		{"start_and_end_of_thread", start_and_end_of_thread},
		{"signal_frame", signal_frame},
		{"kernel_thread", kernel_thread},
	};

	for (const Test &test : tests_of(cases))
		tests.push_back(test);
	tests.push_back({"unmapped_meanwhile", unmapped_meanwhile});
	tests.push_back({"protected_meanwhile", protected_meanwhile});
	allow_huge_pages(false);
	return run_tests(argc, argv, tests);
}
