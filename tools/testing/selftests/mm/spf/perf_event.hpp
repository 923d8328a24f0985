/* SPDX-License-Identifier: GPL-2.0 */
/* Events that perf counts. */
#ifndef SPF_PERF_EVENT_HPP
#define SPF_PERF_EVENT_HPP

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "counters.hpp"

namespace spf {

inline perf_event_attr event_attr(std::uint32_t type, std::uint64_t config)
{
	perf_event_attr attr = {};

	attr.type = type;
	attr.size = sizeof(attr);
	attr.config = config;
	return attr;
}

inline perf_event_attr software_event(std::uint64_t config)
{
	return event_attr(PERF_TYPE_SOFTWARE, config);
}

/* @name as in events/, "mmap_lock/mmap_lock_start_locking". */
inline perf_event_attr tracepoint(const std::string &name)
{
	std::string path = "/sys/kernel/tracing/events/" + name + "/id";
	std::optional<std::string> id = read_file(path);

	if (!id)
		throw Skip(format("no %s: mount tracefs, on a kernel with CONFIG_FTRACE",
				  path.c_str()));
	return event_attr(PERF_TYPE_TRACEPOINT, std::stoull(*id));
}

/* Counted from the construction on: of this thread, or of everybody on one CPU. */
class PerfEvent {
public:
	explicit PerfEvent(const perf_event_attr &attr) : PerfEvent(attr, 0, -1) {}
	PerfEvent(const perf_event_attr &attr, unsigned cpu) : PerfEvent(attr, -1, cpu) {}
	~PerfEvent()
	{
		if (fd_ >= 0)
			close(fd_);
	}
	PerfEvent(PerfEvent &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	PerfEvent &operator=(PerfEvent &&) = delete;

	int fd() const { return fd_; }

	std::uint64_t count() const
	{
		std::uint64_t value;

		must(read(fd_, &value, sizeof(value)) == sizeof(value), "read of an event count");
		return value;
	}

private:
	PerfEvent(perf_event_attr attr, int task, int cpu)
		: fd_(syscall(SYS_perf_event_open, &attr, task, cpu, -1, PERF_FLAG_FD_CLOEXEC))
	{
		if (fd_ < 0)
			throw Skip(format("cannot count events of type %u, %llu: %s", attr.type,
					  static_cast<unsigned long long>(attr.config),
					  strerror(errno)));
	}

	int fd_;
};

/*
 * How often this thread, and what it clones from now on, tries to take any process's
 * mmap_lock: the tracepoint is passed before each attempt, failed ones included.
 */
inline PerfEvent mmap_lock_attempts()
{
	perf_event_attr attr = tracepoint("mmap_lock/mmap_lock_start_locking");

	attr.inherit = 1;
	return PerfEvent(attr);
}

} // namespace spf

#endif /* SPF_PERF_EVENT_HPP */
