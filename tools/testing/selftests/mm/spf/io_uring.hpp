/* SPDX-License-Identifier: GPL-2.0 */
/* io_uring, one operation at a time, by its system calls. */
#ifndef SPF_IO_URING_HPP
#define SPF_IO_URING_HPP

/* Used by the next one, and missing from the linux/types.h of tools/include. */
#include <linux/stddef.h>

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "error.hpp"

namespace spf {

class IoUring {
public:
	IoUring()
	{
		struct io_uring_params params = {};

		fd_ = syscall(SYS_io_uring_setup, 1, &params);
		if (fd_ < 0)
			throw Skip(format("no io_uring here: %s", strerror(errno)));
		/* Both rings are one mapping, which every kernel since 5.4 grants. */
		rings_size_ = std::max<std::size_t>(
			params.sq_off.array + params.sq_entries * sizeof(unsigned int),
			params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe));
		rings_ = static_cast<char *>(map(rings_size_, IORING_OFF_SQ_RING));
		sqes_ = static_cast<struct io_uring_sqe *>(map(sizeof(*sqes_), IORING_OFF_SQES));
		sq_ = params.sq_off;
		cq_ = params.cq_off;
	}
	~IoUring()
	{
		munmap(sqes_, sizeof(*sqes_));
		munmap(rings_, rings_size_);
		close(fd_);
	}
	IoUring(const IoUring &) = delete;
	IoUring &operator=(const IoUring &) = delete;

	/* Submits @sqe and waits for its end: the result, or -1 and errno, as a system call. */
	int perform(const struct io_uring_sqe &sqe)
	{
		unsigned int *tail = at(sq_.tail), *head = at(cq_.head);

		*sqes_ = sqe;
		*at(sq_.array) = 0;
		__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
		must(syscall(SYS_io_uring_enter, fd_, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) ==
			     1,
		     "io_uring_enter");
		expect(__atomic_load_n(at(cq_.tail), __ATOMIC_ACQUIRE) == *head + 1,
		       "io_uring_enter returned without what it waited for");

		auto *cqes = reinterpret_cast<struct io_uring_cqe *>(rings_ + cq_.cqes);
		int result = cqes[*head & *at(cq_.ring_mask)].res;

		__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
		if (result >= 0)
			return result;
		errno = -result;
		return -1;
	}

	int read(int file, void *buffer, std::size_t length, std::size_t offset,
		 unsigned char flags = 0)
	{
		struct io_uring_sqe sqe = {};

		sqe.opcode = IORING_OP_READ;
		sqe.flags = flags;
		sqe.fd = file;
		sqe.addr = reinterpret_cast<std::uintptr_t>(buffer);
		sqe.len = length;
		sqe.off = offset;
		return perform(sqe);
	}

private:
	void *map(std::size_t size, std::size_t offset) const
	{
		void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
				fd_, offset);

		must(at != MAP_FAILED, "mmap of a ring");
		return at;
	}
	unsigned int *at(unsigned int offset) const
	{
		return reinterpret_cast<unsigned int *>(rings_ + offset);
	}

	int fd_;
	std::size_t rings_size_;
	char *rings_;
	struct io_uring_sqe *sqes_;
	struct io_sqring_offsets sq_;
	struct io_cqring_offsets cq_;
};

} // namespace spf

#endif /* SPF_IO_URING_HPP */
