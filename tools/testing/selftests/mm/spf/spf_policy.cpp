// SPDX-License-Identifier: GPL-2.0
/*
 * Memory policies: a fault takes its page from the node that the policy of its VMA,
 * task or file names, as move_pages(2) tells afterwards.
 */
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include <algorithm>

#include "accesses.hpp"
#include "cases.hpp"
#include "handling.hpp"

using namespace spf;

/* Nodes with memory, at least two of them. */
static std::vector<int> nodes()
{
	std::istringstream text(read_file("/sys/devices/system/node/has_memory").value_or(""));
	std::vector<int> found;
	int first, last;

	/* "0-1,3" */
	for (char separator = ','; separator == ',' && text >> first; text >> separator) {
		last = first;
		if (text.peek() == '-')
			text.ignore() >> last;
		for (int node = first; node <= last; node++)
			found.push_back(node);
		separator = 0;
	}
	if (found.size() < 2)
		throw Skip("this machine has one NUMA node, where all policies are alike");
	return found;
}

static constexpr unsigned long mask_bits = 8 * sizeof(unsigned long);

static void bind(char *begin, std::size_t length, int policy, unsigned long mask,
		 unsigned flags = 0)
{
	must(syscall(SYS_mbind, begin, length, policy, &mask, mask_bits, flags) == 0, "mbind");
}

/* Where each page is. */
static std::vector<int> places(char *begin, std::size_t pages)
{
	std::vector<void *> addresses(pages);
	std::vector<int> found(pages);

	for (std::size_t i = 0; i < pages; i++)
		addresses[i] = begin + i * page_size();
	must(syscall(SYS_move_pages, 0, pages, addresses.data(), nullptr, found.data(), 0) == 0,
	     "move_pages");
	return found;
}

static void expect_all_on(int node, char *begin, std::size_t pages)
{
	std::vector<int> found = places(begin, pages);

	for (std::size_t i = 0; i < pages; i++)
		expect(found[i] == node, "page %zu is on node %d, not on node %d", i, found[i],
		       node);
}

static void write_all(char *begin, std::size_t pages)
{
	for (std::size_t i = 0; i < pages; i++)
		*word(begin + i * page_size()) = stamp(i);
	for (std::size_t i = 0; i < pages; i++)
		expect(*word(begin + i * page_size()) == stamp(i), "page %zu lost a write", i);
}

/* A fresh page table's worth under a policy, its first pages there and discarded again. */
template <class SetPolicy> static Arena written_under(SetPolicy set_policy)
{
	Arena arena = used_arena();

	arena.advise(0, 4 * page_size(), MADV_DONTNEED);
	set_policy(arena);
	mostly_speculates(arena.pages(), [&] { write_all(arena.begin(), arena.pages()); });
	return arena;
}

static std::string on_each_node(int policy)
{
	for (int node : nodes()) {
		Arena arena = written_under([&](Arena &fresh) {
			bind(fresh.begin(), fresh.size(), policy, 1ul << node);
		});

		expect_all_on(node, arena.begin(), arena.pages());
	}
	return "ok";
}

static std::string bound()
{
	return on_each_node(MPOL_BIND);
}

static std::string preferred()
{
	return on_each_node(MPOL_PREFERRED);
}

/* Each page on another node than its neighbours, all nodes alike. */
static std::string interleaved()
{
	std::vector<int> all = nodes();
	Arena arena = written_under([&](Arena &fresh) {
		bind(fresh.begin(), fresh.size(), MPOL_INTERLEAVE, 1ul << all[0] | 1ul << all[1]);
	});
	std::vector<int> found = places(arena.begin(), arena.pages());

	for (std::size_t i = 0; i < found.size(); i++)
		expect(found[i] == found[i % 2] && (i == 0 || found[i] != found[i - 1]),
		       "page %zu is on node %d, page 0 is on node %d", i, found[i], found[0]);
	return "ok";
}

/* Without a policy of the VMA, that of the task. */
static std::string bound_task()
{
	for (int node : nodes()) {
		unsigned long mask = 1ul << node;
		Arena arena = written_under([&](Arena &) {
			must(syscall(SYS_set_mempolicy, MPOL_BIND, &mask, mask_bits) == 0,
			     "set_mempolicy");
		});

		expect_all_on(node, arena.begin(), arena.pages());
	}
	return "ok";
}

/* Pages that are there move, and pages that come later follow. */
static std::string moved()
{
	std::vector<int> all = nodes();
	Arena arena = used_arena();
	std::size_t half = arena.pages() / 2;

	bind(arena.begin(), arena.size(), MPOL_BIND, 1ul << all[0]);
	write_all(arena.begin(), half);
	bind(arena.begin(), arena.size(), MPOL_BIND, 1ul << all[1], MPOL_MF_MOVE);
	mostly_speculates(half, [&] { write_all(arena.page(half), half); });
	expect_all_on(all[1], arena.begin(), arena.pages());
	for (std::size_t i = 0; i < arena.pages(); i++)
		expect(*word(arena.page(i)) == stamp(i % half), "page %zu lost its content", i);
	return "ok";
}

/* While a thread changes the policy: on one node or the other, and nothing lost. */
static std::string changing()
{
	std::vector<int> all = nodes();
	Arena arena = used_arena();

	bind(arena.begin(), arena.size(), MPOL_BIND, 1ul << all[0]);
	return beside(
		[&] {
			bind(arena.begin(), arena.size(), MPOL_BIND, 1ul << all[1]);
			bind(arena.begin(), arena.size(), MPOL_BIND, 1ul << all[0]);
		},
		[&](int step) {
			std::size_t page = 3 + step % (arena.pages() - 3);

			*word(arena.page(page)) = stamp(step);
			int place = places(arena.page(page), 1)[0];

			expect(place == all[0] || place == all[1], "step %d: on node %d", step,
			       place);
			expect(*word(arena.page(page)) == stamp(step), "step %d: lost a write",
			       step);
			arena.advise(page * page_size(), page_size(), MADV_DONTNEED);
		});
}

/* A policy of the file, which both mappings obey; copies in the private one as well. */
static std::string of_file()
{
	static constexpr std::size_t pages = 128;
	std::vector<int> all = nodes();
	std::size_t length = pages * page_size();
	int file = memfd_create("spf", 0);

	must(file >= 0 && ftruncate(file, length) == 0, "memfd_create");
	auto map = [&](int flags) {
		void *at = mmap(nullptr, length, PROT_READ | PROT_WRITE, flags, file, 0);

		must(at != MAP_FAILED, "mmap of a memfd");
		return static_cast<char *>(at);
	};
	char *shared = map(MAP_SHARED), *own = map(MAP_PRIVATE);

	bind(shared, length, MPOL_BIND, 1ul << all[1]);
	write_all(shared, pages);
	expect_all_on(all[1], shared, pages);
	for (std::size_t i = 0; i < pages; i += 2)
		expect(*word(own + i * page_size()) == stamp(i), "page %zu is not the file's", i);
	bind(shared, length, MPOL_BIND, 1ul << all[0]);
	for (std::size_t i = 0; i < pages; i++)
		*word(own + i * page_size(), 1) = i;
	expect_all_on(all[0], own, pages);
	expect_all_on(all[1], shared, pages);
	for (std::size_t i = 0; i < pages; i++)
		expect(*word(own + i * page_size()) == stamp(i) &&
			       *word(own + i * page_size(), 1) == i &&
			       *word(shared + i * page_size(), 1) == 0,
		       "page %zu was copied wrong", i);
	return "ok";
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"bound", bound, "ok"},
		{"preferred", preferred, "ok"},
		{"interleaved", interleaved, "ok"},
		{"bound_task", bound_task, "ok"},
		{"moved", moved, "ok"},
		{"changing", changing, "ok"},
		{"of_file", of_file, "ok"},
	};

	allow_huge_pages(false);
	return run_tests(argc, argv, tests_of(cases));
}
