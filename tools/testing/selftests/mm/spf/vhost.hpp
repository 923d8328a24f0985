/* SPDX-License-Identifier: GPL-2.0 */
/* A kernel thread that reads and writes this process's memory: a worker of vhost. */
#ifndef SPF_VHOST_HPP
#define SPF_VHOST_HPP

/* Only what the rings hold: the rest of the header is not C++. */
#define VIRTIO_RING_NO_LEGACY

#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mapping.hpp"

namespace spf {

/*
 * The host's end of a socket between machines. There is none: it takes packets from rings in
 * this process's memory, and finds nobody that they are for.
 */
class Vhost {
public:
	/* The memory is all zero. Its first pages are used, each for something else. */
	explicit Vhost(const Arena &memory)
		: memory_(memory), device_(open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC)),
		  kick_(eventfd(0, EFD_CLOEXEC)), call_(eventfd(0, EFD_CLOEXEC))
	{
		static constexpr __u8 kernel_thread = VHOST_FORK_OWNER_KTHREAD;
		static constexpr __u64 guest = 3;
		alignas(vhost_memory) char
			table[sizeof(vhost_memory) + sizeof(vhost_memory_region)] = {};
		auto *regions = reinterpret_cast<vhost_memory *>(table);
		int running = 1;

		must(kick_ >= 0 && call_ >= 0, "eventfd");
		if (device_ < 0)
			throw Skip(format("cannot open /dev/vhost-vsock (CONFIG_VHOST_VSOCK): %s",
					  strerror(errno)));
		if (ioctl(device_, VHOST_SET_FORK_FROM_OWNER, &kernel_thread))
			throw Skip("this kernel has no CONFIG_VHOST_ENABLE_FORK_OWNER_CONTROL");
		must(ioctl(device_, VHOST_SET_OWNER) == 0, "VHOST_SET_OWNER");
		regions->nregions = 1;
		regions->regions[0] = {address(0), memory.size(), address(0), 0};
		tell(VHOST_SET_MEM_TABLE, *regions);
		tell(VHOST_VSOCK_SET_GUEST_CID, guest);
		set_queue(receive, 0, 0, 0);
		set_queue(transmit, descriptors, available, used);
		tell(VHOST_SET_VRING_KICK, vhost_vring_file{transmit, kick_});
		tell(VHOST_SET_VRING_CALL, vhost_vring_file{transmit, call_});
		tell(VHOST_VSOCK_SET_RUNNING, running);
	}
	~Vhost()
	{
		close(device_);
		close(kick_);
		close(call_);
	}
	Vhost(const Vhost &) = delete;
	Vhost &operator=(const Vhost &) = delete;

	/* Has the worker take a packet from memory of which nothing is mapped. */
	void take_packet()
	{
		auto *entry = reinterpret_cast<vring_desc *>(memory_.page(descriptors));
		auto *out = reinterpret_cast<volatile vring_avail *>(memory_.page(available));
		auto *in = reinterpret_cast<volatile vring_used *>(memory_.page(used));
		eventfd_t calls;

		*entry = {address(packet), sizeof(virtio_vsock_hdr), 0, 0};
		packets_++;
		out->idx = packets_;
		memory_.advise(0, memory_.size(), MADV_DONTNEED);
		must(eventfd_write(kick_, 1) == 0, "write to an eventfd");
		must(eventfd_read(call_, &calls) == 0, "read of an eventfd");
		expect(in->idx == packets_, "of %u packets %u were taken", packets_, in->idx);
	}

private:
	/* Queues. */
	static constexpr unsigned receive = 0, transmit = 1;
	/* What a page holds, in front of which are the rings of the queue that is not used. */
	static constexpr std::size_t descriptors = 1, available = 2, used = 3, packet = 4;

	std::uint64_t address(std::size_t page) const
	{
		return reinterpret_cast<std::uintptr_t>(memory_.page(page));
	}

	template <class What> void tell(unsigned long request, const What &what) const
	{
		must(ioctl(device_, request, &what) == 0, "ioctl of /dev/vhost-vsock");
	}

	void set_queue(unsigned queue, std::size_t desc, std::size_t avail, std::size_t used) const
	{
		/* One entry, in which every packet is. */
		tell(VHOST_SET_VRING_NUM, vhost_vring_state{queue, 1});
		tell(VHOST_SET_VRING_BASE, vhost_vring_state{queue, 0});
		tell(VHOST_SET_VRING_ADDR,
		     vhost_vring_addr{queue, 0, address(desc), address(used), address(avail), 0});
	}

	const Arena &memory_;
	int device_, kick_, call_;
	std::uint16_t packets_ = 0;
};

} // namespace spf

#endif /* SPF_VHOST_HPP */
