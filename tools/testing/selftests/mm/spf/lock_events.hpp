/* SPDX-License-Identifier: GPL-2.0 */
/* How often mmap_lock is taken. */
#ifndef SPF_LOCK_EVENTS_HPP
#define SPF_LOCK_EVENTS_HPP

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "counters.hpp"

namespace spf {

/*
 * Counts what this thread, and what it clones from now on, does to take any process's
 * mmap_lock: the tracepoint is passed before each attempt, failed ones included.
 */
class LockEvents {
public:
	LockEvents()
	{
		static const char event[] =
			"/sys/kernel/tracing/events/mmap_lock/mmap_lock_start_locking/id";
		std::optional<std::string> id = read_file(event);
		struct perf_event_attr attr = {};

		if (!id)
			throw Skip(format("no %s: mount tracefs, on a kernel with CONFIG_FTRACE",
					  event));
		attr.type = PERF_TYPE_TRACEPOINT;
		attr.size = sizeof(attr);
		attr.config = std::stoull(*id);
		attr.inherit = 1;
		fd_ = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
		if (fd_ < 0)
			throw Skip(format("cannot count tracepoints: %s", strerror(errno)));
	}
	~LockEvents() { close(fd_); }
	LockEvents(const LockEvents &) = delete;
	LockEvents &operator=(const LockEvents &) = delete;

	std::uint64_t count() const
	{
		std::uint64_t value;

		must(read(fd_, &value, sizeof(value)) == sizeof(value), "read of an event count");
		return value;
	}

private:
	int fd_;
};

} // namespace spf

#endif /* SPF_LOCK_EVENTS_HPP */
