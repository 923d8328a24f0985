/* SPDX-License-Identifier: GPL-2.0 */
/* Somewhere to swap to. */
#ifndef SPF_SWAP_HPP
#define SPF_SWAP_HPP

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>

#include "counters.hpp"
#include "mapping.hpp"
#include "ram_disk.hpp"

namespace spf {

/* A device that is swapped to as long as this lives. */
class SwapSpace {
public:
	/* In kB, as /proc/swaps has it. */
	std::uint64_t used() const
	{
		std::istringstream lines(read_file("/proc/swaps").value_or(""));
		std::string line, name, type;
		std::uint64_t size, used;

		while (std::getline(lines, line)) {
			if (std::istringstream(line) >> name >> type >> size >> used &&
			    name == device_)
				return used;
		}
		throw Failure("/proc/swaps does not list " + device_);
	}

protected:
	SwapSpace() = default;
	~SwapSpace() = default;
	SwapSpace(const SwapSpace &) = delete;
	SwapSpace &operator=(const SwapSpace &) = delete;

	/* The first page says what the device is for, and how many pages it has. */
	void begin(const std::string &device, std::size_t size)
	{
		std::string page(page_size(), '\0');
		std::uint32_t version = 1, last = size / page_size() - 1;
		static const std::string magic = "SWAPSPACE2";

		device_ = device;
		memcpy(&page[1024], &version, sizeof(version));
		memcpy(&page[1028], &last, sizeof(last));
		page.replace(page.size() - magic.size(), magic.size(), magic);
		int error = write_file(device_, page);

		expect(!error, "writing to %s: %s", device_.c_str(), strerror(error));
		must(swapon(device_.c_str(), 0) == 0, "swapon");
	}
	void end() const { swapoff(device_.c_str()); }

private:
	std::string device_;
};

/* Compressed memory: what is read is there at once. */
class Zram : public SwapSpace {
public:
	explicit Zram(std::size_t size = usual_disk_size()) : disk_(size)
	{
		begin(disk_.path(), size);
	}
	~Zram() { end(); }

private:
	RamDisk disk_;
};

/* A file in memory behind a loop device: what is read has to be waited for. */
class Loop : public SwapSpace {
public:
	explicit Loop(std::size_t size = usual_disk_size())
	{
		int control = open("/dev/loop-control", O_RDWR);

		if (control < 0)
			throw Skip("no loop devices here (CONFIG_BLK_DEV_LOOP)");
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		int file = memfd_create("spf", 0);

		close(control);
		device_ = open(format("/dev/loop%d", number).c_str(), O_RDWR);
		bool tied = ftruncate(file, size) == 0 && ioctl(device_, LOOP_SET_FD, file) == 0;

		close(file);
		try {
			must(tied, "tying a file to a loop device");
			begin(format("/dev/loop%d", number), size);
		} catch (...) {
			remove();
			throw;
		}
	}
	~Loop()
	{
		end();
		remove();
	}

private:
	void remove()
	{
		ioctl(device_, LOOP_CLR_FD);
		close(device_);
	}

	int device_;
};

/* Pages that a pipe refers to: reclaim unmaps them, and cannot let go of them. */
class Held {
public:
	Held(char *begin, std::size_t size)
	{
		struct iovec all = {begin, size};

		must(pipe(ends_) == 0, "pipe");
		if (fcntl(ends_[1], F_SETPIPE_SZ, static_cast<int>(size)) < 0)
			throw Skip(format("cannot make a pipe of %zu kB: %s", size / 1024,
					  strerror(errno)));
		must(vmsplice(ends_[1], &all, 1, 0) == static_cast<ssize_t>(size), "vmsplice");
	}
	~Held()
	{
		close(ends_[0]);
		close(ends_[1]);
	}
	Held(const Held &) = delete;
	Held &operator=(const Held &) = delete;

private:
	int ends_[2];
};

} // namespace spf

#endif /* SPF_SWAP_HPP */
