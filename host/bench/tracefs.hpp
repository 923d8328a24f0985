/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's own tracing of tasks called tracefs::comm.
 */
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tracefs {

constexpr const char *root = "/tracing/", *comm = "contend";

inline bool begins(const std::string &text, const char *with)
{
	return text.rfind(with, 0) == 0;
}

/* A line is "comm-pid  [cpu] flags seconds.microseconds: event: ...". */
inline int current(const std::string &line)
{
	return std::stoi(line.substr(line.rfind('-', line.find(" [")) + 1));
}

/* In microseconds; "end" is where ": event" begins. */
inline uint64_t time(const std::string &line, size_t end)
{
	const auto begin = line.rfind(' ', end - 1) + 1, dot = line.find('.', begin);

	return std::stoull(line.substr(begin, dot - begin)) * 1000000 +
	       std::stoull(line.substr(dot + 1, end - dot - 1));
}

/* Before anything else. */
inline void set_up()
{
	mkdir(root, 0755);
	if (mount("tracefs", root, "tracefs", 0, nullptr))
		throw std::runtime_error("tracefs cannot be mounted");
}

/* An event or a directory of them, the events of it that count, and what it triggers then. */
struct event {
	std::string name, filter, trigger;
};

/* While it is there, the kernel traces. */
class tracing {
public:
	explicit tracing(std::vector<event> some) : events(std::move(some))
	{
		set("tracing_on", "0");
		set("trace_clock", "mono");
		/* Of each CPU. */
		set("buffer_size_kb", std::to_string((128 << 10) / sysconf(_SC_NPROCESSORS_ONLN)));
		set("trace", "");
		for (const event &e : events) {
			const std::string path = "events/" + e.name;

			if (!e.filter.empty())
				set(path + "/filter", e.filter);
			if (!e.trigger.empty())
				set(path + "/trigger", e.trigger + " if " + e.filter);
			set(path + "/enable", "1");
		}
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

	static bool knows(const std::string &event)
	{
		return !!std::ifstream(root + ("events/" + event + "/enable"));
	}

	/* Give each line of what was traced, and return how many events were lost. */
	template <class Line> uint64_t end(Line line)
	{
		stop();
		std::string text;
		std::ifstream file(root + std::string("trace"));

		while (std::getline(file, text))
			if (!begins(text, "#"))
				line(text);
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
	const std::vector<event> events;
	bool going = true;

	static void set(const std::string &file, const std::string &value)
	{
		std::ofstream out(root + file);

		if (!(out << value << std::flush))
			throw std::runtime_error("tracefs: " + file + " does not take " + value);
	}

	void stop()
	{
		if (!going)
			return;
		going = false;
		set("tracing_on", "0");
		for (const event &e : events) {
			set("events/" + e.name + "/enable", "0");
			if (!e.trigger.empty())
				set("events/" + e.name + "/trigger", "!" + e.trigger);
		}
	}
};

} // namespace tracefs
