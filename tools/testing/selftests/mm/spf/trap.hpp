/* SPDX-License-Identifier: GPL-2.0 */
/* One access at a time, and the signal it raised, exactly as the program sees it. */
#ifndef SPF_TRAP_HPP
#define SPF_TRAP_HPP

#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include "error.hpp"

namespace spf {

/* si_signo, si_code and si_addr; signo 0 when the access went through. */
struct Signal {
	int signo = 0;
	int code = 0;
	void *address = nullptr;

	bool is(int want_signo, int want_code, const void *want_address) const
	{
		return signo == want_signo && code == want_code && address == want_address;
	}
};

namespace detail {

struct Trap {
	sigjmp_buf jump;
	volatile sig_atomic_t armed;
	Signal signal;
};

inline thread_local Trap trap;

inline void on_signal(int signo, siginfo_t *info, void *)
{
	if (!trap.armed) {
		static const char text[] = "Bail out! an access outside of a trap faulted\n";

		[[maybe_unused]] ssize_t written = write(STDOUT_FILENO, text, sizeof(text) - 1);
		signal(signo, SIG_DFL);
		return;
	}
	trap.armed = 0;
	trap.signal = {signo, info->si_code, info->si_addr};
	siglongjmp(trap.jump, 1);
}

} // namespace detail

/* Once, before the first trap. SA_NODEFER spares each trap the system call that saves the mask. */
inline void install_traps()
{
	struct sigaction action = {};

	action.sa_sigaction = detail::on_signal;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	must(sigaction(SIGSEGV, &action, nullptr) == 0, "sigaction");
	must(sigaction(SIGBUS, &action, nullptr) == 0, "sigaction");
}

/* Runs @access, a few loads and stores without destructors, until it ends or faults. */
template <class Access> [[gnu::noinline]] Signal trap(Access access)
{
	if (sigsetjmp(detail::trap.jump, 0))
		return detail::trap.signal;
	detail::trap.armed = 1;
	access();
	detail::trap.armed = 0;
	return {};
}

inline Signal try_read(const void *address)
{
	return trap([address] { (void)*static_cast<const volatile char *>(address); });
}

inline Signal try_write(void *address, char value = 1)
{
	return trap([address, value] { *static_cast<volatile char *>(address) = value; });
}

} // namespace spf

#endif /* SPF_TRAP_HPP */
