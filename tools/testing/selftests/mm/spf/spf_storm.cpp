// SPDX-License-Identifier: GPL-2.0
/*
 * Storms of page faults with speculation off and on, one JSON line a sample. This
 * measures and judges nothing: scripts/report in the series' repository does. The
 * tests beside it show that what is measured is also right.
 */
#include <getopt.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>

#include "storm_sample.hpp"
#include "storm_switch.hpp"

using namespace spf;

namespace {

constexpr int schema = 2;
constexpr unsigned least_rounds = 5;

enum { exit_failure = 1, exit_usage = 2, exit_absent = 4 };

/* The command line asks for what cannot be. */
struct Usage : std::runtime_error {
	using std::runtime_error::runtime_error;
};

/* One, two, four and so on, up to one a CPU; two at least, as some workloads take. */
std::vector<unsigned> scale()
{
	unsigned most = std::max<std::size_t>(cpus().size(), 2);
	std::vector<unsigned> list;

	for (unsigned threads = 1; threads < most; threads *= 2)
		list.push_back(threads);
	list.push_back(most);
	return list;
}

struct Options {
	std::vector<Kind> workloads = kinds();
	std::vector<unsigned> threads = scale(); /* each with so many, fewest first */
	unsigned rounds = least_rounds;
	unsigned size = 0; /* MiB */
	bool both = true;

	bool runs(const Kind &kind, unsigned with) const { return with >= kind.least_threads; }
};

std::string known_workloads()
{
	std::string list = "all";

	for (const Kind &kind : kinds())
		list += std::string(", ") + kind.name;
	return list;
}

std::vector<Kind> workloads_named(const std::string &name)
{
	if (name == "all")
		return kinds();
	for (const Kind &kind : kinds()) {
		if (name == kind.name)
			return {kind};
	}
	throw Usage(format("there is no workload \"%s\"; known are %s", name.c_str(),
			   known_workloads().c_str()));
}

bool mode_is_both(const std::string &name)
{
	if (name != "both" && name != "current")
		throw Usage(
			format("there is no mode \"%s\"; known are both, current", name.c_str()));
	return name == "both";
}

unsigned number(const char *option, const std::string &text, unsigned most)
{
	bool digits = !text.empty() && text.size() <= 9 &&
		      text.find_first_not_of("0123456789") == text.npos;
	unsigned value = digits ? std::stoul(text) : 0;

	if (value < 1 || value > most)
		throw Usage(format("%s takes a whole number from 1 to %u, not \"%s\"", option, most,
				   text.c_str()));
	return value;
}

void list_workloads()
{
	for (const Kind &kind : kinds())
		printf("%-12s %s\n", kind.name, kind.what);
}

void help()
{
	printf("Usage: spf_storm [OPTION]...\n"
	       "Runs storms of page faults with speculation off and on, by turns, and prints\n"
	       "a JSON line for each.\n\n"
	       "  --workload NAME  one of those that --list names, or all (the default)\n"
	       "  --threads N,...  threads; by default 1, 2, 4 and so on, up to one a CPU\n"
	       "  --rounds N       rounds of off and on, at least %u (the default)\n"
	       "  --size MIB       memory to fault in, all threads together (default 64, or\n"
	       "                   what so many threads need)\n"
	       "  --mode MODE      both (the default): switch speculation off and on; or\n"
	       "                   current: leave it as it is, also where there is none\n"
	       "  --list           say what the workloads are\n"
	       "  --help           say this\n\n"
	       "Exit status: 0 done, 1 a system call failed, 2 wrong arguments, 4 a kernel\n"
	       "without speculative page faults.\n",
	       least_rounds);
}

std::vector<unsigned> numbers(const char *option, const std::string &text, unsigned most)
{
	std::istringstream items(text + ",");
	std::set<unsigned> set;
	std::string item;

	while (std::getline(items, item, ','))
		set.insert(number(option, item, most));
	return {set.begin(), set.end()};
}

Options parse(int argc, char **argv)
{
	static const struct option known[] = {
		{"workload", required_argument, nullptr, 'w'},
		{"threads", required_argument, nullptr, 't'},
		{"rounds", required_argument, nullptr, 'r'},
		{"size", required_argument, nullptr, 's'},
		{"mode", required_argument, nullptr, 'm'},
		{"list", no_argument, nullptr, 'l'},
		{"help", no_argument, nullptr, 'h'},
		{},
	};
	Options options;
	int option;

	while ((option = getopt_long(argc, argv, "", known, nullptr)) != -1) {
		switch (option) {
		case 'w':
			options.workloads = workloads_named(optarg);
			break;
		case 't':
			options.threads = numbers("--threads", optarg, 4096);
			break;
		case 'r':
			options.rounds = number("--rounds", optarg, 10000);
			break;
		case 's':
			options.size = number("--size", optarg, 1u << 24);
			break;
		case 'm':
			options.both = mode_is_both(optarg);
			break;
		case 'l':
			list_workloads();
			exit(0);
		case 'h':
			help();
			exit(0);
		default:
			/* getopt_long() has said what it did not understand. */
			throw Usage("see spf_storm --help");
		}
	}
	if (optind != argc)
		throw Usage(format("\"%s\" is not an option; see spf_storm --help", argv[optind]));
	if (options.both && options.rounds < least_rounds)
		throw Usage(format("a comparison takes at least %u rounds, not %u", least_rounds,
				   options.rounds));
	return options;
}

/* Each thread has a page table of its own, at least. */
std::uint64_t least_size(const Options &options)
{
	return std::uint64_t(options.threads.back()) * table_span() >> 20;
}

/* What cannot be on this machine is refused here, before anything is changed. */
void check(Options &options)
{
	std::uint64_t available = proc_field("/proc/meminfo", "MemAvailable") >> 10;

	if (!options.size)
		options.size = std::max<std::uint64_t>(64, least_size(options));
	for (const Kind &kind : options.workloads) {
		if (!options.runs(kind, options.threads.back()))
			throw Usage(format("%s takes at least %u threads, not %u", kind.name,
					   kind.least_threads, options.threads.back()));
	}
	if (options.size < least_size(options))
		throw Usage(format("%u MiB are too little for %u threads: --size must be at least "
				   "%" PRIu64,
				   options.size, options.threads.back(), least_size(options)));
	if (options.size > available / 2)
		throw Usage(format("%u MiB are too much: --size may be half of the %" PRIu64
				   " MiB that are available",
				   options.size, available));
}

Shape shape_of(const Options &options, unsigned threads)
{
	std::size_t tables = (std::uint64_t(options.size) << 20) / table_span();

	return {threads, tables / threads};
}

/* Calls @run for each number of threads that each workload is to have. */
template <class Run> void each_workload(const Options &options, Run run)
{
	for (const Kind &kind : options.workloads) {
		for (unsigned threads : options.threads) {
			if (options.runs(kind, threads))
				run(kind, shape_of(options, threads));
		}
	}
}

void print_meta(const Options &options)
{
	struct utsname system;
	const char *separator = "";

	must(uname(&system) == 0, "uname");
	printf("{\"meta\":{\"schema\":%d,\"kernel\":\"%s\",\"machine\":\"%s\",\"mmu\":\"%s\","
	       "\"page_size\":%zu,\"cpus\":%ld,\"size_mib\":%u,\"rounds\":%u,\"mode\":\"%s\","
	       "\"workloads\":[",
	       schema, system.release, system.machine, mmu().c_str(), page_size(),
	       sysconf(_SC_NPROCESSORS_ONLN), options.size, options.rounds,
	       options.both ? "both" : "current");
	each_workload(options, [&](const Kind &kind, const Shape &shape) {
		printf("%s{\"name\":\"%s\",\"threads\":%u}", separator, kind.name, shape.threads);
		separator = ",";
	});
	printf("]}}\n");
	fflush(stdout);
}

void print_counts(const char *name, const std::map<std::string, std::uint64_t> &counts)
{
	const char *separator = "";

	printf("\"%s\":{", name);
	for (const auto &[key, count] : counts) {
		printf("%s\"%s\":%" PRIu64, separator, key.c_str(), count);
		separator = ",";
	}
	printf("},");
}

void print_sample(const Kind &kind, const Shape &shape, unsigned round, const char *mode,
		  const Sample &sample)
{
	printf("{\"workload\":\"%s\",\"threads\":%u,\"round\":%u,\"mode\":\"%s\","
	       "\"faults\":%" PRIu64 ",\"seconds\":%.9f,\"pgfault\":%" PRIu64
	       ",\"pgmajfault\":%" PRIu64 ",\"spf_attempt\":%" PRIu64 ",\"spf_success\":%" PRIu64
	       ",",
	       kind.name, shape.threads, round, mode, sample.work.faults, sample.seconds,
	       sample.moved["pgfault"], sample.moved["pgmajfault"], sample.moved.attempt(),
	       sample.moved.success());
	print_counts("spf_abort", sample.moved.aborts());
	print_counts("vma_lock", sample.moved.group("vma_lock_"));
	printf("\"blocked\":%" PRIu64 ",\"tables\":%" PRIu64 ",\"writes\":%" PRIu64 "}\n",
	       sample.blocked, sample.tables, sample.work.writes);
	fflush(stdout);
}

/* Off and on by turns, and each first by turns: what drifts, drifts for both. */
void compare(const Options &options)
{
	Switch speculation;

	each_workload(options, [&](const Kind &kind, const Shape &shape) {
		for (unsigned round = 1; round <= options.rounds; round++) {
			for (unsigned turn = 0; turn < 2; turn++) {
				bool on = (round + turn) % 2 == 0;

				speculation.set(on);
				print_sample(kind, shape, round, on ? "on" : "off",
					     measure(kind, shape));
			}
		}
	});
}

void observe(const Options &options)
{
	each_workload(options, [&](const Kind &kind, const Shape &shape) {
		for (unsigned round = 1; round <= options.rounds; round++)
			print_sample(kind, shape, round, "current", measure(kind, shape));
	});
}

int storm(int argc, char **argv)
{
	Options options = parse(argc, argv);

	check(options);
	if (options.both && mode() == Mode::absent) {
		fprintf(stderr,
			"spf_storm: this kernel has no %s: boot one with speculative page faults, "
			"or measure this one with --mode current\n",
			mode_path);
		return exit_absent;
	}
	print_meta(options);
	if (options.both)
		compare(options);
	else
		observe(options);
	must(!ferror(stdout), "writing the samples");
	return 0;
}

} // namespace

int main(int argc, char **argv)
{
	try {
		return storm(argc, argv);
	} catch (const Usage &error) {
		fprintf(stderr, "spf_storm: %s\n", error.what());
		return exit_usage;
	} catch (const std::exception &error) {
		fprintf(stderr, "spf_storm: %s\n", error.what());
		return exit_failure;
	}
}
