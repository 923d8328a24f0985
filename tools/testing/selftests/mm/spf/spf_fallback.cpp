// SPDX-License-Identifier: GPL-2.0
/*
 * Faults that speculation must leave to the ordinary path: what is not permitted,
 * what changes meanwhile, what finds no memory. Kinds of memory are in spf_special.
 */
#include <fcntl.h>

#include <deque>

#include "accesses.hpp"
#include "cases.hpp"
#include "cgroup.hpp"
#include "failures.hpp"
#include "handling.hpp"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

using namespace spf;

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
	std::size_t pages = table_span() / page_size();
	char *memory = map_droppable(table_span());
	std::string seen;

	/* The first write links an anon_vma, and the first fault makes a table. */
	mostly_speculates(pages - 2, [&] { seen = takes_both(memory, pages); });
	return seen;
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

	Calls calls;

	calls.record(read(zero, arena.page(1), calls.length));
	calls.record(write(ends[1], arena.page(3), calls.length));
	calls.record(read(zero, arena.page(4), calls.length));
	calls.record(read(zero, arena.page(5), calls.length));
	calls.record(write(ends[1], arena.page(5), calls.length));
	calls.record(read(ends[0], arena.page(3) + page_size() - calls.length, calls.length));
	return calls.seen();
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

/* Each CPU may have 64 pages of it in hand. */
static std::size_t limit()
{
	return usual_faults() * page_size();
}

/* In a child, because memory stays charged to the group that it was taken in. */
static std::string limited(std::string (*run)())
{
	Cgroup group;

	group.limit(std::to_string(limit()));
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
		Arena arena(tables_of(2 * usual_faults()));

		for (std::size_t i = 0; i < arena.pages(); i++)
			*static_cast<volatile char *>(arena.page(i)) = 1;
		return std::string("not stopped");
	});
}

/* A process that gives up as much as it takes is left alone, and gets its memory. */
static std::string reclaim_at_limit()
{
	return limited([] {
		std::size_t tables = tables_of(usual_faults() * 5 / 8);
		Arena arenas[] = {Arena(tables), Arena(tables)};

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
		char *pages = map_droppable(2 * limit());

		for (std::size_t at = 0; at < 2 * limit(); at += page_size()) {
			*static_cast<volatile char *>(pages + at) = 1;
			expect(pages[at] == 0 || pages[at] == 1, "a page holds %d", pages[at]);
		}
		return std::string("ok");
	});
}

/*
 * The first folio of several pages in a group makes a list for each group above it, and
 * a node of an xarray to find it by. Without one the speculated fault must give up, not
 * try for ever, and the ordinary path gets it.
 */
static std::string first_folio_of_groups()
{
	const std::size_t kilobytes = usual_folio_kb();
	HugePages allowed;
	Setting always(folio_file(kilobytes, "enabled"), "always");
	/* As many as a node holds: it holds none of the next. */
	std::deque<Cgroup> others(64);
	Cgroup outer, inner(&outer);

	return Child([&] {
		       Arena arena = used_arena();
		       char *fresh = arena.begin() + arena.size() / 2;
		       std::uint64_t before = folios_allocated(kilobytes);

		       inner.enter();
		       ObjectFailures failures{{"radix_tree_node"}};

		       Failures::percent("failslab", "100");
		       falls_back({"nomem"}, 1, [&] { *fresh = 1; });
		       return std::string(
			       folios_allocated(kilobytes) - before == 1 ? "ok" : "no large folio");
	       })
		.collect();
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"write_protected", write_protected, "SEGV_ACCERR SEGV_ACCERR ok SEGV_ACCERR"},
		{"no_access", no_access, "SEGV_ACCERR SEGV_ACCERR SEGV_ACCERR"},
		{"unmapped", unmapped, "SEGV_MAPERR SEGV_MAPERR ok SEGV_MAPERR"},
		{"not_executable", not_executable, "SEGV_ACCERR SEGV_ACCERR"},
		{"past_end_of_file", past_end_of_file, "ok BUS_ADRERR BUS_ADRERR"},
		{"droppable", droppable, "ok"},
		{"system_calls", system_calls, "ok ok EFAULT EFAULT EFAULT ok"},
		{"write_locked_vma", write_locked_vma, "ok"},
		{"changing_permission", changing_permission, "ok"},
		{"vanishing_vma", vanishing_vma, "ok"},
		{"beyond_limit", beyond_limit, "killed by signal 9"},
		{"reclaim_at_limit", reclaim_at_limit, "ok"},
		{"droppable_beyond_limit", droppable_beyond_limit, "ok"},
		{"first_folio_of_groups", first_folio_of_groups, "ok"},
	};

	allow_huge_pages(false);
	return run_tests(argc, argv, tests_of(cases));
}
