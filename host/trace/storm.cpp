// SPDX-License-Identifier: GPL-2.0
/*
 * The traced guest's only program (its /init): several threads refault pages
 * of one anonymous VMA whose page tables stay present. Each kind of fault is
 * a marked stretch; when all are over it reports its counts and waits, alive,
 * so that the objects the trace names can still be looked up.
 */
#include <thread>
#include <vector>

#include "guest.hpp"

using namespace guest;

namespace {

constexpr unsigned int threads = 4, tables = 8, rounds = 2;
constexpr size_t share = tables * table;

void refault(char *area, unsigned int kind)
{
	for (size_t at = 0; at < share; at += table) {
		if (kind != kinds::reuse)
			zap(area + at, page);
		for (size_t p = at + page; p < at + table; p += page)
			reach(area + p, kinds::how(kind));
	}
}

void round(char *area, unsigned int kind)
{
	std::vector<std::thread> crew;

	/* Leaves every page write-protected and unshared. */
	if (kind == kinds::reuse)
		child();
	for (unsigned int t = 0; t < threads; t++)
		crew.emplace_back(refault, area + t * share, kind);
	for (auto &thread : crew)
		thread.join();
}

void storm()
{
	char *area = map_anonymous(nullptr, threads * share, MAP_NORESERVE);

	require(!madvise(area, threads * share, MADV_NOHUGEPAGE), "madvise");
	for (size_t at = 0; at < threads * share; at += table)
		area[at] = 1;

	for (unsigned int kind : {kinds::read, kinds::write, kinds::reuse}) {
		/* Unmarked first: whatever is done once only is done here. */
		round(area, kind);
		const counters before = vmstat();
		counters moved;

		mark(kind);
		for (unsigned int n = 0; n < rounds; n++)
			round(area, kind);
		mark(marks::none);

		std::cout << "STORM " << kind << ' ' << kinds::names[kind]
			  << " pages=" << rounds * threads * tables * (table / page - 1);
		add_since(before, moved);
		print(moved);
	}
}

} // namespace

int main()
{
	return run_and_stay(storm);
}
