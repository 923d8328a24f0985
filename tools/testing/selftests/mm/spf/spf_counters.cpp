// SPDX-License-Identifier: GPL-2.0
/*
 * The switch and the counters: that they say what happened, and nothing else. Each
 * test needs a kernel with the switch and root to set it.
 */
#include "counters.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "team.hpp"
#include "trap.hpp"

using namespace spf;

static void touch(const Arena &arena)
{
	for (std::size_t i = 0; i < arena.pages(); i++)
		*static_cast<volatile char *>(arena.page(i)) = 1;
}

/* Faults of single pages whose tables are there. */
static Counters refault(Arena &arena)
{
	touch(arena);
	arena.discard_but_one_per_table();
	Counters before = Counters::now();

	touch(arena);
	return Counters::now().since(before);
}

static const std::size_t tables = tables_of(usual_faults());

/* Off: no attempt is made, and each fault is still counted as one. */
static void off_does_not_attempt()
{
	Setting off(mode_path, "0");
	Arena arena(tables);
	Counters moved = refault(arena);

	expect(moved.attempt() == 0, "speculation is off, yet: %s", moved.summary().c_str());
	expect(moved["pgfault"] >= arena.pages() - tables, "faults are missing: %s",
	       moved.summary().c_str());
}

/* On: each fault is one attempt, one success and one pgfault; no fault counts twice. */
static void on_counts_each_fault_once()
{
	Setting on(mode_path, "1");
	Arena arena(tables);
	std::size_t faults = arena.pages() - tables;
	Counters moved = refault(arena);

	expect(moved.attempt() >= faults, "attempts are missing: %s", moved.summary().c_str());
	expect(moved.success() >= faults * 99 / 100, "not 0.99 of %zu faults succeeded: %s", faults,
	       moved.summary().c_str());
	expect(moved["pgfault"] >= faults && moved["pgfault"] <= faults * 105 / 100,
	       "%zu faults were made, not: %s", faults, moved.summary().c_str());
	expect(moved["pgmajfault"] == 0, "none of them waits for a device: %s",
	       moved.summary().c_str());
}

static void expect_reason(const char *reason, std::uint64_t least, const Counters &moved)
{
	expect(moved.aborts().count(reason), "/proc/vmstat has no line spf_abort_%s", reason);
	expect(moved.aborts()[reason] >= least, "%llu aborts are %s, not: %s",
	       static_cast<unsigned long long>(least), reason, moved.summary().c_str());
}

/* A fault that has to fall back says why: no table yet, no anon_vma yet, no permission. */
static void aborts_name_their_reason()
{
	Setting on(mode_path, "1");
	Arena arena(tables);
	Counters before = Counters::now();

	for (std::size_t i = 0; i < arena.pages(); i += arena.pages() / tables)
		expect(try_read(arena.page(i)).signo == 0, "a read of fresh memory failed");
	expect_reason("pmd_none", tables, Counters::now().since(before));

	before = Counters::now();
	expect(try_write(arena.page(1)).signo == 0, "a write to fresh memory failed");
	expect_reason("vma_noanon", 1, Counters::now().since(before));

	must(mprotect(arena.begin(), arena.size(), PROT_READ) == 0, "mprotect");
	before = Counters::now();
	for (std::size_t i = 0; i < 64; i++)
		expect(try_write(arena.page(i)).signo == SIGSEGV, "a read-only page was written");
	expect_reason("vma_access", 64, Counters::now().since(before));
}

/* Whatever is not 0 or 1 is refused, and changes nothing. */
static void switch_takes_0_and_1_only()
{
	for (const char *valid : {"0", "1"}) {
		Setting current(mode_path, valid);

		for (const char *invalid : {"2", "-1", "x", "10"}) {
			int error = write_file(mode_path, invalid);

			expect(error == EINVAL, "writing \"%s\" gives %d (%s), not EINVAL", invalid,
			       error, strerror(error));
			expect(read_file(mode_path) == std::string(valid) + "\n",
			       "the refused \"%s\" changed the switch", invalid);
		}
	}
}

/* Attempts by many threads, turned on and off meanwhile, still add up at the end. */
static void balanced_after_switching()
{
	Setting on(mode_path, "1");
	Arena arena(tables);
	Team team(4, [&](unsigned id) {
		do {
			for (std::size_t i = id; i < arena.pages(); i += 4) {
				*static_cast<volatile char *>(arena.page(i)) = 1;
				arena.advise(i * page_size(), page_size(), MADV_DONTNEED);
			}
		} while (!team.stopping());
	});

	team.start();
	for (int i = 0; i < 50; i++)
		must(write_file(mode_path, i % 2 ? "1" : "0") == 0, "writing the switch");
	team.stop();
	team.finish();
}

int main(int argc, char **argv)
{
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"off_does_not_attempt", off_does_not_attempt},
				 {"on_counts_each_fault_once", on_counts_each_fault_once},
				 {"aborts_name_their_reason", aborts_name_their_reason},
				 {"switch_takes_0_and_1_only", switch_takes_0_and_1_only},
				 {"balanced_after_switching", balanced_after_switching},
			 });
}
