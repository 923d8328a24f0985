// SPDX-License-Identifier: GPL-2.0
/*
 * Each kind of fault on private anonymous memory, one thread, nothing in its way:
 * the contents are right, and with speculation on the counters show that faults of
 * this kind were really resolved by it.
 */
#include "child.hpp"
#include "counters.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "team.hpp"

using namespace spf;

static const std::size_t tables = tables_of(usual_faults());

static volatile std::uint64_t *word(const Arena &arena, std::size_t page, std::size_t index = 0)
{
	return reinterpret_cast<volatile std::uint64_t *>(arena.page(page)) + index;
}

/* No page is 0, no two pages are alike. */
static std::uint64_t stamp(std::size_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15u;
}

static void write_stamps(const Arena &arena)
{
	for (std::size_t i = 0; i < arena.pages(); i++)
		*word(arena, i) = stamp(i);
}

/* A page holds @first in its first word and zeroes in the others. */
static void expect_page(const Arena &arena, std::size_t page, std::uint64_t first)
{
	std::size_t words = page_size() / sizeof(std::uint64_t);

	for (std::size_t i = 0; i < words; i++)
		expect(*word(arena, page, i) == (i ? 0 : first),
		       "page %zu word %zu holds %#llx, expected %#llx", page, i,
		       static_cast<unsigned long long>(*word(arena, page, i)),
		       static_cast<unsigned long long>(i ? 0 : first));
}

static void expect_stamps(const Arena &arena)
{
	for (std::size_t i = 0; i < arena.pages(); i++)
		expect_page(arena, i, stamp(i));
}

/* The tables that a section allocated are what must not have been speculated. */
static void first_write()
{
	Arena arena(tables);

	speculates(arena.pages() - tables, [&] { write_stamps(arena); });
	expect_stamps(arena);
}

static void refault()
{
	Arena arena(tables);
	std::size_t per_table = arena.pages() / tables;

	write_stamps(arena);
	arena.discard_but_one_per_table();
	speculates(arena.pages() - tables, [&] {
		for (std::size_t i = 0; i < arena.pages(); i++)
			*word(arena, i, 1) = stamp(i);
	});
	for (std::size_t i = 0; i < arena.pages(); i++) {
		expect(*word(arena, i) == (i % per_table ? 0 : stamp(i)),
		       "page %zu holds %#llx after MADV_DONTNEED", i,
		       static_cast<unsigned long long>(*word(arena, i)));
		expect(*word(arena, i, 1) == stamp(i), "page %zu lost what was written to it", i);
	}
}

/* Reads map the zero page, which is no memory of the process; writes replace it. */
static void zero_page()
{
	Arena arena(tables);
	std::uint64_t counted = Memory::now().counted;

	speculates(arena.pages() - tables, [&] {
		for (std::size_t i = 0; i < arena.pages(); i++)
			expect(*word(arena, i) == 0, "fresh page %zu is not zero", i);
	});
	/* Give or take what this program's own heap needs. */
	std::size_t own = std::max<std::size_t>(256, 16 * page_size() / 1024);

	expect(Memory::now().counted < counted + own, "reading fresh memory made it resident");

	write_stamps(arena);
	expect_stamps(arena);
	Memory memory = Memory::now();

	expect(memory.counted == memory.walked && memory.counted >= counted + arena.size() / 1024,
	       "%zu kB written over the zero page, %llu kB counted, %llu kB mapped",
	       arena.size() / 1024, static_cast<unsigned long long>(memory.counted - counted),
	       static_cast<unsigned long long>(memory.walked));
}

/* After fork() a write faults on a present entry; with the child gone the page is reused. */
static void cow_reuse()
{
	Arena arena(tables);

	write_stamps(arena);
	Child([&] { return std::string(); }).collect();
	speculates(arena.pages(), [&] {
		for (std::size_t i = 0; i < arena.pages(); i++)
			*word(arena, i) = *word(arena, i);
	});
	expect_stamps(arena);
}

/* The same with the child there: pages are copied, and neither sees the other's writes. */
static void cow_copy()
{
	Arena arena(1);

	write_stamps(arena);
	Child child([&] {
		for (std::size_t i = 0; i < arena.pages(); i++) {
			expect_page(arena, i, stamp(i));
			*word(arena, i) = ~stamp(i);
		}
		for (std::size_t i = 0; i < arena.pages(); i++)
			expect_page(arena, i, ~stamp(i));
		return std::string();
	});
	for (std::size_t i = 0; i < arena.pages(); i++)
		*word(arena, i) = stamp(i) + 1;
	child.collect();
	for (std::size_t i = 0; i < arena.pages(); i++)
		expect_page(arena, i, stamp(i) + 1);
}

/*
 * Accessed and dirty bits, and permissions taken and given back: the entries stay
 * present. Most x86 and arm64 processors set the bits without a fault, as do radix MMUs;
 * for a hash MMU the kernel does, before it is a page fault. So nothing is counted.
 */
static void present_entries()
{
	Arena arena(1);

	write_stamps(arena);
	must(write_file("/proc/self/clear_refs", "1") == 0, "writing to clear_refs");
	expect_stamps(arena);
	for (int prot : {PROT_READ, PROT_NONE}) {
		must(mprotect(arena.begin(), arena.size(), prot) == 0, "mprotect");
		must(mprotect(arena.begin(), arena.size(), PROT_READ | PROT_WRITE) == 0,
		     "mprotect");
		for (std::size_t i = 0; i < arena.pages(); i++)
			*word(arena, i) = *word(arena, i);
	}
	expect_stamps(arena);

	/* Pages given up lazily keep their contents or turn zero; written ones stay. */
	arena.advise(0, arena.size(), MADV_FREE);
	for (std::size_t i = 0; i < arena.pages(); i++)
		*word(arena, i) = stamp(i);
	expect_stamps(arena);
}

/* One fault maps a folio; the pages around hold what they held. */
static void large_folio()
{
	const std::size_t kilobytes = usual_folio_kb();
	HugePages allowed;
	std::size_t folio = kilobytes * 1024 / page_size();
	Arena arena(4 * tables);
	Setting always(folio_file(kilobytes, "enabled"), "always");
	std::size_t per_table = arena.pages() / (4 * tables);
	std::size_t faults = arena.pages() / folio - 4 * tables;

	for (std::size_t i = 0; i < arena.pages(); i += per_table)
		*word(arena, i) = stamp(i);
	std::uint64_t before = folios_allocated(kilobytes);

	speculates(faults, [&] {
		for (std::size_t i = 0; i < arena.pages(); i += folio)
			*word(arena, i) = stamp(i);
	});
	std::uint64_t folios = folios_allocated(kilobytes) - before;

	expect(folios >= faults * 99 / 100, "%llu large folios for %zu faults",
	       static_cast<unsigned long long>(folios), faults);
	for (std::size_t i = 0; i < arena.pages(); i++)
		expect_page(arena, i, i % folio ? 0 : stamp(i));
	Memory memory = Memory::now();

	expect(memory.counted == memory.walked, "%llu kB counted, %llu kB mapped",
	       static_cast<unsigned long long>(memory.counted),
	       static_cast<unsigned long long>(memory.walked));
}

int main(int argc, char **argv)
{
	OneCpu here;

	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"first_write", first_write},
				 {"refault", refault},
				 {"zero_page", zero_page},
				 {"cow_reuse", cow_reuse},
				 {"cow_copy", cow_copy},
				 {"present_entries", present_entries},
				 {"large_folio", large_folio},
			 });
}
