// SPDX-License-Identifier: GPL-2.0
/*
 * Anonymous memory with something special about it: what the VMA lacks, allows or
 * promises, and what its page table holds instead of pages. Memory that belongs to
 * somebody else is in spf_foreign, memory armed with userfaultfd in spf_userfault.
 */
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>

#include "accesses.hpp"
#include "cases.hpp"
#include "handling.hpp"
#include "pagemap.hpp"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack 453
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

using namespace spf;

/*
 * Where a test repeats one access, so that its faults are told from any others: 64 times,
 * if up to four pages each are in one page table.
 */
static const std::size_t many = std::min<std::size_t>(64, ptes_per_table() / 4);

static int zero_device()
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	must(zero >= 0, "open of /dev/zero");
	return zero;
}

static void write_stamps(const Arena &arena, std::size_t first = 0)
{
	for (std::size_t i = first; i < arena.pages(); i++)
		*word(arena.page(i)) = stamp(i);
}

static void expect_stamps(const Arena &arena, std::size_t first = 0)
{
	for (std::size_t i = first; i < arena.pages(); i++)
		expect(*word(arena.page(i)) == stamp(i), "page %zu holds %#llx", i,
		       static_cast<unsigned long long>(*word(arena.page(i))));
}

static std::string returned(int result)
{
	return result == 0 ? "ok" : strerrorname_np(errno);
}

/*
 * The first write to a VMA links an anon_vma to it, which only a lock permits. The
 * VMAs of two pages are kept apart by a third one; their page table is there.
 */
static std::string no_anon_vma()
{
	Arena arena(1);

	expect(*arena.page(0) == 0, "fresh memory is not zero");
	for (std::size_t i = 0; i < many; i++)
		must(mprotect(arena.page(3 * i + 3), page_size(), PROT_READ) == 0, "mprotect");
	falls_back({"vma_noanon"}, many, [&] {
		for (std::size_t i = 0; i < many; i++)
			*word(arena.page(3 * i + 1)) = stamp(i);
	});
	mostly_speculates(many, [&] {
		for (std::size_t i = 0; i < many; i++)
			*word(arena.page(3 * i + 2)) = ~stamp(i);
	});
	for (std::size_t i = 0; i < many; i++)
		expect(*word(arena.page(3 * i + 1)) == stamp(i) &&
			       *word(arena.page(3 * i + 2)) == ~stamp(i),
		       "VMA %zu lost a write", i);
	return "ok";
}

/* Page tables are not allocated by speculation; once there, they are used by it. */
static std::string empty_pmd()
{
	Arena arena = used_arena(many + 1);
	std::size_t per_table = table_span() / page_size();

	for (bool write : {false, true}) {
		std::size_t first = write ? 1 : 2;

		falls_back({"pmd_none"}, many / 2, [&] {
			for (std::size_t table = first; table <= many; table += 2) {
				if (write)
					*word(arena.page(table * per_table)) = stamp(table);
				expect(*word(arena.page(table * per_table)) ==
					       (write ? stamp(table) : 0),
				       "table %zu", table);
			}
		});
	}
	mostly_speculates(many, [&] {
		for (std::size_t table = 1; table <= many; table++)
			*word(arena.page(table * per_table + 1)) = stamp(table);
	});
	return "ok";
}

/* In kB. */
static std::uint64_t locked_memory()
{
	return proc_field("/proc/self/smaps_rollup", "Locked");
}

/* Locked memory is there at once, cannot be discarded, and is unlocked in a child. */
static std::string locked()
{
	Arena arena(1);

	must(mlock(arena.begin(), arena.size()) == 0, "mlock");
	expect(locked_memory() * 1024 == arena.size(), "not all is locked");
	expect(Pagemap().bits(arena.begin(), arena.pages(), pagemap_present) ==
		       PageBits(arena.pages(), '1'),
	       "a locked page is not there");
	write_stamps(arena);
	Child([&] {
		expect(locked_memory() == 0, "locked memory was inherited");
		expect_stamps(arena);
		return std::string();
	}).collect();
	mostly_speculates(arena.pages(), [&] { write_stamps(arena); });
	expect_stamps(arena);
	expect(locked_memory() * 1024 == arena.size(), "not all is locked after the writes");
	std::string seen = returned(madvise(arena.begin(), arena.size(), MADV_DONTNEED));

	must(munlock(arena.begin(), arena.size()) == 0, "munlock");
	expect(locked_memory() == 0, "pages stayed locked");
	return seen;
}

static std::string locked_on_fault()
{
	Arena arena(1);

	must(mlock2(arena.begin(), arena.size(), MLOCK_ONFAULT) == 0, "mlock2");
	mostly_speculates(arena.pages() - 2, [&] { takes_both(arena.begin(), arena.pages()); });
	expect(locked_memory() * 1024 == arena.size(), "not all is locked");
	must(munlock(arena.begin(), arena.size()) == 0, "munlock");
	expect(locked_memory() == 0, "pages stayed locked");
	return "ok";
}

/* Memory mapped from now on: there at once, or locked as it is touched. */
static std::string locked_in_future()
{
	must(mlockall(MCL_FUTURE) == 0, "mlockall");
	Arena at_once(1);
	Pagemap pagemap;
	PageBits all(at_once.pages(), '1'), none(at_once.pages(), '0');

	expect(pagemap.bits(at_once.begin(), at_once.pages(), pagemap_present) == all,
	       "a page is not there");
	must(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0, "mlockall");
	Arena on_fault(1);

	expect(pagemap.bits(on_fault.begin(), on_fault.pages(), pagemap_present) == none,
	       "a page is there that nobody touched");
	Counters before = Counters::now();

	mostly_speculates(on_fault.pages() - 2, [&] { write_stamps(on_fault); });
	expect_stamps(on_fault);
	expect(Counters::now().since(before)["unevictable_pgs_mlocked"] >= on_fault.pages(),
	       "pages are there that reclaim may take");
	/* What the heap and the stack have gained is locked as well. */
	expect(locked_memory() * 1024 >= at_once.size() + on_fault.size(), "not all is locked");
	return "ok";
}

static int new_key(const Arena &arena)
{
	int key = pkey_alloc(0, 0);

	if (key < 0)
		throw Skip(format("no protection keys here: %s", strerror(errno)));
	must(pkey_mprotect(arena.begin(), arena.size(), PROT_READ | PROT_WRITE, key) == 0,
	     "pkey_mprotect");
	return key;
}

static void set_rights(int key, unsigned rights)
{
	bool set = pkey_set(key, rights) == 0;

	if (!set && errno == ENOSYS)
		throw Skip("the C library cannot set the rights of a key here");
	must(set, "pkey_set");
}

static std::string protection_key()
{
	Arena arena = used_arena();
	int key = new_key(arena);

	mostly_speculates(many, [&] {
		for (std::size_t i = 0; i < many; i++)
			*word(arena.page(many + i)) = stamp(i);
	});
	set_rights(key, PKEY_DISABLE_WRITE);
	/* In this order: a signal's handler, which we jump out of, has no rights left. */
	std::string seen = reading(arena.page(1));

	seen += " " + writing(arena.page(1));
	set_rights(key, PKEY_DISABLE_ACCESS);
	/* Some of the pages are there, some are not. */
	falls_back({"vma_access"}, 2 * many, [&] {
		for (std::size_t i = 0; i < 2 * many; i++) {
			std::string one = reading(arena.page(many / 2 + i));

			expect(one == "SEGV_PKUERR", "page %zu: %s", many / 2 + i, one.c_str());
		}
	});
	return seen;
}

/* System calls are bound by the key, but for those that look in from outside. */
static std::string protection_key_in_calls()
{
	Arena arena = used_arena();
	int key = new_key(arena), zero = zero_device();
	char buffer[Calls::length];
	iovec local = {buffer, sizeof(buffer)}, remote = {arena.page(0), sizeof(buffer)};
	int ends[2];
	Calls calls;

	must(pipe(ends) == 0, "pipe");
	set_rights(key, PKEY_DISABLE_ACCESS);
	calls.record(write(ends[1], arena.page(0), calls.length));
	calls.record(write(ends[1], arena.page(3), calls.length));
	calls.record(read(zero, arena.page(4), calls.length));
	calls.record(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	set_rights(key, 0);
	calls.record(write(ends[1], arena.page(3), calls.length));
	calls.record(read(zero, arena.page(4), calls.length));
	return calls.seen();
}

static std::string guard_region()
{
	Arena arena = used_arena();
	int zero = zero_device();
	Calls calls;

	if (madvise(arena.page(1), many * page_size(), MADV_GUARD_INSTALL))
		throw Skip("this kernel has no MADV_GUARD_INSTALL");
	falls_back({"pte_notsup"}, many, [&] {
		for (std::size_t i = 1; i <= many; i++) {
			char *page = arena.page(i);
			std::string seen = i % 2 ? reading(page) : writing(page);

			expect(seen == "SEGV_MAPERR", "page %zu: %s", i, seen.c_str());
		}
	});
	calls.record(read(zero, arena.page(1), calls.length));
	must(madvise(arena.page(1), page_size(), MADV_GUARD_REMOVE) == 0, "MADV_GUARD_REMOVE");
	calls.record(read(zero, arena.page(1), calls.length));
	/* A child inherits the guards that are left. */
	std::string child = Child([&] {
				    return reading(arena.page(2)) + " " + writing(arena.page(1));
			    }).collect();

	return calls.seen() + " " + child + " " + writing(arena.page(many + 1));
}

/* While a thread guards the memory and gives it back: written, or SEGV_MAPERR. */
static std::string changing_guard()
{
	Arena arena = used_arena();

	if (madvise(arena.page(1), page_size(), MADV_GUARD_INSTALL))
		throw Skip("this kernel has no MADV_GUARD_INSTALL");
	std::string seen = beside(
		[&] {
			arena.advise(0, arena.size() / 2, MADV_GUARD_INSTALL);
			arena.advise(0, arena.size() / 2, MADV_GUARD_REMOVE);
		},
		[&](int step) {
			char *page = arena.page(step % arena.pages());
			std::string one = writing(page);

			expect(one == "ok" || (one == "SEGV_MAPERR" &&
					       page < arena.page(arena.pages() / 2)),
			       "step %d: %s", step, one.c_str());
		});

	/* Nothing that was written before a guard came shows up behind it. */
	arena.advise(0, arena.size() / 2, MADV_GUARD_INSTALL);
	arena.advise(0, arena.size() / 2, MADV_GUARD_REMOVE);
	for (std::size_t i = 0; i < arena.pages() / 2; i++)
		expect(arena.page(i)[inside] == 0, "page %zu outlived its guard", i);
	return seen;
}

/* Grows to where it is accessed, in user mode and in the kernel. */
static std::string grows_down()
{
	static constexpr std::size_t index = 400;
	Arena arena(tables_of(index + 1));
	char *top = map_stack(arena, index);
	int zero = zero_device(), ends[2];
	std::string seen = writing(top);
	Calls calls;

	falls_back({"vma_none"}, many, [&] {
		for (std::size_t i = 1; i <= many; i++) {
			char *page = top - i * page_size();
			std::string one = i % 2 ? writing(page) : reading(page);

			expect(one == "ok", "page %zu below: %s", i, one.c_str());
		}
	});
	must(pipe(ends) == 0, "pipe");
	calls.record(read(zero, top - 80 * page_size(), calls.length));
	calls.record(write(ends[1], top - 96 * page_size(), calls.length));
	return seen + " " + reading(top - 70 * page_size()) + " " + calls.seen();
}

/* Does not grow close to the mapping below: 256 pages are kept free, see mm/mmap.c. */
static std::string growth_keeps_distance()
{
	static constexpr std::size_t index = 300;
	Arena arena(tables_of(index + 1));
	char *top = map_stack(arena, index);
	Calls calls;

	*arena.page(0) = 1;
	std::string seen = writing(top) + " " + writing(arena.page(257)) + " " +
			   writing(arena.page(256)) + " " + reading(arena.page(1));

	calls.record(read(zero_device(), arena.page(256), calls.length));
	return seen + " " + calls.seen();
}

static std::string deep_stack()
{
	volatile char frame[1024 * 1024];

	for (std::size_t at = sizeof(frame); at; at -= 1024)
		frame[at - 1] = 1;
	return "ok";
}

/* Only calls and returns write to it. */
static std::string shadow_stack()
{
	std::size_t length = many * page_size();
	long at = syscall(SYS_map_shadow_stack, 0, length, 0);

	if (at == -1)
		throw Skip(format("no shadow stacks on this machine: %s", strerror(errno)));
	char *stack = reinterpret_cast<char *>(at);

	falls_back({"vma_notsup"}, many, [&] {
		for (std::size_t i = 0; i < many; i++)
			expect(*word(stack + i * page_size()) == 0, "page %zu is not zero", i);
	});
	return reading(stack) + " " + writing(stack) + " " + writing(stack + page_size());
}

/* The child finds zeroes where the parent asked for that, and nothing else is lost. */
static std::string wiped_on_fork()
{
	Arena arena = used_arena();
	std::size_t half = arena.pages() / 2;

	write_stamps(arena);
	arena.advise(0, arena.size() / 2, MADV_WIPEONFORK);
	std::string seen = Child([&] {
				   for (std::size_t i = 0; i < half; i += 2)
					   expect(*word(arena.page(i)) == 0, "page %zu leaked", i);
				   /* There is a table and an anon_vma from the first write on. */
				   *word(arena.page(1)) = 1;
				   mostly_speculates(half / 2 - 1, [&] {
					   for (std::size_t i = 3; i < half; i += 2)
						   *word(arena.page(i)) = 1;
				   });
				   expect_stamps(arena, half);
				   return std::string("ok");
			   }).collect();

	expect_stamps(arena);
	return seen;
}

static std::string not_forked()
{
	Arena arena = used_arena();

	write_stamps(arena);
	arena.advise(page_size(), page_size(), MADV_DONTFORK);
	std::string seen = Child([&] {
				   return reading(arena.page(1)) + " " + writing(arena.page(1)) +
					  " " + writing(arena.page(0)) + " " +
					  reading(arena.page(2));
			   }).collect();

	expect_stamps(arena);
	return seen;
}

/* Sealed memory is used as ever; what would change the VMA is refused. */
static std::string sealed()
{
	Arena arena = used_arena();

	if (syscall(SYS_mseal, arena.begin(), arena.size(), 0))
		throw Skip(format("no mseal here: %s", strerror(errno)));
	mostly_speculates(arena.pages() - 2, [&] { write_stamps(arena); });
	expect_stamps(arena);
	std::string seen = returned(mprotect(arena.begin(), page_size(), PROT_READ));

	seen += " " + returned(munmap(arena.begin(), page_size()));
	seen += " " + returned(madvise(arena.page(1), page_size(), MADV_DONTNEED));
	return seen + " " + reading(arena.page(1)) + " " + writing(arena.page(1));
}

/* Entries without access, whose pages are there: denied, then as they were. */
static std::string access_taken()
{
	Arena arena(1);

	write_stamps(arena);
	for (int round = 0; round < 2; round++) {
		must(mprotect(arena.begin(), arena.size(), PROT_NONE) == 0, "mprotect");
		falls_back({"vma_access"}, arena.pages(), [&] {
			for (std::size_t i = 0; i < arena.pages(); i++) {
				char *page = arena.page(i);
				std::string seen = i % 2 ? writing(page) : reading(page);

				expect(seen == "SEGV_ACCERR", "page %zu: %s", i, seen.c_str());
			}
		});
		must(mprotect(arena.begin(), arena.size(), PROT_READ | PROT_WRITE) == 0,
		     "mprotect");
		expect_stamps(arena);
		write_stamps(arena);
	}
	expect_stamps(arena);
	return "ok";
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"no_anon_vma", no_anon_vma, "ok"},
		{"empty_pmd", empty_pmd, "ok"},
		{"locked", locked, "EINVAL"},
		{"locked_on_fault", locked_on_fault, "ok"},
		{"locked_in_future", locked_in_future, "ok"},
		{"protection_key", protection_key, "ok SEGV_PKUERR"},
		{"protection_key_in_calls", protection_key_in_calls,
		 "EFAULT EFAULT EFAULT ok ok ok"},
		{"guard_region", guard_region, "EFAULT ok SEGV_MAPERR ok ok"},
		{"changing_guard", changing_guard, "ok"},
		{"grows_down", grows_down, "ok ok ok ok"},
		{"growth_keeps_distance", growth_keeps_distance,
		 "ok ok SEGV_MAPERR SEGV_MAPERR EFAULT"},
		{"deep_stack", deep_stack, "ok"},
		{"shadow_stack", shadow_stack, "ok SEGV_ACCERR SEGV_ACCERR"},
		{"wiped_on_fork", wiped_on_fork, "ok"},
		{"not_forked", not_forked, "SEGV_MAPERR SEGV_MAPERR ok ok"},
		{"sealed", sealed, "EPERM EPERM ok ok ok"},
		{"access_taken", access_taken, "ok"},
	};

	allow_huge_pages(false);
	return run_tests(argc, argv, tests_of(cases));
}
