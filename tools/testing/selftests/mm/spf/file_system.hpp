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
#include "ram_disk.hpp"

namespace spf {

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
		disk_ = std::make_unique<RamDisk>(usual_disk_size());
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

	std::string type_;
	std::unique_ptr<RamDisk> disk_;
};

} // namespace spf

#endif /* SPF_FILE_SYSTEM_HPP */
