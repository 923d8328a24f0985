// SPDX-License-Identifier: GPL-2.0
/*
 * Soft-dirty tracking: after "4" is written to clear_refs, the pages that were
 * written are marked, and no others, whichever kind of fault a write took.
 */
#include "accesses.hpp"
#include "cases.hpp"
#include "handling.hpp"
#include "pagemap.hpp"

using namespace spf;

static void clear()
{
	must(write_file("/proc/self/clear_refs", "4") == 0, "writing to clear_refs");
}

/* pagemap and PAGEMAP_SCAN must agree, and each page be marked that is @wanted(page). */
template <class Wanted>
static void expect_marked(const char *begin, std::size_t pages, Wanted wanted)
{
	Pagemap pagemap;
	PageBits bits = page_bits(pages, wanted);

	expect_bits(pagemap.bits(begin, pages, pagemap_soft_dirty), bits, "soft-dirty in pagemap");
	expect_bits(pagemap.scan(begin, pages, PAGE_IS_SOFT_DIRTY), bits,
		    "soft-dirty, says PAGEMAP_SCAN");
}

static bool odd(std::size_t page)
{
	return page % 2;
}

static bool never(std::size_t)
{
	return false;
}

/* Skips where marks are not kept. */
static Arena tracked_arena()
{
	Arena arena = used_arena();

	if (Pagemap().bits(arena.begin(), 1, pagemap_soft_dirty) != "1")
		throw Skip("this kernel does not track soft-dirty pages");
	return arena;
}

static void write_all(const Arena &arena)
{
	for (std::size_t i = 0; i < arena.pages(); i++)
		*word(arena.page(i)) = stamp(i);
}

/* From here on: odd pages are written, all are read. */
static void use(char *begin, std::size_t pages)
{
	for (std::size_t i = 0; i < pages; i++) {
		char *page = begin + i * page_size();

		if (odd(i))
			*word(page, 1) = stamp(i);
		(void)*word(page, 1);
	}
}

static std::string tracked(const Arena &arena)
{
	clear();
	expect_marked(arena.begin(), arena.pages(), never);
	mostly_speculates(arena.pages() / 2, [&] { use(arena.begin(), arena.pages()); });
	expect_marked(arena.begin(), arena.pages(), odd);
	clear();
	expect_marked(arena.begin(), arena.pages(), never);
	return "ok";
}

static std::string fresh()
{
	Arena arena = tracked_arena();

	return tracked(arena);
}

static std::string present()
{
	Arena arena = tracked_arena();

	write_all(arena);
	return tracked(arena);
}

static std::string zero_page()
{
	Arena arena = tracked_arena();

	for (std::size_t i = 0; i < arena.pages(); i++)
		(void)*word(arena.page(i));
	clear();
	use(arena.begin(), arena.pages());
	expect_marked(arena.begin(), arena.pages(), odd);
	return "ok";
}

static std::string reused()
{
	Arena arena = tracked_arena();

	write_all(arena);
	Child([] { return std::string(); }).collect();
	return tracked(arena);
}

/* Parent and child keep marks of their own. */
static std::string copied()
{
	Arena arena = tracked_arena();

	write_all(arena);
	clear();
	Child child([&] {
		clear();
		use(arena.begin(), arena.pages());
		expect_marked(arena.begin(), arena.pages(), odd);
		return std::string("ok");
	});

	for (std::size_t i = 0; i < arena.pages(); i += 3)
		*word(arena.page(i)) = ~stamp(i);
	expect_marked(arena.begin(), arena.pages(), [](std::size_t i) { return i % 3 == 0; });
	return child.collect();
}

static std::string lazily_freed()
{
	Arena arena = tracked_arena();

	write_all(arena);
	arena.advise(0, arena.size(), MADV_FREE);
	clear();
	use(arena.begin(), arena.pages());
	expect_marked(arena.begin(), arena.pages(), odd);
	return "ok";
}

/* A private mapping of a file: pages of the file, then copies of them. */
static std::string file_copied()
{
	tracked_arena();
	std::size_t pages = 256, length = pages * page_size();
	int file = memfd_create("spf", 0);

	must(file >= 0 && ftruncate(file, length) == 0, "memfd_create");
	for (std::size_t i = 0; i < pages; i++)
		must(pwrite(file, &i, sizeof(i), i * page_size()) == sizeof(i), "pwrite");
	char *memory = static_cast<char *>(
		mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));

	must(memory != MAP_FAILED, "mmap of a memfd");
	for (bool populated : {false, true}) {
		if (populated)
			for (std::size_t i = 0; i < pages; i++)
				expect(*word(memory + i * page_size()) == i, "page %zu", i);
		clear();
		use(memory, pages);
		expect_marked(memory, pages, odd);
		must(madvise(memory, length, MADV_DONTNEED) == 0, "madvise");
	}
	return "ok";
}

/*
 * Marks are cleared while threads write: a page written after the last clearing
 * returned is marked, one not written since this clearing began is not.
 */
static std::string cleared_under_writes()
{
	static constexpr unsigned threads = 2;
	Arena arena = tracked_arena();

	for (int round = 0; round < 10; round++) {
		/* How many clearings had ended when a page's last write began... */
		std::vector<unsigned> ended_before(arena.pages());
		/* ...and how many had begun when it ended. */
		std::vector<unsigned> begun_after(arena.pages());
		std::atomic<unsigned> begun{0}, ended{0};
		unsigned clearings = 5;
		Team team(threads, [&](unsigned id) {
			/* Another third of the pages in each pass, and part of them anew. */
			for (std::size_t pass = 0; !team.stopping(); pass++) {
				for (std::size_t i = id; i < arena.pages(); i += threads) {
					if ((i / threads + pass) % 3)
						continue;
					if (i % 5 == 0)
						arena.advise(i * page_size(), page_size(),
							     MADV_DONTNEED);
					ended_before[i] = ended;
					*word(arena.page(i)) = pass;
					begun_after[i] = begun;
				}
			}
		});

		team.start();
		for (unsigned i = 1; i <= clearings; i++) {
			begun = i;
			clear();
			ended = i;
		}
		team.stop();
		team.finish();

		PageBits bits = Pagemap().bits(arena.begin(), arena.pages(), pagemap_soft_dirty);

		for (std::size_t i = 0; i < arena.pages(); i++) {
			expect(ended_before[i] < clearings || bits[i] == '1',
			       "round %d: page %zu was written and is not marked", round, i);
			expect(begun_after[i] == clearings || bits[i] == '0',
			       "round %d: page %zu was not written and is marked", round, i);
		}
	}
	return "ok";
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"fresh", fresh, "ok"},
		{"present", present, "ok"},
		{"zero_page", zero_page, "ok"},
		{"reused", reused, "ok"},
		{"copied", copied, "ok"},
		{"lazily_freed", lazily_freed, "ok"},
		{"file_copied", file_copied, "ok"},
		{"cleared_under_writes", cleared_under_writes, "ok"},
	};

	allow_huge_pages(false);
	return run_tests(argc, argv, tests_of(cases));
}
