// SPDX-License-Identifier: GPL-2.0
/*
 * What programs do, all of it at once: allocate and free in threads, fork and exec, read
 * mapped files, and come back from swap. Nearly all faults but those that need a page
 * table or an anon_vma are to be speculated on.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>

#include <cinttypes>

#include "child.hpp"
#include "counters.hpp"
#include "file.hpp"
#include "file_system.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "oracle.hpp"
#include "swap.hpp"
#include "team.hpp"

using namespace spf;

/* The word that makes this program a child of itself. */
static const char *const child_word = "--child";

/* Sizes as programs ask for them: many small ones, few that are mapped by themselves. */
static void allocate(Dice &dice, unsigned rounds)
{
	std::vector<std::vector<char>> kept(64);

	for (unsigned i = 0; i < rounds; i++) {
		std::size_t size = dice.below(16) ? 64 + dice.below(32 * 1024)
						  : 64 * 1024 + dice.below(1 << 20);
		std::vector<char> &slot = kept[dice.below(kept.size())];
		char mark = 'a' + dice.below(26);

		slot.assign(size, mark);
		expect(slot.front() == mark && slot.back() == mark,
		       "an allocation lost its content");
	}
}

/* This program on a disk, where programs are. */
static std::string copy_of_this_program(const std::string &directory)
{
	std::string path = directory + "/program";
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	std::vector<char> part(1 << 16);
	ssize_t got;

	must(from >= 0 && to >= 0, "open of a program");
	while ((got = read(from, part.data(), part.size())) > 0)
		must(write(to, part.data(), got) == got, "write of a program");
	close(from);
	close(to);
	return path;
}

static void fork_and_exec(const std::string &program)
{
	pid_t pid = fork();
	int status;

	must(pid >= 0, "fork");
	if (pid == 0) {
		execl(program.c_str(), program.c_str(), child_word, nullptr);
		_exit(127);
	}
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	expect(status == 0, "the program that was executed ended with status %#x", status);
}

static void read_file_mapping(File &file, std::size_t pages)
{
	void *at = mmap(nullptr, pages * page_size(), PROT_READ, MAP_PRIVATE, file.fd(), 0);

	must(at != MAP_FAILED, "mmap of a file");
	for (std::size_t i = 0; i < pages; i++)
		expect_stamp(static_cast<char *>(at) + i * page_size(), i, stamp(1, i));
	munmap(at, pages * page_size());
}

static void come_back_from_swap(Arena &arena)
{
	/* As much on each machine: beside it, all else takes fewer faults where pages are large. */
	std::size_t pages = std::min<std::size_t>(arena.pages(), (4 << 20) / page_size());

	for (std::size_t i = 0; i < pages; i++)
		*front_word(arena.page(i)) = stamp(1, i);
	arena.advise(0, pages * page_size(), MADV_PAGEOUT);
	for (std::size_t i = 0; i < pages; i++)
		expect(*front_word(arena.page(i)) == stamp(1, i),
		       "page %zu did not come back from swap", i);
}

static void programs()
{
	/* The disk has room for the program as well. */
	std::size_t pages = (16 << 20) / page_size();
	FileSystem file_system("ext4");
	Mount disk = file_system.mounted();
	std::string program = copy_of_this_program(disk.path());
	Loop swap;
	Arena swapped(2);
	File file(disk.path());

	file.resize(pages);
	file.write(0, pages, 1);
	fork_and_exec(program);
	Counters before = settled_counters();

	Team team(4, [&](unsigned id) {
		Dice dice(id + 1);

		switch (id) {
		case 0:
			for (unsigned i = 0; i < scaled(20); i++)
				fork_and_exec(program);
			break;
		case 1:
			for (unsigned i = 0; i < scaled(8); i++)
				read_file_mapping(file, pages);
			break;
		case 2:
			for (unsigned i = 0; i < scaled(4); i++)
				come_back_from_swap(swapped);
			[[fallthrough]];
		default:
			allocate(dice, scaled(4000));
		}
	});
	team.finish();

	Counters moved = settled_counters().since(before);
	std::uint64_t faults = moved["pgfault"], success = moved["spf_success"];
	std::uint64_t left = moved["spf_abort_pmd_none"] + moved["spf_abort_vma_noanon"] +
			     moved["spf_abort_vma_notsup"];

	note("%s", moved.summary().c_str());
	note("%" PRIu64 " of %" PRIu64 " faults speculated, %.1f%%; %.1f%% of those that need "
	     "no page table, no anon_vma and no special memory",
	     success, faults, 100. * success / faults, 100. * success / (faults - left));
	expect(mode() != Mode::on || success * 100 >= (faults - left) * 95,
	       "less than 95%% of the faults were speculated: %s", moved.summary().c_str());
}

int main(int argc, char **argv)
{
	if (argc == 2 && argv[1] == std::string(child_word)) {
		Dice dice;

		allocate(dice, 200);
		return 0;
	}
	allow_huge_pages(false);
	return run_tests(argc, argv, {{"programs", programs}});
}
