/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Recorded page faults, and a model of coherent caches in which they are replayed:
 * their accesses to memory in the order of a simulated clock.
 *
 * Caches are private, without end, and hold lines of 64 bytes in the states of MESI.
 * An instruction takes 1/ipc cycles. An access takes "hit" besides where this CPU may
 * have it at once, "miss" where no cache has the line, and "transfer" where another's
 * has: the line moves or is copied, or (an upgrade) the other copies are dropped.
 * Transfers of one line are served one at a time in the order in which they are
 * asked for, so a hot line has a queue. Optionally, critical sections of a spinlock
 * (from an atomic access up to a plain store to the same address) are, too.
 *
 * CPU n replays recorded thread n modulo how many there are. What a single thread
 * touched is each CPU's own: its page, its page table, its stack, its per-CPU data.
 * What a few ("neighbours") touched, as a list's members, is that of a group of
 * CPUs, one for each thread; what more touched is everybody's. Each group begins at
 * another fault of the recording, or all would empty their batches at once.
 */
#pragma once

#include <algorithm>
#include <bitset>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <queue>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "accesses.hpp"

namespace coherence {

constexpr unsigned int most_cpus = 128, most_threads = 64;
constexpr uint64_t word = 8; /* what is told apart in a line */

struct model {
	double ipc = 1, hit = 3, transfer = 100, miss = 3, neighbours = 3;
	bool locks = false;
};

struct parameter {
	const char *name;
	double model::*value;
};

constexpr parameter parameters[] = {{"ipc", &model::ipc},
				    {"hit", &model::hit},
				    {"transfer", &model::transfer},
				    {"miss", &model::miss},
				    {"neighbours", &model::neighbours}};

struct fault {
	uint32_t instructions;
	std::vector<accesses::access> done;
};

/* The faults of one kind, of each thread. */
using crew = std::vector<std::vector<fault>>;

class recording {
public:
	std::map<unsigned int, crew> kinds;
	uint64_t lost = 0;

	explicit recording(const std::string &path) : path(path), file(path, std::ios::binary)
	{
		std::map<unsigned int, std::map<unsigned int, std::vector<fault>>> all;
		accesses::fault head = {};

		if (get<uint64_t>() != accesses::first)
			throw std::runtime_error(path + " is not a recording of this version");
		while (head = get<accesses::fault>(), head.kind != accesses::end) {
			fault f = {head.instructions, {}};

			/* An access takes an instruction, but a string's, one of a page. */
			if (head.count > 256 * uint64_t(head.instructions))
				refuse();
			f.done.resize(head.count);
			read(f.done.data(), head.count * sizeof(accesses::access));
			all[head.kind][head.thread].push_back(std::move(f));
		}
		lost = head.thread;
		for (auto &[kind, threads] : all)
			keep(kinds[kind], threads);
	}

private:
	std::string path;
	std::ifstream file;

	[[noreturn]] void refuse() const
	{
		throw std::runtime_error(path + " cannot be read to its end; record again");
	}

	void read(void *to, size_t size)
	{
		if (!file.read(static_cast<char *>(to), size))
			refuse();
	}

	template <class What> What get()
	{
		What what;

		read(&what, sizeof(what));
		return what;
	}

	/* Those that were meant to fault; others happen to in a marked stretch. */
	void keep(crew &kept, std::map<unsigned int, std::vector<fault>> &threads) const
	{
		size_t most = 0;

		for (const auto &[thread, faults] : threads)
			most = std::max(most, faults.size());
		for (auto &[thread, faults] : threads)
			if (faults.size() > most / 2)
				kept.push_back(std::move(faults));
		if (kept.size() > most_threads)
			throw std::runtime_error(path + " is of more than " +
						 std::to_string(most_threads) + " threads");
	}
};

/* An access to what others touch as well, and what comes before it. */
struct local {
	uint32_t instructions = 0, hits = 0, misses = 0;
};

struct step {
	local before;
	uint32_t line, lock, label;
	bool everybodys, write, acquire, release;
};

struct path {
	std::vector<step> steps;
	local after;
};

/* A recording, reduced to what CPUs may have to wait for. */
class program {
public:
	/* Everybody's come first, then each group's. */
	struct extent {
		size_t common = 0, grouped = 0;

		size_t total(size_t groups) const { return common + groups * grouped; }
		size_t base(bool everybodys, size_t group) const
		{
			return everybodys ? 0 : common + group * grouped;
		}
	};

	std::vector<std::vector<path>> threads;
	extent lines, locks;
	std::vector<uint64_t> labels; /* the addresses that steps are about */

	/* Lines that are "apart" are taken for each CPU's own, whoever touched them. */
	program(const crew &recorded, double neighbours, const std::set<uint64_t> &apart = {})
	{
		for (size_t t = 0; t < recorded.size(); t++)
			for (const fault &f : recorded[t])
				for (const auto &a : f.done)
					each_line(a, [&](uint64_t line) {
						known[line].touched.set(t);
						known[line].stored |= a.store;
					});
		neighbours = std::min(neighbours, recorded.size() - 1.0);
		for (auto &[line, of] : known) {
			/* What nobody writes to is read in once, and is never lost. */
			of.shared = of.stored && of.touched.count() > 1 && !apart.count(line);
			of.everybodys = of.touched.count() > neighbours;
			if (of.shared)
				of.index = (of.everybodys ? lines.common : lines.grouped)++;
		}
		for (size_t t = 0; t < recorded.size(); t++) {
			threads.emplace_back();
			for (const fault &f : recorded[t])
				threads.back().push_back(reduce(f, t));
		}
	}

private:
	struct line_info {
		std::bitset<most_threads> touched, seen;
		bool stored = false, shared = false, everybodys = false;
		uint32_t index = 0;
	};

	std::unordered_map<uint64_t, line_info> known;
	std::unordered_map<uint64_t, uint32_t> label_of, lock_of;

	template <class Call> static void each_line(const accesses::access &a, Call call)
	{
		const uint64_t last = a.addr + (1 << a.shift) - 1;

		for (uint64_t line = a.addr / accesses::line_size;
		     line <= last / accesses::line_size; line++)
			call(line);
	}

	uint32_t label(uint64_t addr)
	{
		const auto [at, is_new] = label_of.try_emplace(addr / word * word, labels.size());

		if (is_new)
			labels.push_back(at->first);
		return at->second;
	}

	uint32_t lock(uint64_t addr, bool everybodys)
	{
		const auto [at, is_new] = lock_of.try_emplace(addr, 0);

		if (is_new)
			at->second = (everybodys ? locks.common : locks.grouped)++;
		return at->second;
	}

	/*
	 * The accesses that begin and end critical sections. Who waits for a lock in the
	 * slow path makes it his own by a store, too, so the last one counts.
	 */
	static void find_sections(const fault &f, std::vector<bool> &acquire,
				  std::vector<bool> &release)
	{
		struct section {
			size_t begin, end;
		};
		std::unordered_map<uint64_t, section> taken;

		for (size_t n = 0; n < f.done.size(); n++) {
			const accesses::access &a = f.done[n];

			if (a.locked) {
				taken[a.addr] = {n, n};
			} else if (const auto at = taken.find(a.addr);
				   a.store && at != taken.end()) {
				release[at->second.end] = false;
				acquire[at->second.begin] = release[n] = true;
				at->second.end = n;
			}
		}
	}

	path reduce(const fault &f, size_t thread)
	{
		std::vector<bool> acquire(f.done.size()), release(f.done.size());
		path reduced;
		local &before = reduced.after;
		uint32_t instructions = f.instructions;

		find_sections(f, acquire, release);
		for (size_t n = 0; n < f.done.size(); n++) {
			const accesses::access &a = f.done[n];

			before.instructions += a.gap;
			instructions -= a.gap;
			each_line(a, [&](uint64_t line) {
				line_info &of = known.at(line);
				const bool seen = of.seen[thread];

				of.seen.set(thread);
				if (!of.shared) {
					++(seen ? before.hits : before.misses);
					return;
				}
				const bool of_lock = acquire[n] || release[n];

				reduced.steps.push_back({before, of.index,
							 of_lock ? lock(a.addr, of.everybodys) : 0,
							 label(a.addr), of.everybodys,
							 bool(a.store), acquire[n], release[n]});
				before = {};
			});
		}
		before.instructions += instructions;
		return reduced;
	}
};

struct outcome {
	double throughput = 0;              /* faults a cycle */
	double transfers = 0, upgrades = 0; /* a fault */
	uint64_t ever = 0;                  /* all transfers, those of warming up as well */
	std::vector<double> transfers_of, upgrades_of; /* by label */
};

class simulation {
public:
	simulation(const program &what, const model &how, unsigned int cpus, unsigned int first = 0)
		: what(what), how(how), groups((cpus - 1) / what.threads.size() + 1),
		  lines(what.lines.total(groups)), locks(what.locks.total(groups))
	{
		result.transfers_of.resize(what.labels.size());
		result.upgrades_of.resize(what.labels.size());
		for (unsigned int n = 0; n < cpus; n++) {
			const unsigned int group = n / what.threads.size();
			const auto &faults = what.threads[(first + n) % what.threads.size()];

			crowd.push_back({&faults, group, faults.size() * group / groups});
			plan(n, 0);
		}
	}

	/* Until every CPU has done as many faults as were recorded; who is early goes on. */
	outcome run()
	{
		double now = 0;

		while (finished < crowd.size()) {
			if (due.empty())
				throw std::runtime_error("critical sections wait for each other, "
							 "so some of them are none");
			const auto [time, n] = due.top();

			due.pop();
			now = time;
			go_on(n, now);
		}
		result.throughput = measured / (now - open);
		for (size_t n = 0; n < what.labels.size(); n++) {
			result.transfers += result.transfers_of[n] /= measured;
			result.upgrades += result.upgrades_of[n] /= measured;
		}
		return std::move(result);
	}

private:
	/* Modified or exclusive where one has it, shared where several have. */
	struct line {
		std::bitset<most_cpus> has;
		double free = 0;
	};

	struct lock {
		bool held = false;
		std::vector<unsigned int> waiting;
	};

	struct cpu {
		const std::vector<path> *faults;
		unsigned int group;
		size_t fault, step = 0, done = 0;
		bool granted = false;
	};

	using event = std::pair<double, unsigned int>;

	const program &what;
	const model &how;
	size_t groups;
	std::vector<line> lines;
	std::vector<lock> locks;
	std::vector<cpu> crowd;
	std::priority_queue<event, std::vector<event>, std::greater<event>> due;
	unsigned int warm = 0, finished = 0;
	double open = 0, measured = 0; /* since when, and how many faults; all are warm */
	outcome result;

	double cost(const local &l) const
	{
		return l.instructions / how.ipc + l.hits * how.hit + l.misses * how.miss;
	}

	const path &current(const cpu &c) const { return (*c.faults)[c.fault]; }

	/* When the next access that others may notice is, or the end of the fault. */
	void plan(unsigned int n, double now)
	{
		const cpu &c = crowd[n];
		const path &p = current(c);

		due.push({now + cost(c.step < p.steps.size() ? p.steps[c.step].before : p.after),
			  n});
	}

	void go_on(unsigned int n, double now)
	{
		cpu &c = crowd[n];

		if (c.step == current(c).steps.size())
			end_fault(c, now);
		else if (!access(n, now))
			return;
		plan(n, now);
	}

	/* The first quarter of them warms up the caches. */
	void end_fault(cpu &c, double now)
	{
		measured += warm == crowd.size();
		c.step = 0;
		c.fault = (c.fault + 1) % c.faults->size();
		c.done++;
		warm += c.done == c.faults->size() / 4 + 1;
		finished += c.done == c.faults->size();
		if (warm == crowd.size() && !open)
			open = now;
	}

	/* False if it has to wait for a lock. */
	bool access(unsigned int n, double &now)
	{
		cpu &c = crowd[n];
		const step &s = current(c).steps[c.step];
		const size_t lock_at = what.locks.base(s.everybodys, c.group) + s.lock;

		if (how.locks && s.acquire && !c.granted) {
			lock &l = locks[lock_at];

			if (l.held) {
				l.waiting.push_back(n);
				return false;
			}
			l.held = true;
		}
		c.granted = false;
		now = reach(lines[what.lines.base(s.everybodys, c.group) + s.line], s, n, now);
		if (how.locks && s.release)
			pass_on(locks[lock_at], now);
		c.step++;
		return true;
	}

	/* The one that has waited for the longest is next. */
	void pass_on(lock &l, double now)
	{
		l.held = !l.waiting.empty();
		if (!l.held)
			return;
		crowd[l.waiting.front()].granted = true;
		due.push({now, l.waiting.front()});
		l.waiting.erase(l.waiting.begin());
	}

	/* When the access is over. */
	double reach(line &at, const step &s, unsigned int n, double now)
	{
		const bool had = at.has[n], others = at.has.count() > had;

		if (had && (!s.write || !others))
			return now + how.hit;
		if (s.write)
			at.has.reset();
		at.has.set(n);
		if (!others)
			return now + how.miss;
		at.free = std::max(at.free, now) + how.transfer;
		result.ever++;
		if (warm == crowd.size())
			(had ? result.upgrades_of : result.transfers_of)[s.label]++;
		return at.free;
	}
};

inline outcome simulate(const program &what, const model &how, unsigned int cpus)
{
	if (cpus > 1)
		return simulation(what, how, cpus).run();

	/* Alone, each thread in turn: what a fault takes is their mean. */
	outcome all;
	double time = 0;

	for (unsigned int thread = 0; thread < what.threads.size(); thread++)
		time += 1 / simulation(what, how, 1, thread).run().throughput;
	all.throughput = what.threads.size() / time;
	return all;
}

} // namespace coherence
