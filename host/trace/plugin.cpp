// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU TCG plugin: every store that an x86-64 guest kernel makes on behalf of
 * a page fault taken in user mode, by instruction and address, counted.
 *
 * "On behalf of" is exact: the plugin follows each task's stack of kernel
 * entries (fault, other exception, interrupt, system call, scheduler). A store
 * counts only while the fault is the innermost and only entry, so neither an
 * interrupt that hits the fault nor a task that preempts it is blamed on it.
 * The stack moves with the task from vCPU to vCPU.
 *
 * Arguments: out=FILE (written at the last mark) and sites=FILE, lines of a role
 * and the addresses where a function begins and ends:
 *   entry     all of the entry code: an iretq or sysretq in it is an exit
 *   fault, other  where the CPU enters for a page fault, for anything else
 *   schedule, switch, task  __schedule, __switch_to_asm, a new task's start
 *   lock      a fault that enters it is not lockless
 */
#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "marks.hpp"
#include "plugin_api.hpp"

int qemu_plugin_version = 1;

namespace {

enum class entry { fault, other, schedule };

struct store {
	uint64_t pc, addr;
};

/* What a task is doing in the kernel. */
struct context {
	std::vector<entry> entries;
	std::vector<store> stores;
	unsigned int kind = 0;
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
constexpr unsigned int paths = 2 * marks::finish;

struct vcpu {
	context boot;
	context *task = &boot;
	std::unordered_map<key, uint64_t, hash> stores;
	uint64_t faults[paths] = {};
	uint64_t lost = 0;
};

struct range {
	uint64_t start, end;
};

std::vector<vcpu> vcpus;
std::mutex tasks_lock;
std::unordered_map<uint64_t, context> tasks;
std::atomic<unsigned int> current_kind;

std::map<std::string, std::vector<range>> sites;
std::string out_path;

bool recording(const context &task)
{
	return task.kind && task.entries.size() == 1 && task.entries[0] == entry::fault;
}

template <entry what> void on_entry(unsigned int cpu, void *)
{
	context &task = *vcpus[cpu].task;

	if (what == entry::fault && task.entries.empty()) {
		task.kind = current_kind.load(std::memory_order_relaxed);
		task.fell_back = false;
		task.stores.clear();
	}
	task.entries.push_back(what);
}

void on_exit(unsigned int cpu, void *)
{
	vcpu &v = vcpus[cpu];
	context &task = *v.task;

	if (recording(task)) {
		const unsigned int path = task.kind * 2 + task.fell_back;

		v.faults[path]++;
		for (const store &s : task.stores)
			v.stores[{s.pc, s.addr, path}]++;
	}
	if (!task.entries.empty())
		task.entries.pop_back();
}

void on_schedule_return(unsigned int cpu, void *)
{
	context &task = *vcpus[cpu].task;

	if (!task.entries.empty() && task.entries.back() == entry::schedule)
		task.entries.pop_back();
}

/* The load of the next task's stack pointer names that task. */
void on_switch(unsigned int cpu, qemu_plugin_meminfo_t, uint64_t addr, void *)
{
	const std::lock_guard<std::mutex> guard(tasks_lock);

	vcpus[cpu].task = &tasks[addr];
}

/* The memory of a dead task may have become a new one's. */
void on_new_task(unsigned int cpu, void *)
{
	vcpus[cpu].task->entries.clear();
}

void on_lock(unsigned int cpu, void *)
{
	vcpus[cpu].task->fell_back = true;
}

void on_kernel_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t addr, void *pc)
{
	context &task = *vcpus[cpu].task;

	if (recording(task) && qemu_plugin_mem_is_store(info))
		task.stores.push_back({reinterpret_cast<uintptr_t>(pc), addr});
}

/* A string fill (page clearing, above all) is one record for each page. */
void on_kernel_fill(unsigned int cpu, qemu_plugin_meminfo_t, uint64_t addr, void *data)
{
	context &task = *vcpus[cpu].task;
	const store fill = {reinterpret_cast<uintptr_t>(data), addr & ~uint64_t(4095)};

	if (!recording(task))
		return;
	if (task.stores.empty() || task.stores.back().pc != fill.pc ||
	    task.stores.back().addr != fill.addr)
		task.stores.push_back(fill);
}

void write_trace()
{
	std::ofstream out(out_path);
	uint64_t faults[paths] = {}, lost = 0;
	std::unordered_map<key, uint64_t, hash> all;

	for (const vcpu &v : vcpus) {
		lost += v.lost;
		for (unsigned int path = 0; path < paths; path++)
			faults[path] += v.faults[path];
		for (const auto &[k, count] : v.stores)
			all[k] += count;
	}
	out << "lost " << lost << '\n';
	for (unsigned int path = 0; path < paths; path++)
		out << "faults " << path / 2 << ' ' << path % 2 << ' ' << faults[path] << '\n';
	for (const auto &[k, count] : all)
		out << "store " << k.path / 2 << ' ' << k.path % 2 << std::hex << ' ' << k.pc << ' '
		    << k.addr << std::dec << ' ' << count << '\n';
	out << "end\n";
}

void on_user_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t addr, void *)
{
	vcpu &v = vcpus[cpu];

	/* In user mode nothing is left to return from, or an exit was missed. */
	if (!v.task->entries.empty()) {
		v.lost++;
		v.task->entries.clear();
	}
	if (addr < marks::base || addr >= marks::base + marks::size ||
	    !qemu_plugin_mem_is_store(info))
		return;
	const unsigned int word = (addr - marks::base) / 8;

	current_kind.store(word < marks::finish ? word : marks::none);
	if (word == marks::finish)
		write_trace();
}

template <size_t n> bool is(const qemu_plugin_insn *insn, const unsigned char (&bytes)[n])
{
	return qemu_plugin_insn_size(insn) >= n &&
	       !std::memcmp(qemu_plugin_insn_data(insn), bytes, n);
}

constexpr unsigned char iretq[] = {0x48, 0xcf}, sysretq[] = {0x48, 0x0f, 0x07};
constexpr unsigned char load_rsp[] = {0x48, 0x8b, 0xa6}, ret[] = {0xc3};
constexpr unsigned char rep_stosb[] = {0xf3, 0xaa}, rep_stosl[] = {0xf3, 0xab},
			rep_stosq[] = {0xf3, 0x48, 0xab};

void instrument(qemu_plugin_insn *insn)
{
	const uint64_t pc = qemu_plugin_insn_vaddr(insn);
	const auto starts = [pc](const char *role) {
		const auto &all = sites.at(role);

		return std::any_of(all.begin(), all.end(),
				   [pc](const range &r) { return pc == r.start; });
	};
	const auto within = [pc](const char *role) {
		const auto &all = sites.at(role);

		return std::any_of(all.begin(), all.end(),
				   [pc](const range &r) { return pc >= r.start && pc < r.end; });
	};
	const auto on_exec = [insn](qemu_plugin_insn_cb call) {
		qemu_plugin_register_vcpu_insn_exec_cb(insn, call, QEMU_PLUGIN_CB_NO_REGS, nullptr);
	};
	const auto on_memory = [insn, pc](qemu_plugin_mem_cb call, qemu_plugin_mem_rw rw) {
		qemu_plugin_register_vcpu_mem_cb(insn, call, QEMU_PLUGIN_CB_NO_REGS, rw,
						 reinterpret_cast<void *>(pc));
	};

	if (!(pc >> 63)) {
		on_memory(on_user_access, QEMU_PLUGIN_MEM_W);
		return;
	}
	if (starts("fault"))
		on_exec(on_entry<entry::fault>);
	if (starts("other"))
		on_exec(on_entry<entry::other>);
	if (starts("schedule"))
		on_exec(on_entry<entry::schedule>);
	if (within("schedule") && is(insn, ret))
		on_exec(on_schedule_return);
	if (within("entry") && (is(insn, iretq) || is(insn, sysretq)))
		on_exec(on_exit);
	if (starts("task"))
		on_exec(on_new_task);
	if (starts("lock"))
		on_exec(on_lock);

	/*
	 * QEMU 7.2 mistakes which loads and stores a callback asked for: loads
	 * reach those for writes as well, and none reaches those for reads.
	 */
	if (within("switch") && is(insn, load_rsp))
		on_memory(on_switch, QEMU_PLUGIN_MEM_RW);
	else if (is(insn, rep_stosb) || is(insn, rep_stosl) || is(insn, rep_stosq))
		on_memory(on_kernel_fill, QEMU_PLUGIN_MEM_W);
	else
		on_memory(on_kernel_access, QEMU_PLUGIN_MEM_W);
}

void on_translate(qemu_plugin_id_t, qemu_plugin_tb *tb)
{
	for (size_t n = 0; n < qemu_plugin_tb_n_insns(tb); n++)
		instrument(qemu_plugin_tb_get_insn(tb, n));
}

void install(qemu_plugin_id_t id, int argc, char **argv)
{
	std::map<std::string, std::string> options;

	for (int n = 0; n < argc; n++) {
		const std::string word = argv[n];
		const size_t equals = word.find('=');

		options[word.substr(0, equals)] = word.substr(equals + 1);
	}
	std::ifstream file(options["sites"]);
	std::string role;
	range where;

	while (file >> role >> std::hex >> where.start >> where.end)
		sites[role].push_back(where);
	for (const char *needed : {"entry", "fault", "lock", "other", "schedule", "switch", "task"})
		if (sites[needed].empty())
			throw std::runtime_error("sites=" + options["sites"] + " has no \"" +
						 needed +
						 "\" line: is it made from an x86-64 vmlinux?");
	out_path = options["out"];
	if (!std::ofstream(out_path))
		throw std::runtime_error("out=" + out_path +
					 " cannot be written; give another path");
	vcpus = std::vector<vcpu>(qemu_plugin_n_max_vcpus());
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
}

} // namespace

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *, int argc, char **argv)
{
	try {
		install(id, argc, argv);
	} catch (const std::exception &error) {
		std::cerr << "trace plugin: " << error.what() << '\n';
		return 1;
	}
	return 0;
}
