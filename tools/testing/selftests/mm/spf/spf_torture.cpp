// SPDX-License-Identifier: GPL-2.0
/*
 * Storms of faults in several processes, each beside several writers at once, all
 * drawn at random, until the time is over. What spf_writers checks after each storm is
 * checked after each of these; the first violation ends it all.
 */
#include <malloc.h>
#include <time.h>

#include <cinttypes>

#include "writers.hpp"

using namespace spf;

namespace {

constexpr unsigned processes = 3;
constexpr unsigned writer_threads = 2;
constexpr unsigned seconds_a_line = 10;

struct Board {
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> storms{0}, calls{0}, did{0};
};

/* A reading of the clock, of which nothing but the end of the run depends. */
std::uint64_t seconds_now()
{
	struct timespec time;

	must(clock_gettime(CLOCK_MONOTONIC, &time) == 0, "clock_gettime");
	return time.tv_sec;
}

/* Writers of this machine, and what they need, released in reverse order. */
class Writers {
public:
	Writers()
	{
		for (const Writer &writer : writers()) {
			try {
				needs_.push_back(writer.needs());
				list.push_back(writer);
			} catch (const Skip &skip) {
				printf("without %s: %s\n", writer.name.c_str(), skip.what());
			}
		}
	}
	~Writers()
	{
		while (!needs_.empty())
			needs_.pop_back();
	}

	std::vector<Writer> list;

private:
	std::vector<Needs> needs_;
};

/* A storm, and the writers that are let loose on it. */
struct Cast {
	Storm::Shape shape;
	std::vector<Writer> writers;
	unsigned steps;

	Cast(const std::vector<Writer> &all, Dice &dice) : steps(10 + dice.below(50))
	{
		static const Backing backings[] = {Backing::anonymous, Backing::anonymous,
						   Backing::private_file, Backing::shared_file};

		shape.backing = backings[dice.below(4)];
		shape.paced = dice.below(2);
		/* Few, or there would never be a storm whose pages nobody discards. */
		for (std::size_t left = 1 + dice.below(6); left; left--)
			add(all[dice.below(all.size())]);
	}

	const Writer &draw(Dice &dice) const
	{
		std::size_t sum = 0;

		for (const Writer &writer : writers)
			sum += writer.times;
		std::size_t number = dice.below(sum);

		for (const Writer &writer : writers) {
			if (number < writer.times)
				return writer;
			number -= writer.times;
		}
		return writers.back();
	}

	std::string names() const
	{
		std::string text;

		for (const Writer &writer : writers)
			text += " " + writer.name;
		return text;
	}

private:
	bool sealed_ = false;

	void add(const Writer &writer)
	{
		if (!writer.any_backing && writer.shape.backing != shape.backing)
			return;
		/* What is sealed without permission cannot even be discarded by its owner. */
		if ((writer.for_good && shape.allowed.denied) ||
		    (sealed_ && writer.shape.allowed.denied))
			return;
		writers.push_back(writer);
		shape.allowed = shape.allowed | writer.shape.allowed;
		shape.alike |= writer.shape.alike;
		sealed_ |= writer.for_good;
	}
};

std::string one_storm(const Cast &cast, Board &board, std::uint64_t seed)
{
	std::vector<Dice> dice;

	for (unsigned id = 0; id < writer_threads; id++)
		dice.emplace_back(seed + id);

	Storm storm(cast.shape);
	Team team(cast.writers.empty() ? 0 : writer_threads, [&](unsigned id) {
		for (unsigned step = 0; step < cast.steps && !board.stop; step++) {
			board.did += cast.draw(dice[id]).once(storm, dice[id]);
			board.calls++;
			if (dice[id].below(2))
				storm.next_pass();
		}
	});

	storm.start();
	team.finish();
	storm.stop();
	storm.check(false);
	board.storms++;
	return "";
}

std::string storms(const std::vector<Writer> &all, Board &board, std::uint64_t seed)
{
	Dice dice(seed);

	while (!board.stop) {
		Cast cast(all, dice);
		std::uint64_t storm_seed = dice.below(1u << 30);

		try {
			/* In a process of its own: it also ends in the middle of everything. */
			std::string end =
				Child([&] { return one_storm(cast, board, storm_seed); }).collect();

			expect(end.empty(), "the storm was %s", end.c_str());
		} catch (const std::exception &failure) {
			board.stop = true;
			throw Failure(
				format("%s (beside%s)", failure.what(), cast.names().c_str()));
		}
	}
	return "";
}

void report(const Board &board, const Counters &start, std::uint64_t seconds)
{
	Counters moved = Counters::now().since(start);
	std::uint64_t faults = moved["pgfault"];
	std::string aborts;

	for (const auto &[reason, count] : moved.aborts()) {
		if (count)
			aborts += format(" %s %" PRIu64, reason.c_str(), count);
	}
	printf("%" PRIu64 " s: %" PRIu64 " storms, %" PRIu64 " of %" PRIu64
	       " calls did it, %" PRIu64 " faults, %.3f speculated, aborts:%s\n",
	       seconds, board.storms.load(), board.did.load(), board.calls.load(), faults,
	       faults ? static_cast<double>(moved.success()) / faults : 0.0,
	       aborts.empty() ? " none" : aborts.c_str());
	fflush(stdout);
}

int torture(std::uint64_t seconds, std::uint64_t seed)
{
	Writers usable;
	Shared<Board> board;
	Counters start = Counters::now();
	std::uint64_t begin = seconds_now(), next = seconds_a_line;
	int status = 0;
	std::vector<std::unique_ptr<Child>> children;

	printf("seed %" PRIu64 ", %" PRIu64 " s, %zu writers\n", seed, seconds, usable.list.size());
	fflush(stdout);
	for (unsigned i = 0; i < processes; i++)
		children.push_back(std::make_unique<Child>(
			[&, i] { return storms(usable.list, *board, seed * processes + i); }));
	while (!board->stop) {
		std::uint64_t passed = seconds_now() - begin;

		if (passed >= next) {
			report(*board, start, passed);
			next = passed + seconds_a_line;
		}
		if (passed >= seconds)
			board->stop = true;
		usleep(100 * 1000);
	}
	for (std::unique_ptr<Child> &child : children) {
		try {
			std::string end = child->collect();

			expect(end.empty(), "a process of storms was %s", end.c_str());
		} catch (const std::exception &failure) {
			printf("VIOLATION: %s\n", failure.what());
			status = 1;
		}
	}
	if (!settled_counters().balanced()) {
		printf("VIOLATION: attempts are not successes plus aborts: %s\n",
		       Counters::now().summary().c_str());
		status = 1;
	}
	report(*board, start, seconds_now() - begin);
	printf("seed %" PRIu64 ": %s\n", seed, status ? "FAILED" : "passed");
	return status;
}

/* A whole number, or nothing. */
std::optional<std::uint64_t> number(const char *text)
{
	std::string digits = text;

	if (digits.empty() || digits.size() > 9 ||
	    digits.find_first_not_of("0123456789") != digits.npos)
		return std::nullopt;
	return std::stoull(digits);
}

} // namespace

int main(int argc, char **argv)
{
	auto seconds = argc == 3 ? number(argv[1]) : std::nullopt;
	auto seed = argc == 3 ? number(argv[2]) : std::nullopt;

	if (!seconds || !*seconds || !seed) {
		fprintf(stderr,
			"Usage: spf_torture SECONDS SEED, both whole numbers, SECONDS at least 1.\n"
			"Exit status: 0 nothing was violated, 1 something was, 2 wrong arguments.\n");
		return 2;
	}
	mallopt(M_ARENA_MAX, 1);
	install_traps();
	try {
		allow_huge_pages(false);
		return torture(*seconds, *seed);
	} catch (const std::exception &failure) {
		printf("VIOLATION: %s\n", failure.what());
		return 1;
	}
}
