// SPDX-License-Identifier: GPL-2.0
/*
 * The only program of a guest whose accesses to memory are recorded (its /init):
 * as many threads as the variable "threads" in the environment says, each on a CPU
 * of its own, fault on pages of their own page tables in one anonymous VMA. When
 * all is over it stays alive, so that the objects can still be looked up.
 */
#include <pthread.h>
#include <sched.h>
#include <thread>
#include <vector>

#include "guest.hpp"

using namespace guest;

namespace {

constexpr size_t share = 2 * table;
constexpr unsigned int read = 1, write = 2, reuse = 3;
constexpr const char *names[] = {"none", "read", "write", "reuse"};

/* The first page of each table stays, so that the table does. */
void reach(char *area, unsigned int kind)
{
	for (size_t at = 0; at < share; at += page) {
		volatile char *byte = area + at;

		if (!(at % table))
			continue;
		if (kind == read)
			static_cast<void>(*byte);
		else
			*byte = 1;
	}
}

void prepare(char *area, unsigned int kind)
{
	for (size_t at = 0; at < share; at += table)
		zap(area + at, page);
	if (kind == reuse)
		reach(area, write);
}

void pin(unsigned int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	require(!sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
}

/*
 * Unmarked first: whatever is done once only is done there. To be reused, pages are
 * shared with a child that ends, and between that and the mark everybody writes to his
 * stack once more: it was shared, too.
 */
void run(char *area, unsigned int threads, unsigned int kind)
{
	pthread_barrier_t barrier;
	std::vector<std::thread> crew;
	const auto meet = [&barrier] {
		pthread_barrier_wait(&barrier);
	};

	require(!pthread_barrier_init(&barrier, nullptr, threads + 1), "pthread_barrier_init");
	for (unsigned int t = 0; t < threads; t++)
		crew.emplace_back([meet, t, kind, own = area + t * share] {
			pin(t);
			prepare(own, kind);
			reach(own, kind);
			prepare(own, kind);
			meet();
			meet();
			meet();
			reach(own, kind);
			meet();
		});
	meet();
	if (kind == reuse)
		child();
	meet();
	const counters before = vmstat();
	counters moved;

	mark(kind);
	meet();
	meet();
	mark(marks::none);
	for (auto &thread : crew)
		thread.join();
	pthread_barrier_destroy(&barrier);
	std::cout << "STORM " << kind << ' ' << names[kind]
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
	for (unsigned int kind : {read, write, reuse})
		run(area, threads, kind);
	mark(marks::finish);
	std::cout << "STORM READY" << std::endl;
}

} // namespace

int main()
{
	try {
		set_up();
		storm();
	} catch (const std::exception &error) {
		std::cout << "STORM FAILED " << error.what() << std::endl;
		return 1;
	}
	for (;;)
		pause();
}
