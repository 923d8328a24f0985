/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who slept in the kernel, in which function, and for how long, from the guest's own
 * tracefs: each time a task called sleeps::comm gave up its CPU, with its stack, until
 * somebody woke it. Before that, why a fault of its was not resolved speculatively.
 */
#pragma once

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>

#include <sys/mount.h>
#include <sys/stat.h>

namespace sleeps {

constexpr const char *comm = "contend";

/* "fault" or a system call; the function that could not go on; an abort's reason or "-". */
struct kind {
	std::string who, where, why;

	bool operator<(const kind &other) const
	{
		return std::tie(who, where, why) < std::tie(other.who, other.where, other.why);
	}
};

inline bool begins(const std::string &text, const char *with)
{
	return text.rfind(with, 0) == 0;
}

/* What all sleep in, whatever they sleep for. */
inline bool only_waits(const std::string &function)
{
	for (const char *name :
	     {"__schedule", "schedule", "preempt_schedule", "__traceiter_", "trace_event_",
	      "rwsem_down_", "down_", "__down_", "__mutex_", "mutex_lock", "io_schedule",
	      "__wait_for_common", "wait_for_completion", "rt_mutex", "__rt_mutex",
	      "rtlock_slowlock", "rcuwait_"})
		if (begins(function, name))
			return true;
	return false;
}

/* The lines of a trace, one after another. */
class reader {
public:
	template <class Slept> void line(const std::string &text, Slept slept)
	{
		if (begins(text, " =>") || begins(text, "=>")) {
			if (stack)
				frame(text.substr(text.find("=>") + 3));
			return;
		}
		stack = nullptr;
		if (const auto at = text.find(": sched_switch: "); at != text.npos) {
			asleep[number(text, "prev_pid=")] = {time(text, at), {"-", "-", "-"}};
		} else if (text.find(": <stack trace>") != text.npos) {
			const auto task = asleep.find(current(text));

			if (task != asleep.end())
				stack = &task->second.what;
		} else if (const auto at = text.find(": sched_waking: "); at != text.npos) {
			const auto task = asleep.find(number(text, " pid="));

			if (task != asleep.end()) {
				slept(named(task->first, task->second.what),
				      time(text, at) - task->second.begun);
				asleep.erase(task);
			}
		} else if (const auto at = text.find(": spf_"); at != text.npos) {
			aborted[current(text)] =
				text.substr(at + 6, text.find(':', at + 6) - at - 6);
		}
	}

private:
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

	/* "comm-pid  [cpu] flags seconds.microseconds: event: ..." */
	static int current(const std::string &text)
	{
		return std::stoi(text.substr(text.rfind('-', text.find(" [")) + 1));
	}

	static uint64_t time(const std::string &text, size_t end)
	{
		const auto begin = text.rfind(' ', end - 1) + 1, dot = text.find('.', begin);

		return std::stoull(text.substr(begin, dot - begin)) * 1000000 +
		       std::stoull(text.substr(dot + 1, end - dot - 1));
	}

	/* From the innermost outwards. */
	void frame(const std::string &function)
	{
		constexpr const char *call = "__x64_sys_";

		if (stack->where == "-" && !only_waits(function))
			stack->where = function;
		if (begins(function, "__vma_speculate_fault"))
			stack->where = "speculation";
		if (stack->who == "-" && begins(function, "exc_page_fault"))
			stack->who = "fault";
		if (stack->who == "-" && begins(function, call))
			stack->who = function.substr(std::string(call).size());
	}

	kind named(int task, kind what)
	{
		const auto why = aborted.find(task);

		if (what.who == "fault" && why != aborted.end())
			what.why = why->second;
		return what;
	}
};

/* While it is there, the kernel traces. */
class tracing {
public:
	tracing()
	{
		mkdir(root, 0755);
		if (mount("tracefs", root, "tracefs", 0, nullptr) && errno != EBUSY)
			throw std::runtime_error("tracefs cannot be mounted");
		set("tracing_on", "0");
		set("trace_clock", "mono");
		set("buffer_size_kb", "16384");
		set("trace", "");
		const std::string name(comm);

		/* 3: asleep, whether a signal would wake it or not. */
		arm("sched/sched_switch", "prev_comm == \"" + name + "\" && prev_state & 3");
		set("events/sched/sched_switch/trigger",
		    "stacktrace if prev_comm == \"" + name + "\" && prev_state & 3");
		arm("sched/sched_waking", "comm == \"" + name + "\"");
		if (std::ifstream(root + std::string("events/pagefault/enable")))
			arm("pagefault", "");
		set("tracing_on", "1");
	}
	tracing(const tracing &) = delete;
	~tracing()
	{
		try {
			stop();
		} catch (const std::exception &) {
			/* Whoever had the error that ends us tells it. */
		}
	}

	/* Give what was traced, and return how many events were lost. */
	template <class Slept> uint64_t end(Slept slept)
	{
		stop();
		reader reader;
		std::string text;
		std::ifstream file(root + std::string("trace"));

		while (std::getline(file, text))
			if (!begins(text, "#"))
				reader.line(text, slept);
		uint64_t lost = 0;

		for (unsigned int cpu = 0;; cpu++) {
			std::ifstream stats(root + ("per_cpu/cpu" + std::to_string(cpu)) +
					    "/stats");

			if (!stats)
				break;
			while (std::getline(stats, text))
				if (begins(text, "overrun: ") || begins(text, "dropped events: "))
					lost += std::stoull(text.substr(text.find(": ") + 2));
		}
		return lost;
	}

private:
	static constexpr const char *root = "/tracing/";

	static void set(const std::string &file, const std::string &value)
	{
		std::ofstream out(root + file);

		if (!(out << value << std::flush))
			throw std::runtime_error("tracefs: " + file + " does not take " + value);
	}
	static void arm(const std::string &event, const std::string &filter)
	{
		if (!filter.empty())
			set("events/" + event + "/filter", filter);
		set("events/" + event + "/enable", "1");
	}
	static void stop()
	{
		set("tracing_on", "0");
		set("events/enable", "0");
		set("events/sched/sched_switch/trigger", "!stacktrace");
	}
};

} // namespace sleeps
