/* SPDX-License-Identifier: GPL-2.0 */
/* A userfaultfd, and the thread that answers what it reports. */
#ifndef SPF_USERFAULT_HPP
#define SPF_USERFAULT_HPP

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <functional>
#include <vector>

#include "ktap.hpp"
#include "mapping.hpp"
#include "team.hpp"

namespace spf {

class Userfault {
public:
	explicit Userfault(std::uint64_t features = 0)
	{
		uffdio_api api = {};

		/* Not UFFD_USER_MODE_ONLY: system calls fault, too. */
		fd_ = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
		if (fd_ < 0)
			throw Skip(format("no userfaultfd here: %s", strerror(errno)));
		api.api = UFFD_API;
		api.features = features;
		if (ioctl(fd_, UFFDIO_API, &api)) {
			::close(fd_);
			throw Skip(format("userfaultfd lacks features of %#llx here",
					  static_cast<unsigned long long>(features)));
		}
	}
	~Userfault() { close(); }
	Userfault(const Userfault &) = delete;
	Userfault &operator=(const Userfault &) = delete;

	int fd() const { return fd_; }

	/* Disarms all memory, and lets go all who wait. */
	void close()
	{
		if (fd_ >= 0)
			::close(fd_);
		fd_ = -1;
	}

	void arm(const char *begin, std::size_t length, std::uint64_t mode) const
	{
		uffdio_register request = {range(begin, length), mode, 0};

		must(ioctl(fd_, UFFDIO_REGISTER, &request) == 0, "UFFDIO_REGISTER");
	}
	void disarm(const char *begin, std::size_t length) const
	{
		uffdio_range request = range(begin, length);

		must(ioctl(fd_, UFFDIO_UNREGISTER, &request) == 0, "UFFDIO_UNREGISTER");
	}
	void write_protect(const char *begin, std::size_t length, bool protect) const
	{
		std::uint64_t mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
		uffdio_writeprotect request = {range(begin, length), mode};

		must(ioctl(fd_, UFFDIO_WRITEPROTECT, &request) == 0, "UFFDIO_WRITEPROTECT");
	}
	void access_protect(const char *begin, std::size_t length, bool protect) const
	{
		std::uint64_t mode = protect ? UFFDIO_RWPROTECT_MODE_RWP : 0;
		uffdio_rwprotect request = {range(begin, length), mode};

		must(ioctl(fd_, UFFDIO_RWPROTECT, &request) == 0, "UFFDIO_RWPROTECT");
	}
	void set_mode(std::uint64_t enable, std::uint64_t disable) const
	{
		uffdio_set_mode request = {enable, disable};

		must(ioctl(fd_, UFFDIO_SET_MODE, &request) == 0, "UFFDIO_SET_MODE");
	}
	void wake(const char *begin, std::size_t length) const
	{
		uffdio_range request = range(begin, length);

		must(ioctl(fd_, UFFDIO_WAKE, &request) == 0, "UFFDIO_WAKE");
	}

	static uffdio_range range(const char *begin, std::size_t length)
	{
		return {reinterpret_cast<std::uintptr_t>(begin), length};
	}

private:
	int fd_;
};

/* Maps a page of @length that holds @first and zeroes. errno, or 0. */
inline int fill_page(int fd, char *page, std::uint64_t first, std::size_t length)
{
	std::vector<std::uint64_t> content(length / sizeof(first));
	uffdio_copy copy = {};

	content[0] = first;
	copy.dst = reinterpret_cast<std::uintptr_t>(page);
	copy.src = reinterpret_cast<std::uintptr_t>(content.data());
	copy.len = length;
	return ioctl(fd, UFFDIO_COPY, &copy) ? errno : 0;
}

/*
 * A thread that reads messages and calls @answer for each fault, with the descriptor
 * that it came from: that of a child if the features ask for forks. It ends with
 * finish(), which rethrows what an answer threw; the faults are let go then.
 */
class Monitor {
public:
	/* @page: where the fault is, rounded down to a small page. */
	using Answer = std::function<void(int fd, char *page, std::uint64_t flags)>;

	Monitor(Userfault &userfault, Answer answer)
		: userfault_(userfault), answer_(std::move(answer)),
		  end_(eventfd(0, EFD_CLOEXEC)), files_{{end_, POLLIN, 0},
							{userfault.fd(), POLLIN, 0}},
		  team_(1, [this](unsigned) { listen(); })
	{
		must(end_ >= 0, "eventfd");
		files_.reserve(files_.size() + 1);
		team_.start();
	}
	~Monitor()
	{
		eventfd_write(end_, 1);
		try {
			team_.finish();
		} catch (...) {
			/* Only reached when something else is already being reported. */
		}
		close(end_);
	}
	Monitor(const Monitor &) = delete;
	Monitor &operator=(const Monitor &) = delete;

	void finish()
	{
		must(eventfd_write(end_, 1) == 0, "write to an eventfd");
		team_.finish();
	}

private:
	void listen()
	{
		try {
			for (;;) {
				must(poll(files_.data(), files_.size(), -1) > 0, "poll");
				if (files_[0].revents)
					break;
				for (std::size_t i = 1; i < files_.size(); i++)
					if (files_[i].revents & POLLIN)
						receive(files_[i].fd);
			}
		} catch (const std::exception &failure) {
			/* At once: who waits, in a child as well, may never get to finish(). */
			note("the monitor gave up: %s", failure.what());
			userfault_.close();
			throw;
		}
	}

	void receive(int fd)
	{
		uffd_msg message;
		ssize_t got = read(fd, &message, sizeof(message));

		/* Who waited may have been let go meanwhile. */
		if (got < 0 && errno == EAGAIN)
			return;
		must(got == sizeof(message), "read of a userfaultfd");
		if (message.event == UFFD_EVENT_FORK) {
			files_.push_back({static_cast<int>(message.arg.fork.ufd), POLLIN, 0});
			return;
		}
		expect(message.event == UFFD_EVENT_PAGEFAULT, "userfaultfd sent event %#x",
		       message.event);
		std::uintptr_t address = message.arg.pagefault.address & -page_size();

		answer_(fd, reinterpret_cast<char *>(address), message.arg.pagefault.flags);
	}

	Userfault &userfault_;
	Answer answer_;
	int end_;
	/*
	 * Has room for a child, too: who forks is asleep until the monitor has read so,
	 * and holds the locks of malloc().
	 */
	std::vector<pollfd> files_;
	Team team_;
};

} // namespace spf

#endif /* SPF_USERFAULT_HPP */
