/* SPDX-License-Identifier: GPL-2.0 */
/* Memory cgroups of their own, empty until a process enters. */
#ifndef SPF_CGROUP_HPP
#define SPF_CGROUP_HPP

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <sstream>
#include <string>

#include "counters.hpp"

namespace spf {

class Cgroup {
public:
	explicit Cgroup(const Cgroup *outer = nullptr)
	{
		static std::atomic<unsigned> count;
		const std::string in = outer ? outer->path_ : root;

		if (write_file(in + "/cgroup.subtree_control", "+memory"))
			throw Skip("there is no memory controller to be had in " + in);
		path_ = format("%s/spf-%d-%u", in.c_str(), getpid(), count++);
		must(mkdir(path_.c_str(), 0755) == 0, "mkdir of a cgroup");
	}
	/* Its processes may have been collected and still be on their way out of it. */
	~Cgroup()
	{
		while (rmdir(path_.c_str()) && errno == EBUSY)
			sched_yield();
	}
	Cgroup(const Cgroup &) = delete;
	Cgroup &operator=(const Cgroup &) = delete;

	std::string file(const char *name) const { return path_ + "/" + name; }
	void set(const char *name, const std::string &value) const
	{
		int error = write_file(file(name), value);

		expect(!error, "cgroup %s took no \"%s\": %s", name, value.c_str(),
		       strerror(error));
	}
	/* So much memory, and no swap beside it where there is any. */
	void limit(const std::string &bytes) const
	{
		set("memory.max", bytes);
		if (read_file(file("memory.swap.max")))
			set("memory.swap.max", "0");
	}
	/* These move the calling process. */
	void enter() const { set("cgroup.procs", "0"); }
	static void leave() { write_file(std::string(root) + "/cgroup.procs", "0"); }

	/* The number that stands behind @wanted in file @name. */
	std::uint64_t number(const char *name, const std::string &wanted) const
	{
		std::istringstream lines(read_file(file(name)).value_or(""));
		std::string word;
		std::uint64_t value;

		while (lines >> word >> value) {
			if (word == wanted)
				return value;
		}
		throw Failure(format("%s has no %s", name, wanted.c_str()));
	}
	std::uint64_t event(const std::string &event) const
	{
		return number("memory.events", event);
	}

private:
	static constexpr const char *root = "/sys/fs/cgroup";

	std::string path_;
};

} // namespace spf

#endif /* SPF_CGROUP_HPP */
