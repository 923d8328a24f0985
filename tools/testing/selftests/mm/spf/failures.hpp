/* SPDX-License-Identifier: GPL-2.0 */
/* Allocations, and copies to and from programs, that fail on purpose. */
#ifndef SPF_FAILURES_HPP
#define SPF_FAILURES_HPP

#include <initializer_list>
#include <list>
#include <string>

#include "counters.hpp"
#include "trap.hpp"

namespace spf {

/*
 * As long as this lives, one kind of thing can be made to fail for this process and what
 * it forks: allocations only if they must not sleep.
 */
class Failures {
public:
	explicit Failures(const char *kind)
		: verbose_(knob(kind, "verbose"), "0"), percent_(knob(kind, "probability"), "0"),
		  times_(knob(kind, "times"), "-1"), filter_(knob(kind, "task-filter"), "Y"),
		  self_("/proc/self/make-it-fail", "1")
	{
		ever_ = true;
	}

	/*
	 * Whether a signal may have lost what it tells, code and address: it is sent even if
	 * there is no memory for that.
	 */
	static bool untold(const Signal &signal) { return ever_ && signal.code == SI_USER; }

	static std::string knob(const char *kind, const char *name)
	{
		return format("/sys/kernel/debug/%s/%s", kind, name);
	}
	static void percent(const char *kind, const char *percent)
	{
		must(write_file(knob(kind, "probability"), percent) == 0, "letting memory fail");
	}

private:
	/* Here, or in the process that this one was forked from. */
	static inline bool ever_ = false;

	Setting verbose_, percent_, times_, filter_, self_;
};

/*
 * The same for objects of some slab caches, those of them that there are: which sizes there
 * are depends on the architecture. Without memory for others, such as what a signal tells,
 * more would be lost than speculation.
 */
class ObjectFailures {
public:
	explicit ObjectFailures(std::initializer_list<const char *> caches)
	{
		for (const char *cache : caches) {
			std::string file = format("/sys/kernel/slab/%s/failslab", cache);

			if (read_file(file))
				caches_.emplace_back(file, "1");
		}
		if (caches_.empty())
			throw Skip("this kernel cannot let objects of chosen slab caches fail");
	}

private:
	Failures failures_{"failslab"};
	Setting filter_{Failures::knob("failslab", "cache-filter"), "Y"};
	std::list<Setting> caches_;
};

} // namespace spf

#endif /* SPF_FAILURES_HPP */
