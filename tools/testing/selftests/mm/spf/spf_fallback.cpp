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
	std::string seen = reading(arena.page(1)) + " " + writing(arena.page(1));

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

/* Fresh memory with the given mmap() or mlock2() flags takes reads and writes. */
static std::string takes_both(char *pages, std::size_t count)
{
	for (std::size_t i = 0; i < count; i++) {
		volatile char *at = pages + i * page_size();

		expect(*at == 0, "fresh page %zu is not zero", i);
		*at = 1;
		expect(*at == 1, "page %zu lost a write", i);
	}
	return "ok";
}

static std::string droppable()
{
	char *pages = static_cast<char *>(mmap(nullptr, table_span(), PROT_READ | PROT_WRITE,
					       MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0));

	if (pages == MAP_FAILED)
		throw Skip("this kernel has no MAP_DROPPABLE");
	/* Nothing here presses for memory, so what is written stays. */
	return takes_both(pages, table_span() / page_size());
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
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
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

	std::atomic<std::size_t> handled{0};
	Team handler(1, [&](unsigned) {
		std::vector<std::size_t> content(page_size() / sizeof(std::size_t));
		struct uffd_msg msg;

		while (handled < arena.pages() - 2 && read(fd, &msg, sizeof(msg)) == sizeof(msg)) {
			struct uffdio_copy copy = {};

			copy.dst = msg.arg.pagefault.address & -page_size();
			copy.src = reinterpret_cast<std::uintptr_t>(content.data());
			copy.len = page_size();
			content[0] = (copy.dst - range.range.start) / page_size();
			must(ioctl(fd, UFFDIO_COPY, &copy) == 0, "UFFDIO_COPY");
			handled++;
		}
	});

	handler.start();
	for (std::size_t i = 0; i < arena.pages(); i++) {
		volatile std::size_t *at = reinterpret_cast<std::size_t *>(arena.page(i));

		expect(*at == (i == 0 || i == 2 ? 1 : i), "page %zu was not filled by its handler",
		       i);
	}
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

/* Accesses made beside a thread that gets in their way. */
static constexpr int steps = 2000;

/* While a thread keeps write-locking the VMA and changes no permission: no signal at all. */
static std::string write_locked_vma()
{
	Arena arena(1);
	Team locker(1, [&](unsigned) {
		while (!locker.stopping()) {
			arena.advise(0, arena.size(), MADV_DONTFORK);
			arena.advise(0, arena.size(), MADV_DOFORK);
		}
	});

	locker.start();
	for (int step = 0; step < steps; step++) {
		char *page = arena.page(step % arena.pages());
		std::string seen = writing(page);

		expect(seen == "ok", "step %d: %s", step, seen.c_str());
		expect(page[inside] == 1, "step %d: lost a write", step);
		arena.advise(0, arena.size() / 2, MADV_DONTNEED);
	}
	locker.stop();
	locker.finish();
	return "ok";
}

/* While a thread takes write permission and gives it back: written, or SEGV_ACCERR. */
static std::string changing_permission()
{
	Arena arena = used_arena();
	Team changer(1, [&](unsigned) {
		while (!changer.stopping()) {
			mprotect(arena.begin(), arena.size(), PROT_READ);
			mprotect(arena.begin(), arena.size(), PROT_READ | PROT_WRITE);
		}
	});

	changer.start();
	for (int step = 0; step < steps; step++) {
		std::string seen = writing(arena.page(step % arena.pages()));

		expect(seen == "ok" || seen == "SEGV_ACCERR", "step %d: %s", step, seen.c_str());
	}
	changer.stop();
	changer.finish();
	return "ok";
}

/* While a thread unmaps and maps the memory: what was written, zero, or SEGV_MAPERR. */
static std::string vanishing_vma()
{
	Arena arena = used_arena();
	Team mapper(1, [&](unsigned) {
		while (!mapper.stopping()) {
			arena.unmap(0, arena.size() / 2);
			arena.map(0, arena.size() / 2);
		}
	});

	mapper.start();
	for (int step = 0; step < steps; step++) {
		char *page = arena.page(step % (arena.pages() / 2));
		std::string seen = writing(page);
		char value = 0;

		if (seen == "ok")
			trap([&value, page] {
				value = *static_cast<volatile char *>(page + inside);
			});
		expect(seen == "ok" || seen == "SEGV_MAPERR", "step %d: %s", step, seen.c_str());
		expect(value == 0 || value == 1, "step %d: read %d", step, value);
	}
	mapper.stop();
	mapper.finish();
	return "ok";
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

/* Speculation cannot reclaim nor kill; the ordinary path then must, as ever. */
static std::string beyond_memory_limit()
{
	static constexpr std::size_t limit = 16 * 1024 * 1024;
	MemoryGroup group(limit);

	return Child([&group] {
		       group.enter();
		       Arena arena(2 * limit / table_span());

		       takes_both(arena.begin(), arena.pages());
		       return std::string("not stopped");
	       })
		.collect();
}

/* Near its limit a process that frees as much as it takes is left alone. */
static std::string near_memory_limit()
{
	static constexpr std::size_t limit = 16 * 1024 * 1024;
	MemoryGroup group(limit);

	return Child([&group] {
		       group.enter();
		       Arena arena(limit / table_span() * 7 / 8);

		       for (int round = 0; round < 4; round++) {
			       takes_both(arena.begin(), arena.pages());
			       arena.advise(0, arena.size(), MADV_DONTNEED);
		       }
		       return std::string("ok");
	       })
		.collect();
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
		{"beyond_memory_limit", beyond_memory_limit, "killed by signal 9"},
		{"near_memory_limit", near_memory_limit, "ok"},
	};
	std::vector<Test> tests;

	allow_huge_pages(false);
	for (const Case &test : cases)
		tests.push_back({test.name, [&test] {
					 check(test);
				 }});
	return run_tests(argc, argv, tests);
}
