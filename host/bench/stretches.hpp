/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For how long traced tasks let nobody preempt them, or had interrupts off, by the
 * function that began it.
 */
#pragma once

#include <map>

#include "tracefs.hpp"

namespace stretches {

/*
 * The lines of a trace, one after another. A stretch is called "HELD caller parent": the
 * functions that began it. What the scheduler began ends when it takes the CPU away: the
 * task finds it as it was, but what others did until then is no part of it.
 */
class reader {
public:
	/* What is "preempt" or "irq". */
	static std::vector<tracefs::event> events(const std::string &what)
	{
		const std::string filter = std::string("comm == \"") + tracefs::comm + '"';

		return {{"preemptirq/" + what + "_disable", filter, ""},
			{"preemptirq/" + what + "_enable", filter, ""},
			{"sched/sched_switch", filter, ""}};
	}

	template <class Took> void line(const std::string &text, Took took)
	{
		const auto at = text.find(": ", text.find(" ["));

		if (at == text.npos)
			return;
		stretch &now = held[tracefs::current(text)];

		if (text.find("sched_switch: ", at) != text.npos) {
			now.what.clear();
		} else if (text.find("_disable: ", at) != text.npos) {
			now = {tracefs::time(text, at),
			       function(text, "caller=") + ' ' + function(text, "parent=")};
		} else if (!now.what.empty()) {
			took("HELD " + now.what, tracefs::time(text, at) - now.begun);
			now.what.clear();
		}
	}

private:
	struct stretch {
		uint64_t begun = 0;
		std::string what;
	};

	std::map<int, stretch> held;

	static std::string function(const std::string &text, const std::string &name)
	{
		const auto begin = text.find(name) + name.size();

		return text.substr(begin, text.find_first_of("+. ", begin) - begin);
	}
};

} // namespace stretches
