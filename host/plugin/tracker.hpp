/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For QEMU TCG plugins: what an x86-64 guest kernel does on behalf of a page
 * fault taken in user mode, or of a system call.
 *
 * "On behalf of" is exact: the tracker follows each task's stack of kernel
 * entries (fault, system call, other exception or interrupt, scheduler). A task
 * is recorded only while the fault is the innermost and only entry, so neither
 * an interrupt that hits the fault nor a task that preempts it is blamed on it; of a
 * load, while there are only faults and calls.
 * The stack moves with the task from vCPU to vCPU.
 *
 * Arguments: out=FILE (written at the last mark) and sites=FILE, lines of a role
 * and the addresses where a function begins and ends:
 *   entry     all of the entry code: an iretq or sysretq in it is an exit
 *   fault, call, other  where the CPU enters for a page fault, a system call,
 *             anything else
 *   schedule, switch, task  __schedule, __switch_to_asm, a new task's start
 *   and what roles the plugin adds
 */
#pragma once

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

/*
 * A plugin derives from the tracker and has
 *   name, roles               what errors begin with, roles that it needs besides
 *   begun(task), ended(vcpu, task)  a recorded fault or call begins, has returned
 *   marked(vcpu, kind, word)  the guest has stored to a word; it was of that kind
 *   instrument(insn)          an instruction of the kernel has been translated
 * Notes are what it keeps of each task, totals of each vCPU.
 */
template <class Plugin, class Notes, class Totals> class tracker {
protected:
	enum class entry { fault, call, other, schedule };

	static bool in_load(entry what) { return what == entry::fault || what == entry::call; }

	/* What a task is doing in the kernel. */
	struct context : Notes {
		std::vector<entry> entries;
		unsigned int kind = marks::none;

		bool recorded() const
		{
			if (kind == marks::none || entries.empty())
				return false;
			return kind < marks::loads
				       ? entries.size() == 1
				       : std::all_of(entries.begin(), entries.end(), in_load);
		}
	};

	struct vcpu : Totals {
		context boot;
		context *task = &boot;
		uint64_t lost = 0;
	};

	static inline std::vector<vcpu> vcpus;
	static inline std::string out_path;

	static uint64_t lost()
	{
		uint64_t all = 0;

		for (const vcpu &v : vcpus)
			all += v.lost;
		return all;
	}

	static bool starts(const char *role, uint64_t pc)
	{
		const auto &all = sites.at(role);

		return std::any_of(all.begin(), all.end(),
				   [pc](const range &r) { return pc == r.start; });
	}

	template <size_t n>
	static bool is(const qemu_plugin_insn *insn, const unsigned char (&bytes)[n])
	{
		return qemu_plugin_insn_size(insn) >= n &&
		       !std::memcmp(qemu_plugin_insn_data(insn), bytes, n);
	}

	/* The callback is given the instruction's address. */
	static void on_exec(qemu_plugin_insn *insn, qemu_plugin_insn_cb call)
	{
		qemu_plugin_register_vcpu_insn_exec_cb(insn, call, QEMU_PLUGIN_CB_NO_REGS,
						       address(insn));
	}

	static void on_memory(qemu_plugin_insn *insn, qemu_plugin_mem_cb call,
			      qemu_plugin_mem_rw rw)
	{
		qemu_plugin_register_vcpu_mem_cb(insn, call, QEMU_PLUGIN_CB_NO_REGS, rw,
						 address(insn));
	}

public:
	static int install(qemu_plugin_id_t id, int argc, char **argv)
	{
		try {
			read_arguments(argc, argv);
		} catch (const std::exception &error) {
			std::cerr << Plugin::name << ": " << error.what() << '\n';
			return 1;
		}
		vcpus = std::vector<vcpu>(qemu_plugin_n_max_vcpus());
		qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
		return 0;
	}

private:
	struct range {
		uint64_t start, end;
	};

	static inline std::map<std::string, std::vector<range>> sites;
	static inline std::mutex tasks_lock;
	static inline std::unordered_map<uint64_t, context> tasks;
	static inline std::atomic<unsigned int> current_kind;

	static void *address(const qemu_plugin_insn *insn)
	{
		return reinterpret_cast<void *>(qemu_plugin_insn_vaddr(insn));
	}

	/* What is marked now, if it is of this sort. */
	static unsigned int kind_of(entry what)
	{
		const unsigned int kind = current_kind.load(std::memory_order_relaxed);

		if (kind >= marks::loads)
			return in_load(what) ? kind : marks::none;
		return what == (kind < marks::calls ? entry::fault : entry::call) ? kind
										  : marks::none;
	}

	template <entry what> static void on_entry(unsigned int cpu, void *)
	{
		context &task = *vcpus[cpu].task;

		if (task.entries.empty()) {
			task.kind = kind_of(what);
			Plugin::begun(task);
		}
		task.entries.push_back(what);
	}

	static void on_exit(unsigned int cpu, void *)
	{
		vcpu &v = vcpus[cpu];

		if (v.task->recorded())
			Plugin::ended(v, *v.task);
		if (!v.task->entries.empty())
			v.task->entries.pop_back();
	}

	static void on_schedule_return(unsigned int cpu, void *)
	{
		context &task = *vcpus[cpu].task;

		if (!task.entries.empty() && task.entries.back() == entry::schedule)
			task.entries.pop_back();
	}

	/* The load of the next task's stack pointer names that task. */
	static void on_switch(unsigned int cpu, qemu_plugin_meminfo_t, uint64_t addr, void *)
	{
		const std::lock_guard<std::mutex> guard(tasks_lock);

		vcpus[cpu].task = &tasks[addr];
	}

	/* It returns from the call that made it; a dead task's memory may be its own now. */
	static void on_new_task(unsigned int cpu, void *)
	{
		vcpus[cpu].task->entries.clear();
		on_entry<entry::call>(cpu, nullptr);
	}

	/* In user mode nothing is left to return from, or an exit was missed. */
	static void on_user(unsigned int cpu, void *)
	{
		vcpu &v = vcpus[cpu];

		v.lost += !v.task->entries.empty();
		v.task->entries.clear();
	}

	/*
	 * From an instruction that leaves user mode QEMU 7.2 keeps the callback, and calls
	 * it for accesses of the kernel, too: only those to the marks are certain.
	 */
	static void on_user_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t addr,
				   void *)
	{
		if (addr < marks::base || addr >= marks::base + marks::size ||
		    !qemu_plugin_mem_is_store(info))
			return;
		const unsigned int word = (addr - marks::base) / 8;

		Plugin::marked(vcpus[cpu], current_kind.exchange(word % marks::finish), word);
	}

	static bool within(const char *role, uint64_t pc)
	{
		const auto &all = sites.at(role);

		return std::any_of(all.begin(), all.end(),
				   [pc](const range &r) { return pc >= r.start && pc < r.end; });
	}

	static void on_instruction(qemu_plugin_insn *insn, bool first)
	{
		static constexpr unsigned char iretq[] = {0x48, 0xcf},
					       sysretq[] = {0x48, 0x0f, 0x07},
					       load_rsp[] = {0x48, 0x8b, 0xa6}, ret[] = {0xc3};
		const uint64_t pc = qemu_plugin_insn_vaddr(insn);

		if (!(pc >> 63)) {
			if (first)
				on_exec(insn, on_user);
			on_memory(insn, on_user_access, QEMU_PLUGIN_MEM_W);
			return;
		}
		if (starts("fault", pc))
			on_exec(insn, on_entry<entry::fault>);
		if (starts("call", pc))
			on_exec(insn, on_entry<entry::call>);
		if (starts("other", pc))
			on_exec(insn, on_entry<entry::other>);
		if (starts("task", pc))
			on_exec(insn, on_new_task);
		if (starts("schedule", pc))
			on_exec(insn, on_entry<entry::schedule>);
		/* An entry's first and last instruction are its own, so they come between. */
		Plugin::instrument(insn);
		if (within("schedule", pc) && is(insn, ret))
			on_exec(insn, on_schedule_return);
		if (within("entry", pc) && (is(insn, iretq) || is(insn, sysretq)))
			on_exec(insn, on_exit);
		/*
		 * QEMU 7.2 mistakes which loads and stores a callback asked for: loads
		 * reach those for writes as well, and none reaches those for reads.
		 */
		if (within("switch", pc) && is(insn, load_rsp))
			on_memory(insn, on_switch, QEMU_PLUGIN_MEM_RW);
	}

	static void on_translate(qemu_plugin_id_t, qemu_plugin_tb *tb)
	{
		for (size_t n = 0; n < qemu_plugin_tb_n_insns(tb); n++)
			on_instruction(qemu_plugin_tb_get_insn(tb, n), n == 0);
	}

	static void read_arguments(int argc, char **argv)
	{
		std::map<std::string, std::string> options;

		for (int n = 0; n < argc; n++) {
			const std::string word = argv[n];
			const size_t equals = word.find('=');

			options[word.substr(0, equals)] = word.substr(equals + 1);
		}
		std::ifstream file(options["sites"]);
		std::vector<std::string> needed = {"call",     "entry",  "fault", "other",
						   "schedule", "switch", "task"};
		std::string role;
		range where;

		while (file >> role >> std::hex >> where.start >> where.end)
			sites[role].push_back(where);
		needed.insert(needed.end(), Plugin::roles.begin(), Plugin::roles.end());
		for (const std::string &each : needed)
			if (sites[each].empty())
				throw std::runtime_error(
					"sites=" + options["sites"] + " has no \"" + each +
					"\" line: is it made from an x86-64 vmlinux?");
		out_path = options["out"];
		if (!std::ofstream(out_path))
			throw std::runtime_error("out=" + out_path +
						 " cannot be written; give another path");
	}
};
