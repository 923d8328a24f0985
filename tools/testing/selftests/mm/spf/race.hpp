/* SPDX-License-Identifier: GPL-2.0 */
/* A fault that is held up in the middle, and what others do to it meanwhile. */
#ifndef SPF_RACE_HPP
#define SPF_RACE_HPP

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "counters.hpp"
#include "mapping.hpp"
#include "team.hpp"
#include "trap.hpp"

/* The linker's: where the program is. */
extern "C" char __executable_start, etext;

namespace spf {

/* As long as this lives, each speculative fault spends that time at the point. */
class Delay {
public:
	Delay(const char *point, unsigned microseconds)
		: setting_(std::string("/sys/kernel/debug/spf_delay/") + point,
			   std::to_string(microseconds))
	{
	}

private:
	Setting setting_;
};

/*
 * Lets so much of a fault pass. Rounds differ in it, so that some of them do their change
 * in each part of the fault; none of them may go wrong.
 */
inline void linger(unsigned microseconds)
{
	auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);

	while (std::chrono::steady_clock::now() < until) {
	}
}

/*
 * Threads that begin each round together: the first one faults, the others change what it
 * faults on. Faults are held up until the last one has seen that the first one's is over.
 * They spin: who slept would find its TLB empty.
 */
class Race {
public:
	using Turn = std::function<void(unsigned round)>;
	/* Of points and microseconds. */
	using Delays = std::vector<std::pair<const char *, unsigned>>;

	Race(unsigned rounds, Delays delays, std::vector<Turn> turns)
		: rounds_(rounds), delays_(std::move(delays)), turns_(with_cpus(std::move(turns))),
		  team_(turns_.size(), [this](unsigned id) { take_turns(id); })
	{
	}

	void run()
	{
		page_in_code();
		team_.start();
		team_.finish();
	}

	/* Something has gone wrong: nobody may wait for anybody any more. */
	bool stopping() const { return team_.stopping(); }
	bool faulted(unsigned round) const { return faulted_ > round || stopping(); }

	/* For the last one, and in each round. */
	void await_fault(unsigned round)
	{
		while (!faulted(round)) {
		}
		held_.clear();
	}

private:
	static std::vector<Turn> with_cpus(std::vector<Turn> turns)
	{
		if (cpus().size() < turns.size())
			throw Skip(format("%zu threads need a CPU each, and there are %zu",
					  turns.size(), cpus().size()));
		return turns;
	}

	/* What fork() has not copied, or left to be copied, would be what is held up. */
	static void own_stack()
	{
		volatile char pages[32 * 1024];

		for (std::size_t at = 0; at < sizeof(pages); at += 1024)
			pages[at] = 0;
		/* And what is noted of the thread around a trap and, by the library, a system call. */
		trap([] {});
		close(-1);
	}
	static void page_in_code()
	{
		char *begin = &__executable_start;

		madvise(begin, (&etext - begin + page_size() - 1) & -page_size(),
			MADV_POPULATE_READ);
	}

	void take_turns(unsigned id)
	{
		for (unsigned round = 0; round < rounds_ && !stopping(); round++) {
			own_stack();
			meet();
			if (id == turns_.size() - 1) {
				for (auto [point, microseconds] : delays_)
					held_.emplace_back(point, microseconds);
			}
			meet();
			turns_[id](round);
			if (id == 0)
				faulted_ = round + 1;
			meet();
		}
	}
	void meet()
	{
		unsigned all = turns_.size(), last = (arrived_++ / all + 1) * all;

		while (arrived_ < last && !stopping()) {
		}
	}

	unsigned rounds_;
	Delays delays_;
	std::vector<Turn> turns_;
	std::list<Delay> held_;
	std::atomic<unsigned> faulted_{0};
	std::atomic<unsigned> arrived_{0};
	Team team_;
};

} // namespace spf

#endif /* SPF_RACE_HPP */
