/* SPDX-License-Identifier: GPL-2.0 */
/* One run of one workload, measured. */
#ifndef SPF_STORM_SAMPLE_HPP
#define SPF_STORM_SAMPLE_HPP

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "storm_workload.hpp"
#include "team.hpp"

namespace spf {

struct Sample {
	Work work;
	double seconds;
	std::uint64_t blocked;
	std::uint64_t tables;
	Counters moved;
};

/* One thread's part of it; kept apart so that threads share no line while measured. */
struct alignas(128) Part {
	Work work;
	double begin = 0, end = 0;
	std::uint64_t blocked = 0;

	void measure(Workload &workload, unsigned id)
	{
		std::uint64_t blocked_before = voluntary_switches();

		begin = now();
		work = workload.run(id);
		end = now();
		blocked = voluntary_switches() - blocked_before;
	}

private:
	static double now()
	{
		struct timespec time;

		must(clock_gettime(CLOCK_MONOTONIC, &time) == 0, "clock_gettime");
		return time.tv_sec + time.tv_nsec * 1e-9;
	}
	static std::uint64_t voluntary_switches()
	{
		struct rusage usage;

		must(getrusage(RUSAGE_THREAD, &usage) == 0, "getrusage");
		return usage.ru_nvcsw;
	}
};

/* Page tables of this process, from their bytes: an entry takes eight. */
inline std::uint64_t page_tables()
{
	return proc_field("/proc/self/status", "VmPTE") * 1024 / (table_span() / page_size() * 8);
}

inline Sample measure(const Kind &kind, const Shape &shape)
{
	std::unique_ptr<Workload> workload = kind.make(shape);
	std::vector<Part> parts(shape.threads);

	Team(shape.threads, [&](unsigned id) { workload->prepare(id); }).finish();
	workload->settle();

	Team team(shape.threads, [&](unsigned id) { parts[id].measure(*workload, id); });
	std::uint64_t tables_before = page_tables();
	Counters before = settled_counters();

	team.start();
	team.finish();

	Sample sample = {};
	double begin = std::numeric_limits<double>::max(), end = 0;

	sample.moved = settled_counters().since(before);
	sample.tables = std::max(page_tables(), tables_before) - tables_before;
	for (const Part &part : parts) {
		sample.work.faults += part.work.faults;
		sample.work.writes += part.work.writes;
		sample.blocked += part.blocked;
		begin = std::min(begin, part.begin);
		end = std::max(end, part.end);
	}
	sample.seconds = end - begin;
	return sample;
}

} // namespace spf

#endif /* SPF_STORM_SAMPLE_HPP */
