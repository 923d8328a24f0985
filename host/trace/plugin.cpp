// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU TCG plugin: every store that an x86-64 guest kernel makes on behalf of
 * a page fault taken in user mode, by instruction and address, counted. The
 * role "lock" in sites=FILE is of functions that a lockless fault does not enter.
 */
#include "tracker.hpp"

namespace {

struct store {
	uint64_t pc, addr;
};

struct notes {
	std::vector<store> stores;
	bool fell_back = false;
};

struct key {
	uint64_t pc, addr;
	unsigned int path;

	bool operator==(const key &o) const
	{
		return pc == o.pc && addr == o.addr && path == o.path;
	}
};

struct hash {
	size_t operator()(const key &k) const
	{
		uint64_t h = (k.addr * 0x9e3779b97f4a7c15) ^ (k.pc * 8 + k.path);

		return h ^ (h >> 29);
	}
};

/* A path is a fault kind and whether the fault fell back to a lock. */
struct totals {
	std::unordered_map<key, uint64_t, hash> stores;
	std::map<unsigned int, uint64_t> faults;
};

class tracer : public tracker<tracer, notes, totals> {
public:
	static constexpr const char *name = "trace plugin";
	static inline const std::vector<std::string> roles = {"lock"};

	static void begun(context &task)
	{
		task.fell_back = false;
		task.stores.clear();
	}

	static void ended(vcpu &v, const context &task)
	{
		const unsigned int path = task.kind * 2 + task.fell_back;

		v.faults[path]++;
		for (const store &s : task.stores)
			v.stores[{s.pc, s.addr, path}]++;
	}

	static void marked(vcpu &, unsigned int, unsigned int word)
	{
		if (word == marks::finish)
			write_trace();
	}

	static void instrument(qemu_plugin_insn *insn)
	{
		static constexpr unsigned char rep_stosb[] = {0xf3, 0xaa},
					       rep_stosl[] = {0xf3, 0xab},
					       rep_stosq[] = {0xf3, 0x48, 0xab};

		if (starts("lock", qemu_plugin_insn_vaddr(insn)))
			on_exec(insn, on_lock);
		if (is(insn, rep_stosb) || is(insn, rep_stosl) || is(insn, rep_stosq))
			on_memory(insn, on_fill, QEMU_PLUGIN_MEM_W);
		else
			on_memory(insn, on_access, QEMU_PLUGIN_MEM_W);
	}

private:
	static void on_lock(unsigned int cpu, void *) { vcpus[cpu].task->fell_back = true; }

	static void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t addr, void *pc)
	{
		context &task = *vcpus[cpu].task;

		if (task.recorded() && qemu_plugin_mem_is_store(info))
			task.stores.push_back({reinterpret_cast<uintptr_t>(pc), addr});
	}

	/* A string fill (page clearing, above all) is one record for each page. */
	static void on_fill(unsigned int cpu, qemu_plugin_meminfo_t, uint64_t addr, void *data)
	{
		context &task = *vcpus[cpu].task;
		const store fill = {reinterpret_cast<uintptr_t>(data), addr & ~uint64_t(4095)};

		if (!task.recorded())
			return;
		if (task.stores.empty() || task.stores.back().pc != fill.pc ||
		    task.stores.back().addr != fill.addr)
			task.stores.push_back(fill);
	}

	static void write_trace()
	{
		std::ofstream out(out_path);
		std::map<unsigned int, uint64_t> faults;
		std::unordered_map<key, uint64_t, hash> all;

		for (const vcpu &v : vcpus) {
			for (const auto &[path, count] : v.faults)
				faults[path] += count;
			for (const auto &[k, count] : v.stores)
				all[k] += count;
		}
		out << "lost " << lost() << '\n';
		for (const auto &[path, count] : faults)
			out << "faults " << path / 2 << ' ' << path % 2 << ' ' << count << '\n';
		for (const auto &[k, count] : all)
			out << "store " << k.path / 2 << ' ' << k.path % 2 << std::hex << ' '
			    << k.pc << ' ' << k.addr << std::dec << ' ' << count << '\n';
		out << "end\n";
	}
};

} // namespace

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *, int argc, char **argv)
{
	return tracer::install(id, argc, argv);
}
