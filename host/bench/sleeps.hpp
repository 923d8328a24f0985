/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who slept in the kernel, in which function, and for how long: each time a traced task
 * gave up its CPU, with its stack, until somebody woke it. Before that, why a fault of
 * its was not resolved speculatively.
 */
#pragma once

#include <map>

#include "tracefs.hpp"

namespace sleeps {

/* What all sleep in, whatever they sleep for. */
inline bool only_waits(const std::string &function)
{
	for (const char *name :
	     {"__schedule", "schedule", "preempt_schedule", "__traceiter_", "trace_event_",
	      "rwsem_down_", "down_", "__down_", "__mutex_", "mutex_lock", "io_schedule",
	      "__wait_for_common", "wait_for_completion", "rt_mutex", "__rt_mutex",
	      "rtlock_slowlock", "rcuwait_"})
		if (tracefs::begins(function, name))
			return true;
	return false;
}

/*
 * The lines of a trace, one after another. A sleep is called "SLEPT who where why":
 * "fault" or a system call; the function that could not go on; an abort's reason or "-".
 */
class reader {
public:
	static std::vector<tracefs::event> events()
	{
		const std::string name = std::string("comm == \"") + tracefs::comm + '"';
		/* 3: asleep, whether a signal would wake it or not. */
		std::vector<tracefs::event> all = {
			{"sched/sched_switch", "prev_" + name + " && prev_state & 3", "stacktrace"},
			{"sched/sched_waking", name, ""},
		};

		if (tracefs::tracing::knows("pagefault"))
			all.push_back({"pagefault", "", ""});
		return all;
	}

	template <class Took> void line(const std::string &text, Took took)
	{
		if (tracefs::begins(text, " =>") || tracefs::begins(text, "=>")) {
			if (stack)
				frame(text.substr(text.find("=>") + 3));
			return;
		}
		stack = nullptr;
		if (const auto at = text.find(": sched_switch: "); at != text.npos) {
			asleep[number(text, "prev_pid=")] = {tracefs::time(text, at), {}};
		} else if (text.find(": <stack trace>") != text.npos) {
			const auto task = asleep.find(tracefs::current(text));

			if (task != asleep.end())
				stack = &task->second.what;
		} else if (const auto at = text.find(": sched_waking: "); at != text.npos) {
			const auto task = asleep.find(number(text, " pid="));

			if (task != asleep.end()) {
				took(named(task->first, task->second.what),
				     tracefs::time(text, at) - task->second.begun);
				asleep.erase(task);
			}
		} else if (const auto at = text.find(": spf_"); at != text.npos) {
			aborted[tracefs::current(text)] =
				text.substr(at + 6, text.find(':', at + 6) - at - 6);
		}
	}

private:
	struct kind {
		std::string who = "-", where = "-";
	};
	struct sleep {
		uint64_t begun;
		kind what;
	};

	std::map<int, sleep> asleep;
	std::map<int, std::string> aborted;
	kind *stack = nullptr; /* whose frames come next */

	static int number(const std::string &text, const char *name)
	{
		const auto at = text.find(name);

		if (at == text.npos)
			throw std::runtime_error("the trace has an event without " +
						 std::string(name) + ": " + text);
		return std::stoi(text.substr(at + std::string(name).size()));
	}

	/* From the innermost outwards. */
	void frame(const std::string &function)
	{
		constexpr const char *call = "__x64_sys_";

		if (stack->where == "-" && !only_waits(function))
			stack->where = function;
		if (tracefs::begins(function, "__vma_speculate_fault"))
			stack->where = "speculation";
		if (stack->who == "-" && tracefs::begins(function, "exc_page_fault"))
			stack->who = "fault";
		if (stack->who == "-" && tracefs::begins(function, call))
			stack->who = function.substr(std::string(call).size());
	}

	std::string named(int task, const kind &what) const
	{
		const auto why = aborted.find(task);
		const bool known = what.who == "fault" && why != aborted.end();

		return "SLEPT " + what.who + ' ' + what.where + ' ' + (known ? why->second : "-");
	}
};

} // namespace sleeps
