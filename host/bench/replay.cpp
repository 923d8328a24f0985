// SPDX-License-Identifier: GPL-2.0
/*
 * What recorded page faults would cost on 1 to 128 CPUs; coherence.hpp says by what
 * model. Prints lines of words, for coherence.py:
 *   lost N                                     what the recording lacks
 *   parameter NAME VALUE                       of the model
 *   kind KIND THREADS FAULTS INSTRUCTIONS      (of a fault, on average) for each kind
 *   point KIND MODE CPUS THROUGHPUT EFFICIENCY TRANSFERS UPGRADES
 *   line KIND MODE CPUS ADDRESS TRANSFERS UPGRADES  by what was touched
 *   moved KIND PARAMETER VALUE CPUS EFFICIENCY if one parameter is another
 *   end
 * MODE is 0 where lock hold times are left out, 1 where they are honoured, 2 where
 * they are, but for some lines that are taken for each CPU's own. Throughput is in
 * faults a cycle, transfers are a fault's.
 */
#include <iostream>
#include <optional>

#include "coherence.hpp"

namespace {

using namespace coherence;

/*
 * Recordings made by hand, of which it is known what comes out: with each another
 * that lacks what the test is about, from which something else must come out, for
 * a test that cannot tell them apart is none.
 */
class self_test {
public:
	bool run()
	{
		const access write_hot = {1000, hot, true}, write_own = {1000, own, true, 1};
		const access near_read = {1000, hot, false}, near_write = {10, hot, true};
		const access write_pair = {1000, pair, true, 2};
		const crew writers = make(4, {write_hot}), owners = make(4, {write_own});
		const crew held = make(2, {{500, hot, true, 0, true}, {500, hot, true}});
		const crew pairs = make(4, {write_pair});
		const crew lookers = make(4, {near_read});
		crew readers = lookers, both = make(2, {near_read, near_write});
		model plain, free, locks, groups, common;

		/* One is the first to write, and one is late, or all would be in step. */
		readers[0][0] = writers[0][0];
		both[1][0] = make(1, {{500, own, true}, near_read, near_write})[0][0];
		free.hit = free.transfer = free.miss = 0;
		locks = free;
		locks.locks = true;
		groups.transfer = common.transfer = 1000;
		groups.neighbours = 2;
		common.neighbours = 1;
		expect("a line that is written to in turn is transferred each time",
		       replay(writers, plain, 2).transfers, 1, replay(owners, plain, 2).transfers,
		       0);
		expect("a line that is only read is transferred once to each other CPU",
		       replay(readers, plain, 4).ever, 3, replay(writers, plain, 4).ever,
		       4 * faults);
		expect("a line that nobody writes to is not transferred",
		       replay(lookers, plain, 8).ever, 0, replay(readers, plain, 4).ever, 3);
		expect("what is each CPU's own scales to 128 CPUs", efficiency(owners, plain, 128),
		       1, efficiency(writers, plain, 128), 1003.0 / 100 / 128);
		expect("a write to what others have read is an upgrade",
		       replay(both, plain, 2).upgrades, 1, replay(writers, plain, 2).upgrades, 0);
		expect("a hot line serves one CPU at a time", replay(writers, plain, 64).throughput,
		       1 / 100.0, replay(writers, plain, 8).throughput, 8 / 1100.0);
		expect("critical sections take turns", speedup(held, locks, 4), 2,
		       speedup(held, free, 4), 4);
		expect("what a few threads touch is their group's",
		       replay(pairs, groups, 8).throughput, 8 / 2000.0,
		       replay(pairs, common, 8).throughput, 2 / 1000.0);
		return good;
	}

private:
	static constexpr uint64_t hot = 0x1000, own = 0x10000, pair = 0x20000;
	static constexpr unsigned int faults = 400;
	bool good = true;

	struct access {
		uint32_t instructions; /* before it */
		uint64_t addr;
		bool store;
		unsigned int threads = 0; /* that have the same one, if not all */
		bool locked = false;
	};

	static crew make(unsigned int threads, const std::vector<access> &all)
	{
		crew made(threads);

		for (unsigned int t = 0; t < threads; t++) {
			fault f = {0, {}};

			for (const access &a : all) {
				f.instructions += a.instructions;
				f.done.push_back({a.addr + (a.threads ? t / a.threads * 4096 : 0),
						  a.instructions, 0, a.store, a.locked, 0});
			}
			made[t].assign(faults, f);
		}
		return made;
	}

	static outcome replay(const crew &what, const model &how, unsigned int cpus)
	{
		return simulate(program(what, how.neighbours), how, cpus);
	}

	static double speedup(const crew &what, const model &how, unsigned int cpus)
	{
		return replay(what, how, cpus).throughput / replay(what, how, 1).throughput;
	}

	static double efficiency(const crew &what, const model &how, unsigned int cpus)
	{
		return speedup(what, how, cpus) / cpus;
	}

	static bool close(double is, double wanted)
	{
		return std::abs(is - wanted) <= 0.02 * std::max(wanted, 0.01);
	}

	void expect(const char *what, double is, double wanted, double other, double other_wanted)
	{
		const bool ok = close(is, wanted) && close(other, other_wanted) &&
				!close(wanted, other_wanted);

		good &= ok;
		std::cout << (ok ? "ok: " : "FAIL: ") << what << ": " << is << ", and " << other
			  << " otherwise (" << wanted << " and " << other_wanted << " expected).\n";
	}
};

enum mode { left_out, honoured, apart };

void replay(unsigned int kind, const program &what, const model &how, mode as)
{
	model used = how;

	used.locks = as != left_out;
	const double alone = simulate(what, used, 1).throughput;
	for (unsigned int cpus = 1; cpus <= most_cpus; cpus *= 2) {
		const outcome o = simulate(what, used, cpus);

		std::cout << "point " << kind << ' ' << as << ' ' << cpus << ' ' << o.throughput
			  << ' ' << o.throughput / alone / cpus << ' ' << o.transfers << ' '
			  << o.upgrades << '\n';
		for (size_t n = 0; n < o.transfers_of.size(); n++)
			if (o.transfers_of[n] || o.upgrades_of[n])
				std::cout << "line " << kind << ' ' << as << ' ' << cpus << std::hex
					  << ' ' << what.labels[n] << std::dec << ' '
					  << o.transfers_of[n] << ' ' << o.upgrades_of[n] << '\n';
	}
}

void print_kind(unsigned int kind, const crew &recorded)
{
	double faults = 0, instructions = 0;

	for (const auto &thread : recorded)
		for (const fault &f : thread) {
			faults++;
			instructions += f.instructions;
		}
	std::cout << "kind " << kind << ' ' << recorded.size() << ' ' << faults << ' '
		  << instructions / faults << '\n';
}

/*
 * How the result moves with each parameter halved and doubled; and if nothing hides
 * how long memory takes, as it is hidden where a page is cleared from start to end.
 */
void move(unsigned int kind, const crew &recorded, const program &reduced, const model &how)
{
	for (const parameter &p : parameters) {
		std::vector<double> values = {how.*p.value / 2, how.*p.value * 2};

		if (p.value == &model::miss)
			values.push_back(how.transfer);
		for (double value : values) {
			model moved = how;
			std::optional<program> again;

			moved.*p.value = value;
			if (p.value == &model::neighbours)
				again.emplace(recorded, moved.neighbours);
			const program &what = again ? *again : reduced;
			const double alone = simulate(what, moved, 1).throughput;

			for (unsigned int cpus : {8, 32, 64})
				std::cout << "moved " << kind << ' ' << p.name << ' ' << value
					  << ' ' << cpus << ' '
					  << simulate(what, moved, cpus).throughput / alone / cpus
					  << '\n';
		}
	}
}

constexpr const char *usage =
	"Usage: replay [--ipc X] [--hit X] [--transfer X] [--miss X] [--neighbours X]\n"
	"              [--apart FILE] RECORDING\n"
	"       replay [...] --self-test\n"
	"\n"
	"The parameters are cycles, but for ipc, instructions a cycle, and neighbours, how\n"
	"many threads may share a line that is their group's and not everybody's. With\n"
	"--apart, only what it would be if the lines of the addresses in FILE (hexadecimal)\n"
	"were each CPU's own.\n";

double number(const std::string &option, const std::string &text)
{
	size_t end = 0;
	double value = 0;

	try {
		value = std::stod(text, &end);
	} catch (const std::exception &) {
	}
	if (text.empty() || end != text.size() || !(value > 0) || !std::isfinite(value))
		throw std::runtime_error(option + ' ' + text + " is not a number above 0");
	return value;
}

std::set<uint64_t> read_lines(const std::string &path)
{
	std::ifstream file(path);
	std::set<uint64_t> lines;
	uint64_t addr;

	while (file >> std::hex >> addr)
		lines.insert(addr / accesses::line_size);
	if (!path.empty() && !file.eof())
		throw std::runtime_error(path + " cannot be read as hexadecimal addresses");
	return lines;
}

int run(const std::vector<std::string> &words)
{
	std::string path, apart_path;
	bool test = false;
	model how;

	for (size_t n = 0; n < words.size(); n++) {
		const auto *known = std::find_if(
			std::begin(parameters), std::end(parameters),
			[&](const parameter &p) { return words[n] == std::string("--") + p.name; });

		if (known != std::end(parameters) && n + 1 < words.size()) {
			how.*known->value = number(words[n], words[n + 1]);
			n++;
		} else if (words[n] == "--apart" && n + 1 < words.size()) {
			apart_path = words[++n];
		} else if (words[n] == "--self-test") {
			test = true;
		} else if (path.empty() && words[n].rfind("-", 0)) {
			path = words[n];
		} else {
			throw std::runtime_error(words[n] + " is not known, is one too many, or "
							    "lacks its value; see replay --help");
		}
	}
	if (test)
		return !self_test().run();
	if (path.empty())
		throw std::runtime_error("no recording is given; see replay --help");
	const std::set<uint64_t> lines = read_lines(apart_path);
	const recording recorded(path);

	if (!apart_path.empty()) {
		for (const auto &[kind, crew] : recorded.kinds)
			replay(kind, program(crew, how.neighbours, lines), how, apart);
		std::cout << "end" << std::endl;
		return 0;
	}
	std::cout << "lost " << recorded.lost << '\n';
	for (const parameter &p : parameters)
		std::cout << "parameter " << p.name << ' ' << how.*p.value << '\n';
	for (const auto &[kind, crew] : recorded.kinds) {
		const program what(crew, how.neighbours);

		print_kind(kind, crew);
		replay(kind, what, how, left_out);
		replay(kind, what, how, honoured);
		move(kind, crew, what, how);
	}
	std::cout << "end" << std::endl;
	return 0;
}

} // namespace

int main(int argc, char **argv)
{
	const std::vector<std::string> words(argv + 1, argv + argc);

	try {
		if (words != std::vector<std::string>{"--help"})
			return run(words);
		std::cout << usage;
		return 0;
	} catch (const std::exception &error) {
		std::cerr << "replay: " << error.what() << ".\n";
		return 1;
	}
}
