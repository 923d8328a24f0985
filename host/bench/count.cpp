// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU TCG plugin: every instruction that an x86-64 guest kernel executes on
 * behalf of a page fault taken in user mode, from the first of its entry to the
 * one that returns, or of the system calls in a marked stretch, counted.
 *
 * What is counted are the executions of each instruction, not of translated
 * blocks, which an exception may leave early. One that follows itself counts
 * once: to QEMU each iteration of a string instruction (rep) is an execution,
 * and one that has to be repeated (a fault or an interrupt in a string, an
 * atomic operation that the host lacks) is two. No other jumps to itself. A loop
 * that waits (pause) counts once, too: how long it waits is the emulator's doing.
 *
 * The result has, for each kind and each number of instructions that some fault
 * of it took, how many took so many, and which instructions these were.
 */
#include "tracker.hpp"

namespace {

using path = std::vector<uint64_t>;

struct notes {
	path executed;
};

/* Those that took the same number of instructions. */
struct alike {
	uint64_t times = 0;
	std::unordered_map<uint64_t, uint64_t> executed;
};

struct totals {
	std::map<std::pair<unsigned int, size_t>, alike> results;
};

class counter : public tracker<counter, notes, totals> {
public:
	static constexpr const char *name = "count plugin";
	static inline const std::vector<std::string> roles;

	static void begun(context &task) { task.executed.clear(); }

	/* What a system call did is known when its stretch is over. */
	static void ended(vcpu &v, const context &task)
	{
		if (task.kind < marks::calls)
			add(v, task.kind, task.executed);
	}

	static void marked(vcpu &v, unsigned int kind, unsigned int word)
	{
		const std::lock_guard<std::mutex> guard(stretch_lock);

		if (kind >= marks::calls)
			add(v, kind, stretch);
		stretch.clear();
		if (word == marks::finish)
			write_results();
	}

	static void instrument(qemu_plugin_insn *insn)
	{
		static constexpr unsigned char pause[] = {0xf3, 0x90};

		on_exec(insn, is(insn, pause) ? on_instruction<true> : on_instruction<false>);
	}

private:
	/* All that the system calls of a stretch execute, whichever task makes them. */
	static inline path stretch;
	static inline std::mutex stretch_lock;

	/* The longest loop that waits for something has not so many. */
	static constexpr long waiting = 32;

	template <bool pause> static void append(path &executed, uint64_t pc)
	{
		if (pause) {
			const auto end = executed.rend() - executed.rbegin() > waiting
						 ? executed.rbegin() + waiting
						 : executed.rend();
			const auto last = std::find(executed.rbegin(), end, pc);

			if (last != end)
				executed.erase(last.base() - 1, executed.end());
		}
		if (executed.empty() || executed.back() != pc)
			executed.push_back(pc);
	}

	template <bool pause> static void on_instruction(unsigned int cpu, void *data)
	{
		context &task = *vcpus[cpu].task;
		const uint64_t pc = reinterpret_cast<uintptr_t>(data);

		if (!task.recorded())
			return;
		if (task.kind < marks::calls) {
			append<pause>(task.executed, pc);
		} else {
			const std::lock_guard<std::mutex> guard(stretch_lock);

			append<pause>(stretch, pc);
		}
	}

	static void add(vcpu &v, unsigned int kind, const path &executed)
	{
		alike &those = v.results[{kind, executed.size()}];

		those.times++;
		for (uint64_t pc : executed)
			those.executed[pc]++;
	}

	static void write_results()
	{
		std::ofstream out(out_path);

		out << "lost " << lost() << '\n';
		for (const vcpu &v : vcpus)
			for (const auto &[key, those] : v.results) {
				out << "took " << key.first << ' ' << key.second << ' '
				    << those.times << '\n';
				for (const auto &[pc, count] : those.executed)
					out << std::hex << pc << std::dec << ' ' << count << '\n';
			}
		out << "end\n";
	}
};

} // namespace

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *, int argc, char **argv)
{
	return counter::install(id, argc, argv);
}
