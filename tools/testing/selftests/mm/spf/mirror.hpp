/* SPDX-License-Identifier: GPL-2.0 */
/* A device that mirrors a process's memory (lib/test_hmm.c). */
#ifndef SPF_MIRROR_HPP
#define SPF_MIRROR_HPP

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>

#include "../../../../../lib/test_hmm_uapi.h"

#include "error.hpp"
#include "pages.hpp"

namespace spf {

/* A device that reads this process's memory through page tables of its own. */
class Mirror {
public:
	Mirror() : device_(open("/dev/hmm_dmirror0", O_RDWR))
	{
		if (device_ < 0)
			throw Skip(format("cannot open /dev/hmm_dmirror0 (CONFIG_TEST_HMM): %s",
					  strerror(errno)));
	}
	~Mirror() { close(device_); }
	Mirror(const Mirror &) = delete;
	Mirror &operator=(const Mirror &) = delete;

	/* What the device sees at @pages, into as many bytes at @to. */
	void read(const Pages &pages, char *to) const
	{
		struct hmm_dmirror_cmd command = {};

		command.addr = reinterpret_cast<std::uintptr_t>(pages.begin());
		command.ptr = reinterpret_cast<std::uintptr_t>(to);
		command.npages = pages.count();
		/* The device gives up when it has lost a race for a second. */
		while (ioctl(device_, HMM_DMIRROR_READ, &command))
			must(errno == EBUSY, "reading through the device");
		expect(command.cpages == pages.count(), "the device read %llu of %zu pages",
		       static_cast<unsigned long long>(command.cpages), pages.count());
	}

private:
	int device_;
};

} // namespace spf

#endif /* SPF_MIRROR_HPP */
