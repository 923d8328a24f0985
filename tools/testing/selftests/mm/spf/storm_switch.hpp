/* SPDX-License-Identifier: GPL-2.0 */
/* vm.speculative_page_fault, turned on and off, and put back however the program ends. */
#ifndef SPF_STORM_SWITCH_HPP
#define SPF_STORM_SWITCH_HPP

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "counters.hpp"

namespace spf {

class Switch {
public:
	Switch()
	{
		original_ = mode() == Mode::on ? '1' : '0';
		fd_ = open(mode_path, O_WRONLY | O_CLOEXEC);
		if (fd_ < 0)
			throw Failure(format("cannot write %s (%s): run this as root, or measure "
					     "what is set now with --mode current",
					     mode_path, strerror(errno)));

		struct sigaction action = {};

		action.sa_handler = on_signal;
		action.sa_flags = SA_RESETHAND;
		must(sigaction(SIGINT, &action, nullptr) == 0, "sigaction");
		must(sigaction(SIGTERM, &action, nullptr) == 0, "sigaction");
	}
	~Switch()
	{
		put(original_);
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		close(fd_);
	}
	Switch(const Switch &) = delete;
	Switch &operator=(const Switch &) = delete;

	void set(bool on) { must(put(on ? '1' : '0'), "write of vm.speculative_page_fault"); }

private:
	/* One system call, so that a signal handler may do it too. */
	static bool put(char value) { return pwrite(fd_, &value, 1, 0) == 1; }

	static void on_signal(int signo)
	{
		put(original_);
		/* The handler is gone by now: this ends the program when we return. */
		raise(signo);
	}

	/* Static for the handler's sake; there is one switch in the system. */
	inline static int fd_ = -1;
	inline static char original_ = '0';
};

} // namespace spf

#endif /* SPF_STORM_SWITCH_HPP */
