// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU TCG plugin: every access to memory that an x86-64 guest kernel makes on
 * behalf of a page fault taken in user mode, in order, with the number of
 * instructions before it, and whether it is an atomic read-modify-write.
 *
 * What the emulation alone is to blame for is left out: of a loop that waits
 * (it has a pause in it), one turn is kept. How long CPUs wait for each other
 * is for the replay to say.
 */
#include "tracker.hpp"
#include "accesses.hpp"

namespace {

struct access {
	uint64_t pc, addr;
	uint32_t before; /* instructions of the fault */
	unsigned int shift;
	bool store, locked;
};

/* Where the fault was when it came to a pause. */
struct turn {
	uint64_t pc = 0;
	uint32_t instructions = 0;
	size_t count = 0;
};

struct notes {
	static inline std::atomic<uint32_t> threads;
	uint32_t thread = threads++;
	std::vector<access> done;
	uint64_t last_pc = 0;
	uint32_t instructions = 0;
	turn paused;
};

struct totals {};

class recorder : public tracker<recorder, notes, totals> {
public:
	static constexpr const char *name = "record plugin";
	static inline const std::vector<std::string> roles;

	static void begun(context &task)
	{
		task.done.clear();
		task.last_pc = task.instructions = 0;
		task.paused = turn();
	}

	static void ended(vcpu &v, const context &task)
	{
		if (task.kind >= marks::calls)
			return;
		std::vector<accesses::access> packed;
		uint32_t before = 0;

		for (const access &a : task.done) {
			packed.push_back({a.addr, a.before - before, static_cast<uint8_t>(a.shift),
					  a.store, a.locked, 0});
			before = a.before;
		}
		const std::lock_guard<std::mutex> guard(lock);

		open();
		put(accesses::fault{task.kind, task.thread,
				    static_cast<uint32_t>(&v - vcpus.data()), task.instructions,
				    static_cast<uint32_t>(packed.size())});
		out.write(reinterpret_cast<const char *>(packed.data()),
			  packed.size() * sizeof(accesses::access));
	}

	static void marked(vcpu &, unsigned int, unsigned int word)
	{
		const std::lock_guard<std::mutex> guard(lock);

		if (word != marks::finish)
			return;
		open();
		put(accesses::fault{accesses::end, static_cast<uint32_t>(lost()), 0, 0, 0});
		out.close();
	}

	static void instrument(qemu_plugin_insn *insn)
	{
		static constexpr unsigned char pause[] = {0xf3, 0x90};

		on_exec(insn, on_instruction);
		if (is(insn, pause))
			on_exec(insn, on_pause);
		on_memory(insn, is_locked(insn) ? on_locked : on_access, QEMU_PLUGIN_MEM_RW);
	}

private:
	static constexpr uint32_t close = 64;
	static inline std::mutex lock; /* of the file */
	static inline std::ofstream out;

	template <class What> static void put(const What &what)
	{
		out.write(reinterpret_cast<const char *>(&what), sizeof(what));
	}

	static void open()
	{
		if (out.is_open())
			return;
		out.open(out_path, std::ios::binary);
		put(accesses::first);
	}

	/* A lock prefix among the others, or an exchange with memory, which implies it. */
	static bool is_locked(const qemu_plugin_insn *insn)
	{
		static const std::string prefixes = "\xf2\xf3\x66\x67\x2e\x36\x3e\x26\x64\x65";
		const auto *byte = static_cast<const unsigned char *>(qemu_plugin_insn_data(insn));
		const auto *last = byte + qemu_plugin_insn_size(insn);

		while (byte < last && prefixes.find(static_cast<char>(*byte)) != prefixes.npos)
			byte++;
		if (byte < last && *byte == 0xf0)
			return true;
		if (byte < last && (*byte & 0xf0) == 0x40)
			byte++;
		return byte + 1 < last && (*byte & 0xfe) == 0x86 && byte[1] < 0xc0;
	}

	/* One that follows itself is a string instruction's next iteration (see count.cpp). */
	static void on_instruction(unsigned int cpu, void *data)
	{
		context &task = *vcpus[cpu].task;
		const uint64_t pc = reinterpret_cast<uintptr_t>(data);

		if (!task.recorded() || pc == task.last_pc)
			return;
		task.last_pc = pc;
		task.instructions++;
	}

	static void on_pause(unsigned int cpu, void *data)
	{
		context &task = *vcpus[cpu].task;
		const uint64_t pc = reinterpret_cast<uintptr_t>(data);

		if (!task.recorded())
			return;
		if (task.paused.pc == pc && task.instructions - task.paused.instructions < close) {
			task.instructions = task.paused.instructions;
			task.done.resize(task.paused.count);
		}
		task.paused = {pc, task.instructions, task.done.size()};
	}

	static void add(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t addr, void *data,
			bool locked)
	{
		context &task = *vcpus[cpu].task;
		const access now = {reinterpret_cast<uintptr_t>(data),
				    addr,
				    task.instructions,
				    qemu_plugin_mem_size_shift(info),
				    qemu_plugin_mem_is_store(info),
				    locked};

		if (!task.recorded())
			return;
		/* The same instruction in the same line: a string, whose copy has two lines. */
		for (size_t back = 1; back <= 2 && back <= task.done.size(); back++) {
			const access &then = task.done[task.done.size() - back];

			if (then.pc == now.pc && then.before == now.before &&
			    then.store == now.store &&
			    then.addr / accesses::line_size == addr / accesses::line_size)
				return;
		}
		task.done.push_back(now);
	}

	static void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t addr, void *pc)
	{
		add(cpu, info, addr, pc, false);
	}

	static void on_locked(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t addr, void *pc)
	{
		add(cpu, info, addr, pc, true);
	}
};

} // namespace

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *, int argc, char **argv)
{
	return recorder::install(id, argc, argv);
}
