/* SPDX-License-Identifier: GPL-2.0 */
/* File systems of a test's own. */
#ifndef SPF_FILE_SYSTEM_HPP
#define SPF_FILE_SYSTEM_HPP

#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#include "counters.hpp"

namespace spf {

/* A block device in memory, which nobody else has: a new zram device. */
class RamDisk {
public:
	explicit RamDisk(std::size_t bytes)
	{
		std::optional<std::string> id = read_file(control + "hot_add");

		if (!id)
			throw Skip("cannot add a zram device: not root, or no CONFIG_ZRAM");
		number_ = std::to_string(std::stoi(*id));
		if (write_file("/sys/block/zram" + number_ + "/disksize", std::to_string(bytes))) {
			remove();
			throw Skip("cannot set the size of zram" + number_);
		}
	}
	~RamDisk() { remove(); }
	RamDisk(const RamDisk &) = delete;
	RamDisk &operator=(const RamDisk &) = delete;

	std::string path() const { return "/dev/zram" + number_; }

private:
	void remove() const { write_file(control + "hot_remove", number_); }

	static inline const std::string control = "/sys/class/zram-control/";
	std::string number_;
};

/* Mounted as long as this lives, on a directory that comes and goes with it. */
class Mount {
public:
	Mount(const std::string &type, const std::string &device)
	{
		char path[] = "/tmp/spf-XXXXXX";

		must(mkdtemp(path), "mkdtemp");
		if (mount(device.c_str(), path, type.c_str(), 0, nullptr)) {
			int error = errno;

			rmdir(path);
			throw Skip(format("cannot mount %s: %s", type.c_str(), strerror(error)));
		}
		path_ = path;
	}
	~Mount()
	{
		if (path_.empty())
			return;
		umount2(path_.c_str(), MNT_DETACH);
		rmdir(path_.c_str());
	}
	Mount(const Mount &) = delete;
	Mount &operator=(const Mount &) = delete;

	const std::string &path() const { return path_; }

	/* At once: the last user of it is gone, and nothing may still count as one. */
	void unmount()
	{
		must(umount2(path_.c_str(), 0) == 0, "umount");
		rmdir(path_.c_str());
		path_.clear();
	}

private:
	std::string path_;
};

/*
 * tmpfs, or ext4 on a RamDisk. The latter has the format of ext2, which is what every
 * mke2fs makes without being told more, busybox's included; the driver is ext4's.
 */
class FileSystem {
public:
	explicit FileSystem(const std::string &type) : type_(type)
	{
		if (type == "tmpfs")
			return;
		disk_ = std::make_unique<RamDisk>(disk_size);
		make(disk_->path());
	}

	Mount mounted() const { return {type_, disk_ ? disk_->path() : "none"}; }

private:
	static void make(const std::string &device)
	{
		const char *argv[] = {"mke2fs", "-F", "-b", "4096", device.c_str(), nullptr};
		posix_spawn_file_actions_t actions;
		int status = 0;
		pid_t pid;

		posix_spawn_file_actions_init(&actions);
		for (int output : {STDOUT_FILENO, STDERR_FILENO})
			posix_spawn_file_actions_addopen(&actions, output, "/dev/null", O_WRONLY,
							 0);
		int error = posix_spawnp(&pid, argv[0], &actions, nullptr,
					 const_cast<char **>(argv), environ);

		posix_spawn_file_actions_destroy(&actions);
		if (error)
			throw Skip(format("cannot run mke2fs: %s", strerror(error)));
		must(waitpid(pid, &status, 0) == pid, "waitpid");
		expect(status == 0, "mke2fs of %s ended with status %#x", device.c_str(), status);
	}

	static constexpr std::size_t disk_size = 64 * 1024 * 1024;
	std::string type_;
	std::unique_ptr<RamDisk> disk_;
};

} // namespace spf

#endif /* SPF_FILE_SYSTEM_HPP */
