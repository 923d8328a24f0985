// SPDX-License-Identifier: GPL-2.0
/*
 * Faults that speculation must leave to the ordinary path. What the program sees,
 * signals with si_code and si_addr included, is expected literally, and where the
 * switch can be set it is the same with speculation on and off.
 *
 * Each case runs in a child and returns what it saw as text.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>

#include "child.hpp"
#include "counters.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "team.hpp"
#include "trap.hpp"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

using namespace spf;

/* Accesses aim into pages, so that si_addr shows that it is not rounded. */
static constexpr std::size_t inside = 24;

/* "ok", or signal, code and where: "at" the accessed address or elsewhere. */
static std::string describe(const Signal &signal, const void *accessed)
{
	if (!signal.signo)
		return "ok";
	if (signal.address != accessed)
		return format("signal %d code %d at %p, accessed %p", signal.signo, signal.code,
			      signal.address, accessed);
	if (signal.signo == SIGBUS)
		return signal.code == BUS_ADRERR ? "BUS_ADRERR" : format("SIGBUS %d", signal.code);
	switch (signal.code) {
	case SEGV_MAPERR:
		return "SEGV_MAPERR";
	case SEGV_ACCERR:
		return "SEGV_ACCERR";
	case SEGV_PKUERR:
		return "SEGV_PKUERR";
	default:
		return format("SIGSEGV %d", signal.code);
	}
}

static std::string reading(const char *page)
{
	return describe(try_read(page + inside), page + inside);
}

static std::string writing(char *page)
{
	return describe(try_write(page + inside), page + inside);
}

/*
 * An arena with something in its first and third page: its table is there, and it
 * has an anon_vma, so that nothing but the case itself stands against speculation.
 */
static Arena used_arena()
{
	Arena arena(1);

	*arena.page(0) = *arena.page(2) = 1;
	return arena;
}

static std::string write_protected()
{
	Arena arena = used_arena();

	must(mprotect(arena.begin(), arena.size(), PROT_READ) == 0, "mprotect");
	return writing(arena.page(0)) + " " + writing(arena.page(1)) + " " +
	       reading(arena.page(3)) + " " + writing(arena.page(3));
}

static std::string no_access()
{
	Arena arena = used_arena();

	must(mprotect(arena.begin(), arena.size(), PROT_NONE) == 0, "mprotect");
	return reading(arena.page(0)) + " " + reading(arena.page(1)) + " " + writing(arena.page(1));
}

static std::string unmapped()
{
	Arena arena = used_arena();

	arena.unmap(page_size(), 2 * page_size());
	return reading(arena.page(1)) + " " + writing(arena.page(2)) + " " +
	       writing(arena.page(3)) + " " + describe(try_read(nullptr), nullptr);
}

static std::string not_executable()
{
	Arena arena = used_arena();
	std::string seen;

	for (std::size_t page : {0, 1}) {
		char *code = arena.page(page);

		seen += describe(trap([code] { reinterpret_cast<void (*)()>(code)(); }), code);
		seen += page ? "" : " ";
	}
	return seen;
}

static std::string protection_key()
{
	Arena arena = used_arena();
	int key = pkey_alloc(0, 0);

	if (key < 0)
		throw Skip(format("no protection keys here: %s", strerror(errno)));
	must(pkey_mprotect(arena.begin(), arena.size(), PROT_READ | PROT_WRITE, key) == 0,
	     "pkey_mprotect");
	pkey_set(key, PKEY_DISABLE_WRITE);
	/* In this order: a signal's handler, which we jump out of, has no rights left. */
	std::string seen = reading(arena.page(1));

	seen += " " + writing(arena.page(1));
	pkey_set(key, PKEY_DISABLE_ACCESS);
	return seen + " " + reading(arena.page(0)) + " " + reading(arena.page(3));
}

static std::string guard_region()
{
	Arena arena = used_arena();

	if (madvise(arena.page(1), 2 * page_size(), MADV_GUARD_INSTALL))
		throw Skip("this kernel has no MADV_GUARD_INSTALL");
	return reading(arena.page(1)) + " " + writing(arena.page(2)) + " " + writing(arena.page(3));
}

static std::string past_end_of_file()
{
	int file = memfd_create("spf", 0);

	must(file >= 0 && ftruncate(file, page_size()) == 0, "memfd_create");
	char *pages = static_cast<char *>(
		mmap(nullptr, 2 * page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));

	must(pages != MAP_FAILED, "mmap of a file");
	return writing(pages) + " " + reading(pages + page_size()) + " " +
	       writing(pages + page_size());
}

/* Grows to where it is accessed, and not up to the mapping below. */
static std::string grows_down()
{
	Arena arena(4);
	char *top = arena.page(arena.pages() - 1);

	arena.unmap(page_size(), arena.size() - page_size());
	must(mmap(top, page_size(), PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0) == top,
	     "mmap of a stack");
	return writing(top) + " " + writing(top - 16 * page_size()) + " " +
	       reading(top - 8 * page_size()) + " " + writing(arena.page(1));
}

static std::string deep_stack()
{
	volatile char frame[1024 * 1024];

	for (std::size_t at = sizeof(frame); at; at -= 1024)
		frame[at - 1] = 1;
	return "ok";
}

/* Fresh memory takes writes, and reads as zero before them. */
static std::string takes_both(char *pages, std::size_t count)
{
	for (std::size_t i = 0; i < count; i++) {
		volatile char *at = pages + i * page_size();

		/* Half of the pages are first read, which maps the zero page. */
		if (i % 2)
			expect(*at == 0, "fresh page %zu is not zero", i);
		*at = 1;
		expect(at[1] == 0, "fresh page %zu is not zero", i);
	}
	for (std::size_t i = 0; i < count; i++)
		expect(pages[i * page_size()] == 1, "page %zu lost a write", i);
	return "ok";
}

/* May be dropped under pressure only, so that what is written stays otherwise. */
static char *map_droppable(std::size_t length)
{
	void *pages =
		mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		throw Skip("this kernel has no MAP_DROPPABLE");
	return static_cast<char *>(pages);
}

static std::string droppable()
{
	return takes_both(map_droppable(table_span()), table_span() / page_size());
}

static std::string locked_on_fault()
{
	Arena arena(1);

	must(mlock2(arena.begin(), arena.size(), MLOCK_ONFAULT) == 0, "mlock2");
	takes_both(arena.begin(), arena.pages());
	std::uint64_t locked = proc_field("/proc/self/smaps_rollup", "Locked");

	return locked * 1024 == arena.size() ? "ok" : format("%zu kB locked", locked);
}

/* A handler thread fills each missing page with its number; nobody else may. */
static std::string userfaultfd_missing()
{
	Arena arena = used_arena();
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = {};
	struct uffdio_register range = {};

	if (fd < 0)
		throw Skip(format("no userfaultfd here: %s", strerror(errno)));
	api.api = UFFD_API;
	range.range.start = reinterpret_cast<std::uintptr_t>(arena.begin());
	range.range.len = arena.size();
	range.mode = UFFDIO_REGISTER_MODE_MISSING;
	must(ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0,
	     "ioctl of userfaultfd");

	Team handler(1, [&](unsigned) {
		std::vector<std::size_t> content(page_size() / sizeof(std::size_t));
		struct uffd_msg msg;

		while (!handler.stopping()) {
			if (read(fd, &msg, sizeof(msg)) != sizeof(msg)) {
				sched_yield();
				continue;
			}
			struct uffdio_copy copy = {};

			copy.dst = msg.arg.pagefault.address & -page_size();
			copy.src = reinterpret_cast<std::uintptr_t>(content.data());
			copy.len = page_size();
			content[0] = (copy.dst - range.range.start) / page_size();
			must(ioctl(fd, UFFDIO_COPY, &copy) == 0, "UFFDIO_COPY");
		}
	});

	handler.start();
	for (std::size_t i = 0; i < arena.pages(); i++) {
		volatile std::size_t *at = reinterpret_cast<std::size_t *>(arena.page(i));

		expect(*at == (i == 0 || i == 2 ? 1 : i), "page %zu was not filled by its handler",
		       i);
	}
	handler.stop();
	handler.finish();
	close(fd);
	return "ok";
}

/* The kernel's own accesses: into fresh memory, and where it may not. */
static std::string system_calls()
{
	Arena arena = used_arena();
	int zero = open("/dev/zero", O_RDONLY);
	int ends[2];

	must(zero >= 0 && pipe(ends) == 0, "open of /dev/zero and a pipe");
	must(mprotect(arena.page(4), page_size(), PROT_READ) == 0, "mprotect");
	arena.unmap(5 * page_size(), page_size());

	static constexpr ssize_t length = 64;
	std::string seen;
	auto record = [&seen](ssize_t done) {
		seen += seen.empty() ? "" : " ";
		seen += done == length ? "ok" : done < 0 ? strerrorname_np(errno) : "short";
	};

	record(read(zero, arena.page(1), length));
	record(write(ends[1], arena.page(3), length));
	record(read(zero, arena.page(4), length));
	record(read(zero, arena.page(5), length));
	record(write(ends[1], arena.page(5), length));
	record(read(ends[0], arena.page(3) + page_size() - length, length));
	return seen;
}

/*
 * @step is called over and over beside a thread that does the same with @disturb,
 * until both have had their share.
 */
static std::string beside(const std::function<void()> &disturb,
			  const std::function<void(int)> &step)
{
	std::atomic<int> disturbed{0};
	Team team(1, [&](unsigned) {
		while (!team.stopping()) {
			disturb();
			disturbed++;
		}
	});

	team.start();
	for (int i = 0; (i < 2000 || disturbed < 200) && !team.stopping(); i++)
		step(i);
	team.stop();
	team.finish();
	return "ok";
}

/* While a thread keeps write-locking the VMA and changes no permission: no signal at all. */
static std::string write_locked_vma()
{
	Arena arena(1);

	return beside(
		[&] {
			arena.advise(0, arena.size(), MADV_DONTFORK);
			arena.advise(0, arena.size(), MADV_DOFORK);
		},
		[&](int step) {
			char *page = arena.page(step % arena.pages());
			std::string seen = writing(page);

			expect(seen == "ok", "step %d: %s", step, seen.c_str());
			expect(page[inside] == 1, "step %d: lost a write", step);
			arena.advise(0, arena.size() / 2, MADV_DONTNEED);
		});
}

/* While a thread takes write permission and gives it back: written, or SEGV_ACCERR. */
static std::string changing_permission()
{
	Arena arena = used_arena();

	return beside(
		[&] {
			mprotect(arena.begin(), arena.size(), PROT_READ);
			mprotect(arena.begin(), arena.size(), PROT_READ | PROT_WRITE);
		},
		[&](int step) {
			std::string seen = writing(arena.page(step % arena.pages()));

			expect(seen == "ok" || seen == "SEGV_ACCERR", "step %d: %s", step,
			       seen.c_str());
		});
}

/* While a thread unmaps and maps the memory: what was written, zero, or SEGV_MAPERR. */
static std::string vanishing_vma()
{
	Arena arena = used_arena();

	return beside(
		[&] {
			arena.unmap(0, arena.size() / 2);
			arena.map(0, arena.size() / 2);
		},
		[&](int step) {
			char *page = arena.page(step % (arena.pages() / 2));
			std::string seen = writing(page);
			char value = 0;

			trap([&value, page] {
				value = static_cast<volatile char *>(page)[inside];
			});
			expect(seen == "ok" || seen == "SEGV_MAPERR", "step %d: %s", step,
			       seen.c_str());
			expect(value == 0 || value == 1, "step %d: read %d", step, value);
		});
}

/* A memory cgroup of its own for one child; removed at the end. */
class MemoryGroup {
public:
	explicit MemoryGroup(std::size_t limit)
	{
		std::istringstream mounts(read_file("/proc/mounts").value_or(""));
		std::string device, root, type, line;

		while (mounts >> device >> root >> type && std::getline(mounts, line)) {
			if (type == "cgroup2")
				path_ = root + format("/spf-test-%d", getpid());
		}
		if (path_.empty())
			throw Skip("no cgroup2 file system is mounted");
		std::string parent = path_.substr(0, path_.rfind('/'));

		write_file(parent + "/cgroup.subtree_control", "+memory");
		if (mkdir(path_.c_str(), 0755))
			throw Skip(format("cannot make %s: %s", path_.c_str(), strerror(errno)));
		if (write_file(path_ + "/memory.max", std::to_string(limit))) {
			rmdir(path_.c_str());
			throw Skip("cannot limit memory with a cgroup here");
		}
		write_file(path_ + "/memory.swap.max", "0");
	}
	~MemoryGroup() { rmdir(path_.c_str()); }

	void enter() const
	{
		must(write_file(path_ + "/cgroup.procs", "0") == 0, "entering a cgroup");
	}

private:
	std::string path_;
};

static constexpr std::size_t limit = 16 * 1024 * 1024;

/* In a child, because memory stays charged to the group that it was taken in. */
static std::string limited(std::string (*run)())
{
	MemoryGroup group(limit);

	return Child([&] {
		       group.enter();
		       Counters before = Counters::now();
		       std::string seen = run();
		       Counters moved = Counters::now().since(before);

		       expect(mode() != Mode::on || moved["spf_abort_nomem"],
			      "no speculated fault ran out of memory: %s", moved.summary().c_str());
		       return seen;
	       })
		.collect();
}

/* Speculation cannot reclaim nor kill; the ordinary path then must, as ever. */
static std::string beyond_limit()
{
	return limited([] {
		Arena arena(2 * limit / table_span());

		for (std::size_t i = 0; i < arena.pages(); i++)
			*static_cast<volatile char *>(arena.page(i)) = 1;
		return std::string("not stopped");
	});
}

/* A process that gives up as much as it takes is left alone, and gets its memory. */
static std::string reclaim_at_limit()
{
	return limited([] {
		Arena arenas[] = {Arena(limit / table_span() * 5 / 8),
				  Arena(limit / table_span() * 5 / 8)};

		for (int round = 0; round < 4; round++) {
			Arena &arena = arenas[round % 2];

			for (std::size_t i = 0; i < arena.pages(); i++)
				*reinterpret_cast<volatile int *>(arena.page(i)) = round + 1;
			for (std::size_t i = 0; i < arena.pages(); i++)
				expect(*reinterpret_cast<volatile int *>(arena.page(i)) ==
					       round + 1,
				       "page %zu lost a write", i);
			arena.advise(0, arena.size(), MADV_FREE);
		}
		return std::string("ok");
	});
}

/* Droppable memory makes room for itself; a fault must not be retried for ever. */
static std::string droppable_beyond_limit()
{
	return limited([] {
		char *pages = map_droppable(2 * limit);

		for (std::size_t at = 0; at < 2 * limit; at += page_size()) {
			*static_cast<volatile char *>(pages + at) = 1;
			expect(pages[at] == 0 || pages[at] == 1, "a page holds %d", pages[at]);
		}
		return std::string("ok");
	});
}

struct Case {
	const char *name;
	std::string (*run)();
	const char *expected;
};

static void check(const Case &test)
{
	auto expect_same = [&test](const char *when) {
		std::string seen = Child(test.run).collect();

		expect(seen == test.expected, "%s saw \"%s\", not \"%s\"", when, seen.c_str(),
		       test.expected);
	};

	if (mode() == Mode::absent)
		return expect_same("the program");
	for (const char *value : {"0", "1"}) {
		Setting current(mode_path, value);

		expect_same(*value == '1' ? "with speculation it" : "without speculation it");
	}
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"write_protected", write_protected, "SEGV_ACCERR SEGV_ACCERR ok SEGV_ACCERR"},
		{"no_access", no_access, "SEGV_ACCERR SEGV_ACCERR SEGV_ACCERR"},
		{"unmapped", unmapped, "SEGV_MAPERR SEGV_MAPERR ok SEGV_MAPERR"},
		{"not_executable", not_executable, "SEGV_ACCERR SEGV_ACCERR"},
		{"protection_key", protection_key, "ok SEGV_PKUERR SEGV_PKUERR SEGV_PKUERR"},
		{"guard_region", guard_region, "SEGV_MAPERR SEGV_MAPERR ok"},
		{"past_end_of_file", past_end_of_file, "ok BUS_ADRERR BUS_ADRERR"},
		{"grows_down", grows_down, "ok ok ok SEGV_MAPERR"},
		{"deep_stack", deep_stack, "ok"},
		{"droppable", droppable, "ok"},
		{"locked_on_fault", locked_on_fault, "ok"},
		{"userfaultfd_missing", userfaultfd_missing, "ok"},
		{"system_calls", system_calls, "ok ok EFAULT EFAULT EFAULT ok"},
		{"write_locked_vma", write_locked_vma, "ok"},
		{"changing_permission", changing_permission, "ok"},
		{"vanishing_vma", vanishing_vma, "ok"},
		{"beyond_limit", beyond_limit, "killed by signal 9"},
		{"reclaim_at_limit", reclaim_at_limit, "ok"},
		{"droppable_beyond_limit", droppable_beyond_limit, "ok"},
	};
	std::vector<Test> tests;

	allow_huge_pages(false);
	for (const Case &test : cases)
		tests.push_back({test.name, [&test] {
					 check(test);
				 }});
	return run_tests(argc, argv, tests);
}
