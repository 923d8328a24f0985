// SPDX-License-Identifier: GPL-2.0
/*
 * The only program of a guest whose accesses to memory are recorded (its /init):
 * as many threads as the variable "threads" in the environment says, each on a CPU
 * of its own, fault on pages of their own page tables in one anonymous VMA. When
 * all is over it stays alive, so that the objects can still be looked up.
 */
#include <thread>
#include <vector>

#include "guest.hpp"

using namespace guest;

namespace {

constexpr size_t share = 2 * table;

/* The first page of each table stays, so that the table does. */
void reach_all(char *area, unsigned int kind)
{
	for (size_t at = 0; at < share; at += page)
		if (at % table)
			reach(area + at, kinds::how(kind));
}

void prepare(char *area, unsigned int kind)
{
	for (size_t at = 0; at < share; at += table)
		zap(area + at, page);
	if (kind == kinds::reuse)
		reach_all(area, kinds::write);
}

/*
 * Unmarked first: whatever is done once only is done there. To be reused, pages are
 * shared with a child that ends, and between that and the mark everybody writes to his
 * stack once more: it was shared, too.
 */
void run(char *area, unsigned int threads, unsigned int kind)
{
	meeting all(threads + 1);
	std::vector<std::thread> crew;

	for (unsigned int t = 0; t < threads; t++)
		crew.emplace_back([&all, t, kind, own = area + t * share] {
			pin(t);
			prepare(own, kind);
			reach_all(own, kind);
			prepare(own, kind);
			all.wait();
			all.wait();
			all.wait();
			reach_all(own, kind);
			all.wait();
		});
	all.wait();
	if (kind == kinds::reuse)
		child();
	all.wait();
	const counters before = vmstat();
	counters moved;

	mark(kind);
	all.wait();
	all.wait();
	mark(marks::none);
	for (auto &thread : crew)
		thread.join();
	std::cout << "STORM " << kind << ' ' << kinds::names[kind]
		  << " pages=" << threads * (share / page - share / table);
	add_since(before, moved);
	print(moved);
}

void storm()
{
	const char *variable = getenv("threads");
	const unsigned int threads = variable ? atoi(variable) : 0;

	if (!threads)
		throw std::runtime_error("the environment has no number of threads");
	char *area = map_anonymous(nullptr, threads * share + table, MAP_NORESERVE);

	area += -reinterpret_cast<uintptr_t>(area) % table;
	require(!madvise(area, threads * share, MADV_NOHUGEPAGE), "madvise");
	for (size_t at = 0; at < threads * share; at += table)
		area[at] = 1;
	for (unsigned int kind : {kinds::read, kinds::write, kinds::reuse})
		run(area, threads, kind);
}

} // namespace

int main()
{
	return run_and_stay(storm);
}
