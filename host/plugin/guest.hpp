/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the storms have in common that run as the only program of a guest under
 * a plugin.
 */
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

inline counters vmstat()
{
	std::ifstream file("/proc/vmstat");
	counters all;
	std::string name;
	uint64_t value;

	while (file >> name >> value)
		if (name.rfind("spf_", 0) == 0)
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

inline void set_up()
{
	require(!mkdir("/proc", 0755) || errno == EEXIST, "mkdir /proc");
	require(!mount("proc", "/proc", "proc", 0, nullptr), "mount /proc");
	map_anonymous(reinterpret_cast<void *>(marks::base), marks::size, MAP_FIXED_NOREPLACE);
}

} // namespace guest
