/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the storms have in common that run as the only program of a guest under
 * a plugin.
 */
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "marks.hpp"

namespace guest {

constexpr size_t page = 4096, table = 512 * page;

using counters = std::map<std::string, uint64_t>;

inline void require(bool ok, const char *what)
{
	if (!ok)
		throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

inline char *map(void *where, size_t size, int flags, int file = -1)
{
	void *p = mmap(where, size, PROT_READ | PROT_WRITE, flags, file, 0);

	require(p != MAP_FAILED, "mmap");
	return static_cast<char *>(p);
}

inline char *map_anonymous(void *where, size_t size, int flags)
{
	return map(where, size, MAP_PRIVATE | MAP_ANONYMOUS | flags);
}

inline void mark(unsigned int word)
{
	reinterpret_cast<volatile uint64_t *>(marks::base)[word] = 1;
}

/* Those whose names begin so. */
inline counters vmstat(const std::vector<std::string> &beginnings = {"spf_"})
{
	std::ifstream file("/proc/vmstat");
	counters all;
	std::string name;
	uint64_t value;

	while (file >> name >> value)
		for (const std::string &beginning : beginnings)
			if (name.rfind(beginning, 0) == 0)
				all[name] = value;
	require(file.eof(), "/proc/vmstat");
	return all;
}

/* What has moved since, on top of what is there. */
inline void add_since(const counters &before, counters &moved)
{
	for (const auto &[name, value] : vmstat())
		if (value != before.at(name))
			moved[name] += value - before.at(name);
}

inline void print(const counters &moved)
{
	for (const auto &[name, value] : moved)
		std::cout << ' ' << name << '=' << value;
	std::cout << std::endl;
}

/*
 * Zap all but the first bytes of a table, in two pieces: a table that a zap
 * leaves empty would be freed, and the next fault would have to allocate one.
 */
inline void zap(char *area, size_t kept)
{
	constexpr size_t half = table / 2;

	require(!madvise(area + kept, half - kept, MADV_DONTNEED), "madvise");
	require(!madvise(area + half, half, MADV_DONTNEED), "madvise");
}

/*
 * A child that does nothing more when this returns, until it is ended. All pages are
 * shared with it, then write-protected and unshared.
 */
class child {
public:
	child()
	{
		int ends[2];
		char byte = 0;

		require(!pipe(ends), "pipe");
		pid = fork();
		require(pid >= 0, "fork");
		if (!pid) {
			require(write(ends[1], &byte, 1) == 1, "write to a pipe");
			for (;;)
				pause();
		}
		require(read(ends[0], &byte, 1) == 1, "read from a pipe");
		close(ends[0]);
		close(ends[1]);
	}
	child(const child &) = delete;
	~child()
	{
		kill(pid, SIGKILL);
		waitpid(pid, nullptr, 0);
	}

private:
	pid_t pid;
};

inline void wait_for(pid_t pid)
{
	int status;

	require(pid >= 0, "fork");
	require(waitpid(pid, &status, 0) == pid && !status, "a process of the storm's");
}

/* In a process of its own, which leaves nothing to the next. */
template <class Body> void run_alone(const char *name, Body body)
{
	const pid_t pid = fork();

	if (!pid) {
		try {
			body();
			_exit(0);
		} catch (const std::exception &error) {
			std::cout << "STORM FAILED " << name << ": " << error.what() << std::endl;
			_exit(1);
		}
	}
	wait_for(pid);
}

/* Whether the variable "only" in the environment, if there is one, has the name. */
inline bool wanted(const char *name)
{
	const char *only = getenv("only");

	return !only || ("," + std::string(only) + ",").find("," + std::string(name) + ",") !=
				std::string::npos;
}

/* Threads that all have come as far as this. */
class meeting {
public:
	explicit meeting(unsigned int threads)
	{
		require(!pthread_barrier_init(&barrier, nullptr, threads), "pthread_barrier_init");
	}
	meeting(const meeting &) = delete;
	~meeting() { pthread_barrier_destroy(&barrier); }
	void wait() { pthread_barrier_wait(&barrier); }

private:
	pthread_barrier_t barrier;
};

inline void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	require(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

enum class touch { none, read, write };

inline void reach(char *at, touch how)
{
	volatile char *byte = at;

	if (how == touch::read)
		static_cast<void>(*byte);
	else if (how == touch::write)
		*byte = 1;
}

/* Faults on anonymous memory of which the page tables are there, as the marks know them. */
namespace kinds {
constexpr unsigned int read = 1, write = 2, reuse = 3;
constexpr const char *names[] = {"none", "read", "write", "reuse"};

inline touch how(unsigned int kind)
{
	return kind == read ? touch::read : touch::write;
}
} // namespace kinds

inline void mount_at(const char *where, const char *type)
{
	require(!mkdir(where, 0755) || errno == EEXIST, where);
	require(!mount(type, where, type, 0, nullptr), where);
}

inline void set_up()
{
	mount_at("/proc", "proc");
	map_anonymous(reinterpret_cast<void *>(marks::base), marks::size, MAP_FIXED_NOREPLACE);
}

/* What main() does last where it ends the guest. */
inline int end_guest()
{
	/* The kernel's last words would be written into ours. */
	tcdrain(STDOUT_FILENO);
	return reboot(RB_AUTOBOOT);
}

/*
 * What main() does where the guest is to stay alive when the storm is over, so that
 * objects in its memory can still be looked up.
 */
inline int run_and_stay(void (*storm)())
{
	try {
		set_up();
		storm();
		mark(marks::finish);
		std::cout << "STORM READY" << std::endl;
	} catch (const std::exception &error) {
		std::cout << "STORM FAILED " << error.what() << std::endl;
		return 1;
	}
	for (;;)
		pause();
}

} // namespace guest
