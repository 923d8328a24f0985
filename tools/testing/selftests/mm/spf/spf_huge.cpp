// SPDX-License-Identifier: GPL-2.0
/*
 * Large folios: writes to huge pages that are mapped read-only and ours alone, and
 * first touches and writes of folios of the sizes below.
 */
#include <algorithm>
#include <filesystem>

#include "child.hpp"
#include "counters.hpp"
#include "handling.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "pagemap.hpp"
#include "pages.hpp"
#include "team.hpp"

using namespace spf;

/* A fault for each huge page: many of them take a lot of memory. */
static const std::size_t huge_pages = std::min<std::size_t>(192, (384 << 20) / table_span());

/* Memory of huge pages, in which each small one is told from the others by one word. */
class HugeArena {
public:
	HugeArena()
		: always_(folio_file(table_span() / 1024, "enabled"), "always"), arena_(huge_pages)
	{
		for (std::size_t page = 0; page < arena_.pages(); page++)
			*word(page) = page;
		expect_huge();
	}

	const Arena &operator*() const { return arena_; }

	/* One write each huge page: what is to fault. */
	void write(std::uint64_t value) const
	{
		for (std::size_t page = 0; page < arena_.pages(); page += each())
			word(page)[1] = value;
	}

	void expect_written(std::uint64_t value) const
	{
		for (std::size_t page = 0; page < arena_.pages(); page++)
			expect(*word(page) == page && word(page)[1] == (page % each() ? 0 : value),
			       "page %zu holds %llu and %llu", page,
			       static_cast<unsigned long long>(*word(page)),
			       static_cast<unsigned long long>(word(page)[1]));
	}

	/* What the kernel says of the first of them; never where it does not follow this. */
	bool soft_dirty() const
	{
		return Pagemap().bits(arena_.begin(), 1, pagemap_soft_dirty) == "1";
	}

	/* None of them was split. */
	void expect_huge() const
	{
		std::uint64_t huge = proc_field("/proc/self/smaps_rollup", "AnonHugePages");

		expect(huge >= arena_.size() / 1024, "%llu of %zu kB are huge pages",
		       static_cast<unsigned long long>(huge), arena_.size() / 1024);
	}

private:
	static std::size_t each() { return table_span() / page_size(); }
	volatile std::uint64_t *word(std::size_t page) const
	{
		return reinterpret_cast<volatile std::uint64_t *>(arena_.page(page));
	}

	HugePages allowed_;
	Setting always_;
	OneCpu here_;
	Arena arena_;
};

/*
 * @expose makes writes to huge pages fault, then each is written, @value last. Where they
 * are larger and fewer, this goes on until there were as many faults as elsewhere.
 */
template <class Expose>
static void speculates_writes(const HugeArena &huge, std::uint64_t &value, Expose expose)
{
	/* The memory that it takes to look is there before it counts. */
	Counters before = Counters::now();
	Counters moved = before.since(before);
	std::size_t faults = 0;

	while (faults < 192) {
		expose();
		before = Counters::now();
		huge.write(++value);
		moved += Counters::now().since(before);
		faults += huge_pages;
		huge.expect_written(value);
		huge.expect_huge();
	}
	expect_resolved(moved, faults);
}

/* With the child gone, what fork() left read-only is ours again. */
static void write_after_fork()
{
	HugeArena huge;
	std::uint64_t value = 0;

	for (int round = 0; round < 2; round++)
		speculates_writes(huge, value,
				  [] { Child([] { return std::string(); }).collect(); });
}

/* With the child there, each is split and copied in part; nothing is counted. */
static void write_while_shared()
{
	HugeArena huge;
	Gate written;
	Child child([&] {
		written.wait();
		huge.expect_written(0);
		return std::string();
	});

	huge.write(1);
	huge.expect_written(1);
	written.open();
	child.collect();
	huge.expect_written(1);
}

/*
 * Permissions taken and given back, accessed and dirty bits cleared. The entries stay;
 * where the processor sets the bits there are no faults to count.
 */
static void write_after_changes()
{
	HugeArena huge;
	std::uint64_t round = 0;

	for (int prot : {PROT_READ, PROT_NONE}) {
		must(mprotect((*huge).begin(), (*huge).size(), prot) == 0, "mprotect");
		must(mprotect((*huge).begin(), (*huge).size(), PROT_READ | PROT_WRITE) == 0,
		     "mprotect");
		huge.write(++round);
		huge.expect_written(round);
	}
	must(write_file("/proc/self/clear_refs", "1") == 0, "writing to clear_refs");
	huge.write(++round);
	huge.expect_written(round);
	huge.expect_huge();
}

/* To follow writes the kernel takes away the permission to write. */
static void write_soft_dirty()
{
	HugeArena huge;

	if (!huge.soft_dirty())
		throw Skip("this kernel does not follow writes (CONFIG_MEM_SOFT_DIRTY)");
	std::uint64_t value = 0;

	speculates_writes(huge, value, [&] {
		expect(huge.soft_dirty(), "a huge page is not soft-dirty after a write");
		must(write_file("/proc/self/clear_refs", "4") == 0, "writing to clear_refs");
		expect(!huge.soft_dirty(), "a huge page is soft-dirty after clear_refs");
	});
	expect(huge.soft_dirty(), "a huge page is not soft-dirty after a write");
}

/* Whether tasks can be preempted in an RCU section: RCU's thread is called after it. */
static bool rcu_is_preemptible()
{
	for (const auto &entry : std::filesystem::directory_iterator("/proc")) {
		std::optional<std::string> name = read_file(entry.path() / "comm");

		if (name == "rcu_preempt\n")
			return true;
		if (name == "rcu_sched\n")
			return false;
	}
	throw Skip("/proc has neither rcu_preempt nor rcu_sched");
}

/*
 * The first touch of each table's memory allocates the table; each other one maps a
 * folio of @kilobytes, which speculation clears if that is quick, or can be preempted.
 * Then, page by page, what fork() left read-only is reused.
 */
static void folios(std::size_t kilobytes)
{
	HugePages allowed;
	OneCpu here;
	std::size_t size = kilobytes < 512 ? 64 << 20 : 256 << 20;
	std::size_t tables = size / table_span();
	Arena arena(tables);
	Pages pages(arena);
	Setting always(folio_file(kilobytes, "enabled"), "always");
	std::size_t folio = kilobytes * 1024 / page_size();
	std::size_t each = pages.count() / folio - tables, faults = 0;
	Counters moved;

	for (std::size_t at = 0; at < arena.size(); at += table_span())
		arena.begin()[at] = 1;
	std::uint64_t before = folios_allocated(kilobytes);

	/* The largest folios are few: as often as it takes. */
	while (faults < 128) {
		if (faults)
			arena.discard_but_one_per_table();
		Counters start = Counters::now();

		for (std::size_t page = 0; page < pages.count(); page += folio)
			*pages.word(page) = 1;
		moved += Counters::now().since(start);
		faults += each;
	}
	if (kilobytes <= 64 || rcu_is_preemptible())
		expect_resolved(moved, faults);
	else
		expect_left(moved, {"pte_notsup"}, faults * 99 / 100);
	std::uint64_t folios = folios_allocated(kilobytes) - before;

	expect(folios >= faults * 99 / 100, "%llu folios of %zu kB for %zu faults",
	       static_cast<unsigned long long>(folios), kilobytes, faults);
	for (std::size_t page = 0; page < pages.count(); page++)
		expect(*pages.word(page) == (page % folio == 0) && *pages.word(page, 1) == 0,
		       "fresh page %zu holds %llu", page,
		       static_cast<unsigned long long>(*pages.word(page)));

	Pages some(arena.begin(), usual_faults());

	some.fill();
	Child([] { return std::string(); }).collect();
	speculates(some.count(), [&] { some.mark(1); });
	some.expect_marked(1);
}

int main(int argc, char **argv)
{
	std::vector<Test> tests;

	/* First, see HugePages. Larger ones are left to a lock, see SPF_MAX_ORDER. */
	for (std::size_t kilobytes = 4 * page_size() / 1024;
	     kilobytes <= std::min<std::size_t>(table_span() / 2048, 2048); kilobytes *= 2)
		tests.push_back({"folios_" + std::to_string(kilobytes) + "kB", [kilobytes] {
					 folios(kilobytes);
				 }});
	tests.push_back({"write_after_fork", write_after_fork});
	tests.push_back({"write_while_shared", write_while_shared});
	tests.push_back({"write_after_changes", write_after_changes});
	tests.push_back({"write_soft_dirty", write_soft_dirty});
	allow_huge_pages(false);
	return run_tests(argc, argv, tests);
}
