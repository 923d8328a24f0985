// SPDX-License-Identifier: GPL-2.0
/*
 * The traced guest's only program (its /init): several threads refault pages
 * of one anonymous VMA whose page tables stay present. Each kind of fault is
 * a marked stretch; when all are over it reports its counts and waits, alive,
 * so that the objects the trace names can still be looked up.
 */
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "marks.hpp"

namespace {

constexpr size_t page = 4096, table = 512 * page;
constexpr unsigned int threads = 4, tables = 8, rounds = 2;
constexpr size_t share = tables * table;

using counters = std::map<std::string, uint64_t>;

void require(bool ok, const char *what)
{
	if (!ok)
		throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

char *map(void *where, size_t size, int flags)
{
	void *p = mmap(where, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
		       0);

	require(p != MAP_FAILED, "mmap");
	return static_cast<char *>(p);
}

void mark(unsigned int word)
{
	reinterpret_cast<volatile uint64_t *>(marks::base)[word] = 1;
}

counters vmstat()
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

/*
 * Zap all but the first page of a table, in two pieces: a table that a zap
 * leaves empty would be freed, and the next fault would have to allocate one.
 */
void zap(char *area)
{
	constexpr size_t half = table / 2;

	require(!madvise(area + page, half - page, MADV_DONTNEED), "madvise");
	require(!madvise(area + half, half, MADV_DONTNEED), "madvise");
}

void refault(char *area, unsigned int kind)
{
	for (size_t at = 0; at < share; at += table) {
		if (kind != marks::reuse)
			zap(area + at);
		for (size_t p = at + page; p < at + table; p += page) {
			volatile char *byte = area + p;

			if (kind == marks::read)
				static_cast<void>(*byte);
			else
				*byte = 1;
		}
	}
}

/* A child that came and went leaves every page write-protected and unshared. */
void protect_by_fork()
{
	const pid_t child = fork();

	require(child >= 0, "fork");
	if (!child)
		_exit(0);
	require(waitpid(child, nullptr, 0) == child, "waitpid");
}

void round(char *area, unsigned int kind)
{
	std::vector<std::thread> crew;

	if (kind == marks::reuse)
		protect_by_fork();
	for (unsigned int t = 0; t < threads; t++)
		crew.emplace_back(refault, area + t * share, kind);
	for (auto &thread : crew)
		thread.join();
}

void storm()
{
	char *area = map(nullptr, threads * share, MAP_NORESERVE);

	map(reinterpret_cast<void *>(marks::base), marks::size, MAP_FIXED_NOREPLACE);
	require(!madvise(area, threads * share, MADV_NOHUGEPAGE), "madvise");
	for (size_t at = 0; at < threads * share; at += table)
		area[at] = 1;

	for (unsigned int kind : {marks::read, marks::write, marks::reuse}) {
		/* Unmarked first: whatever is done once only is done here. */
		round(area, kind);
		const counters before = vmstat();

		mark(kind);
		for (unsigned int n = 0; n < rounds; n++)
			round(area, kind);
		mark(marks::none);

		std::cout << "STORM " << kind << ' ' << marks::names[kind]
			  << " pages=" << rounds * threads * tables * (table / page - 1);
		for (const auto &[name, value] : vmstat())
			if (value != before.at(name))
				std::cout << ' ' << name << '=' << value - before.at(name);
		std::cout << std::endl;
	}
	mark(marks::finish);
	std::cout << "STORM READY" << std::endl;
}

} // namespace

int main()
{
	try {
		require(!mkdir("/proc", 0755) || errno == EEXIST, "mkdir /proc");
		require(!mount("proc", "/proc", "proc", 0, nullptr), "mount /proc");
		storm();
	} catch (const std::exception &error) {
		std::cout << "STORM FAILED " << error.what() << std::endl;
		return 1;
	}
	for (;;)
		pause();
}
