/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What changes page tables, VMAs and pages while threads fault: a table, one row a
 * writer. spf_writers runs each against a storm of its own, spf_torture all at once.
 */
#ifndef SPF_WRITERS_HPP
#define SPF_WRITERS_HPP

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cgroup.hpp"
#include "child.hpp"
#include "counters.hpp"
#include "failures.hpp"
#include "file.hpp"
#include "mapping.hpp"
#include "oracle.hpp"
#include "pagemap.hpp"
#include "storm.hpp"
#include "swap.hpp"
#include "team.hpp"
#include "trap.hpp"

#ifndef MADV_COLD
#define MADV_COLD    20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

namespace spf {

/* Settings and devices that a writer needs, for as long as it is used. */
using Needs = std::shared_ptr<void>;

struct Writer {
	std::string name;
	unsigned times;   /* in a test; in the torture, its share of all calls */
	unsigned percent; /* of the faults beside it that must be speculated */
	Storm::Shape shape;
	bool any_backing; /* not only the shape's */
	/* What must have moved: a line of /proc/vmstat, on any kernel; or an abort reason. */
	std::string evidence;
	std::string abort;
	std::function<Needs()> needs;
	/* Says whether it did what it is there for. Must do so once in ten times @times. */
	std::function<bool(Storm &, Dice &)> once;
	/* What was done cannot be undone: in a process of its own. */
	bool for_good = false;
};

inline std::uint64_t vmstat(const std::string &wanted)
{
	std::ifstream file("/proc/vmstat");
	std::string name;
	std::uint64_t value;

	while (file >> name >> value) {
		if (name == wanted)
			return value;
	}
	throw Skip("this kernel's /proc/vmstat has no " + wanted);
}

inline std::uint64_t number_in(const std::string &path)
{
	std::optional<std::string> text = read_file(path);

	if (!text)
		throw Skip("this kernel has no " + path);
	return std::stoull(*text);
}

/*
 * Waits for a kernel thread that works on its own, with the CPU left to others, until
 * @done. It may have no reason to do anything: give up after so many looks, and more
 * where pages are large, which take longer to look at.
 */
template <class Done> bool wait_for(Done done)
{
	for (std::size_t looks = 0; looks < 2000 * (page_size() / 4096); looks++) {
		if (done())
			return true;
		sched_yield();
	}
	return false;
}

template <class What, class... Args> Needs need(Args &&...args)
{
	return std::make_shared<What>(std::forward<Args>(args)...);
}

/* Several at once; they go in reverse order. */
inline Needs settings(std::initializer_list<std::pair<const char *, const char *>> list)
{
	auto set = std::shared_ptr<std::vector<std::unique_ptr<Setting>>>(
		new std::vector<std::unique_ptr<Setting>>, [](auto *all) {
			while (!all->empty())
				all->pop_back();
			delete all;
		});

	for (const auto &[path, value] : list)
		set->push_back(std::make_unique<Setting>(path, value));
	return set;
}

inline Needs nothing()
{
	return nullptr;
}

namespace calls {

inline char *at(Storm &storm, const Piece &piece)
{
	return storm.arena.begin() + piece.offset;
}

/* Of an advice that other writers may have made impossible for this piece. */
inline bool advised(Storm &storm, const Piece &piece, int advice)
{
	return madvise(at(storm, piece), piece.length, advice) == 0;
}

inline Piece piece_or_table(Storm &storm, Dice &dice)
{
	return dice.below(4) ? Piece::random(storm.arena, dice) : Piece::table(storm.arena, dice);
}

inline Piece page(Storm &storm, Dice &dice)
{
	return {dice.below(storm.arena.pages()) * page_size(), page_size()};
}

inline Piece whole(Storm &storm)
{
	return {0, storm.arena.size()};
}

/* madvise */

inline bool discard(Storm &storm, Dice &dice)
{
	return advised(storm, piece_or_table(storm, dice), MADV_DONTNEED_LOCKED);
}

/* The page tables go with the pages; threads populate new ones at once. */
inline bool discard_tables(Storm &storm, Dice &dice)
{
	return advised(storm, Piece::table(storm.arena, dice), MADV_DONTNEED_LOCKED);
}

inline bool free_lazily(Storm &storm, Dice &dice)
{
	return advised(storm, piece_or_table(storm, dice), MADV_FREE);
}

inline bool guard(Storm &storm, Dice &dice)
{
	Piece piece = Piece::random(storm.arena, dice);
	bool installed = advised(storm, piece, MADV_GUARD_INSTALL);

	if (dice.below(4) == 0)
		advised(storm, whole(storm), MADV_GUARD_REMOVE);
	return installed;
}

inline bool page_out(Storm &storm, Dice &dice)
{
	Piece piece = piece_or_table(storm, dice);

	return advised(storm, piece, dice.below(4) ? MADV_PAGEOUT : MADV_COLD);
}

/* Huge pages */

inline Needs needs_huge_pages()
{
	struct Allow {
		Allow() { allow_huge_pages(true); }
		~Allow() { allow_huge_pages(false); }
	};

	static const char base[] = "/sys/kernel/mm/transparent_hugepage/";
	static const std::string enabled = std::string(base) + "enabled";
	static const std::string shmem = std::string(base) + "shmem_enabled";
	static const std::string scan = std::string(base) + "khugepaged/scan_sleep_millisecs";
	static const std::string alloc = std::string(base) + "khugepaged/alloc_sleep_millisecs";

	auto set = settings({{enabled.c_str(), "madvise"},
			     {shmem.c_str(), "advise"},
			     {scan.c_str(), "0"},
			     {alloc.c_str(), "0"}});

	return need<std::pair<Needs, Needs>>(set, need<Allow>());
}

/* Small pages first, and all of them, or faults would find nothing left to collapse. */
inline bool khugepaged(Storm &storm, Dice &)
{
	std::uint64_t before = vmstat("thp_collapse_alloc");

	storm.next_pass();
	if (!advised(storm, whole(storm), MADV_HUGEPAGE))
		return false;
	return wait_for([&] { return vmstat("thp_collapse_alloc") > before; });
}

/* A hole in a huge page of the page cache splits it, for the next time. */
inline bool khugepaged_file(Storm &storm, Dice &dice)
{
	bool collapsed = khugepaged(storm, dice);

	for (std::size_t offset = 0; offset < storm.arena.size(); offset += table_span())
		must(fallocate(storm.file(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
			       page_size()) == 0,
		     "punching a hole");
	return collapsed;
}

/* EAGAIN while pages are new: they wait in batches to be put on a list. */
inline bool collapse(Storm &storm, Dice &dice)
{
	Piece table = Piece::table(storm.arena, dice);
	bool collapsed = false;

	if (dice.below(2))
		storm.refill();
	else
		storm.next_pass();
	for (int tries = 0; tries < 3 && !collapsed; tries++)
		collapsed = advised(storm, table, MADV_COLLAPSE);
	return collapsed;
}

inline bool collapse_file(Storm &storm, Dice &dice)
{
	bool collapsed = collapse(storm, dice);

	must(fallocate(storm.file(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       page(storm, dice).offset, page_size()) == 0,
	     "punching a hole");
	return collapsed;
}

/* KSM */

inline Needs needs_ksm()
{
	return settings({{"/sys/kernel/mm/ksm/sleep_millisecs", "0"},
			 {"/sys/kernel/mm/ksm/smart_scan", "0"},
			 {"/sys/kernel/mm/ksm/pages_to_scan", "500"},
			 {"/sys/kernel/mm/ksm/run", "1"}});
}

/* Merges what stays; what the owners then write is copied, the rest unmerged. */
inline bool merge(Storm &storm, Dice &dice)
{
	if (!advised(storm, whole(storm), MADV_MERGEABLE))
		return false;

	bool merged = wait_for([] { return number_in("/sys/kernel/mm/ksm/pages_sharing") > 64; });

	storm.next_pass();
	if (dice.below(4) == 0)
		advised(storm, Piece::random(storm.arena, dice), MADV_UNMERGEABLE);
	return merged;
}

/* Migration and memory policies */

inline unsigned nodes()
{
	std::string text = read_file("/sys/devices/system/node/has_memory").value_or("0");
	std::size_t last = text.find_last_of("-,");

	return last == text.npos ? 1 : 2;
}

inline Needs needs_two_nodes()
{
	if (nodes() < 2)
		throw Skip("this machine has one NUMA node; two are needed");
	return nullptr;
}

inline bool move_pages(Storm &storm, Dice &dice)
{
	Piece piece = Piece::random(storm.arena, dice);
	std::size_t count = piece.length / page_size();
	std::vector<void *> pages;
	std::vector<int> targets(count, dice.below(2)), status(count);

	for (std::size_t i = 0; i < count; i++)
		pages.push_back(at(storm, piece) + i * page_size());
	return syscall(SYS_move_pages, 0, count, pages.data(), targets.data(), status.data(),
		       MPOL_MF_MOVE) >= 0;
}

inline bool mbind(Storm &storm, const Piece &piece, int policy, unsigned long mask, unsigned flags)
{
	return syscall(SYS_mbind, at(storm, piece), piece.length, policy, mask ? &mask : nullptr,
		       mask ? 8 * sizeof(mask) : 0, flags) == 0;
}

inline bool bind_and_move(Storm &storm, Dice &dice)
{
	return mbind(storm, piece_or_table(storm, dice), MPOL_BIND, 1ul << dice.below(2),
		     MPOL_MF_MOVE);
}

inline bool change_policy(Storm &storm, Dice &dice)
{
	unsigned long all = (1ul << nodes()) - 1;

	switch (dice.below(4)) {
	case 0:
		return mbind(storm, whole(storm), MPOL_DEFAULT, 0, 0);
	case 1:
		return mbind(storm, Piece::random(storm.arena, dice), MPOL_PREFERRED, 1, 0);
	case 2:
		return mbind(storm, Piece::random(storm.arena, dice), MPOL_INTERLEAVE, all, 0);
	default:
		return mbind(storm, Piece::random(storm.arena, dice), MPOL_BIND, all, 0);
	}
}

inline Needs needs_numa_balancing()
{
	needs_two_nodes();
	return settings({{"/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1"},
			 {"/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1"},
			 {"/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "10"},
			 {"/proc/sys/kernel/numa_balancing", "1"}});
}

inline bool numa_scan(Storm &storm, Dice &)
{
	std::uint64_t before = vmstat("numa_pte_updates");

	storm.next_pass();
	return wait_for([&] { return vmstat("numa_pte_updates") > before; });
}

/* Memory that comes and goes */

inline constexpr char memory_block_size_file[] = "/sys/devices/system/memory/block_size_bytes";

inline std::size_t memory_block_size()
{
	return std::stoull(*read_file(memory_block_size_file), nullptr, 16);
}

inline std::string memory_block(std::size_t number)
{
	return format("/sys/devices/system/memory/memory%zu/", number);
}

inline bool is_movable(const std::string &block)
{
	return read_file(block + "state") == "online\n" &&
	       read_file(block + "valid_zones") == "Movable\n";
}

/* Whether a block may go: the kernel may have kept some of a movable one since it booted. */
inline bool may_go(std::size_t number)
{
	const std::size_t frames = memory_block_size() / page_size();

	return is_movable(memory_block(number)) && !any_reserved(number * frames, frames);
}

/* A page with memory of its own: what happens to the zero page, happens to everyone. */
inline Piece written_page(Storm &storm, Dice &dice)
{
	Piece piece = page(storm, dice);

	try_write(at(storm, piece) + piece.length / 2);
	return piece;
}

/*
 * Takes a block away and gives it back. Returns why it could not go, or 0. Hotplug waits, for
 * ever, for a large folio that was freed with a poisoned page: it is lost. Only killing who
 * waits ends that.
 */
inline int take_away(const std::string &block)
{
	static constexpr int seconds = 20;
	Child child([&] { return std::to_string(write_file(block + "state", "offline")); });

	if (!child.speaks_within(seconds))
		return ETIMEDOUT;
	int error = std::stoi(child.collect());

	if (error)
		return error;
	error = write_file(block + "state", "online_movable");
	/* A page of it was poisoned: then it stays away. */
	expect(!error || error == EHWPOISON, "%s went offline and not online: %s", block.c_str(),
	       strerror(error));
	return 0;
}

/*
 * Poisoning and soft offlining wait for hotplug, or for one another, with a reference to
 * their page; hotplug waits, for ever, until nobody but itself has one. Compaction scans
 * the pages of a zone without asking whether they are still there, and may oops when
 * hotplug poisons their struct pages. So that these do not meet hotplug, whoever does any
 * of this waits here, in whatever process.
 */
class HotplugTurn {
public:
	HotplugTurn() : fd_(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC))
	{
		must(fd_ >= 0, "open of /");
		must(flock(fd_, LOCK_EX) == 0, "flock");
	}
	~HotplugTurn()
	{
		/* A forked process may have the descriptor too. */
		flock(fd_, LOCK_UN);
		close(fd_);
	}
	HotplugTurn(const HotplugTurn &) = delete;
	HotplugTurn &operator=(const HotplugTurn &) = delete;

private:
	int fd_;
};

inline bool compact(Storm &, Dice &)
{
	HotplugTurn turn;

	return write_file("/proc/sys/vm/compact_memory", "1") == 0;
}

/* The block of the first page from a random one on that lies in a block that may go. */
inline std::optional<std::string> block_below(Storm &storm, Dice &dice)
{
	const std::size_t start = dice.below(storm.arena.pages());
	const std::size_t frames = memory_block_size() / page_size();
	Pagemap pagemap;
	std::size_t looked_at = 0;

	for (std::size_t i = 0; i < storm.arena.pages(); i++) {
		char *page = storm.arena.page((start + i) % storm.arena.pages());
		std::size_t number = pagemap.frame(page) / frames;

		if (number == looked_at)
			continue;
		looked_at = number;
		if (may_go(number))
			return memory_block(number);
	}
	return std::nullopt;
}

/*
 * Takes the memory away in which a page of the storm lies, with all else that is there.
 * It cannot go while something in it may not be moved.
 */
inline bool hot_remove(Storm &storm, Dice &dice)
{
	HotplugTurn turn;
	std::optional<std::string> block = block_below(storm, dice);

	errno = block ? take_away(*block) : ENOENT;
	return !errno;
}

/* None is taken away to see whether it can go: with a poisoned page it would be lost. */
inline Needs needs_hot_remove()
{
	if (geteuid() != 0)
		throw Skip("only root may take memory away");
	if (!read_file(memory_block_size_file))
		throw Skip("this kernel has no CONFIG_MEMORY_HOTREMOVE");

	std::size_t blocks = sysconf(_SC_PHYS_PAGES) * page_size() / memory_block_size();

	/* Addresses have gaps between memory. */
	for (std::size_t i = 0; i < blocks + 1024; i++) {
		if (may_go(i))
			return nullptr;
	}
	throw Skip("no memory is in the Movable zone alone, and nothing of it in use since boot");
}

/* Broken memory */

inline Needs needs_memory_failure()
{
	if (geteuid() != 0)
		throw Skip("only root may poison memory");
	if (madvise(nullptr, 0, MADV_HWPOISON))
		throw Skip("this kernel has no CONFIG_MEMORY_FAILURE");
	return nullptr;
}

/*
 * Whoever poisons a page is told so by the signal that those get who access it.
 * Discarding it gives a fresh page; the old one is lost to the system.
 */
inline bool poison(Storm &storm, Dice &dice)
{
	HotplugTurn turn;
	Piece piece = written_page(storm, dice);
	Signal signal = trap([&] { madvise(at(storm, piece), piece.length, MADV_HWPOISON); });

	if (dice.below(4) == 0)
		advised(storm, whole(storm), MADV_DONTNEED_LOCKED);
	return signal.is(SIGBUS, BUS_MCEERR_AR, at(storm, piece));
}

inline bool soft_offline(Storm &storm, Dice &dice)
{
	HotplugTurn turn;

	return advised(storm, written_page(storm, dice), MADV_SOFT_OFFLINE);
}

/* Locking, sealing, permissions, mappings */

inline bool lock(Storm &storm, Dice &dice)
{
	Piece piece = piece_or_table(storm, dice);

	switch (dice.below(4)) {
	case 0:
		return munlock(at(storm, whole(storm)), storm.arena.size()) == 0;
	case 1:
		return munlock(at(storm, piece), piece.length) == 0;
	case 2:
		return mlock2(at(storm, piece), piece.length, MLOCK_ONFAULT) == 0;
	default:
		return mlock(at(storm, piece), piece.length) == 0;
	}
}

inline Needs needs_mseal()
{
	if (syscall(SYS_mseal, nullptr, 0, 0))
		throw Skip("this kernel has no mseal()");
	return nullptr;
}

/* Splits the VMA: pieces become sealed neighbours, and are faulted in themselves. */
inline bool seal(Storm &storm, Dice &dice)
{
	Piece piece = Piece::random(storm.arena, dice);

	must(syscall(SYS_mseal, at(storm, piece), piece.length, 0) == 0, "mseal");
	expect(munmap(at(storm, piece), page_size()) && errno == EPERM,
	       "munmap of sealed memory was not refused");
	return true;
}

inline bool protect(Storm &storm, Dice &dice)
{
	static const int protections[] = {PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE};
	Piece piece = dice.below(8) ? Piece::random(storm.arena, dice) : whole(storm);
	int prot = piece.length == storm.arena.size() ? PROT_READ | PROT_WRITE
						      : protections[dice.below(3)];

	return mprotect(at(storm, piece), piece.length, prot) == 0;
}

inline bool clear_refs(Storm &, Dice &dice)
{
	return write_file("/proc/self/clear_refs", dice.below(4) ? "4" : "1") == 0;
}

/* The child shares the memory until it executes, or has a copy of it. */
inline bool fork_and_exec(Storm &, Dice &dice)
{
	static char name[] = "true";
	static char *const arguments[] = {name, nullptr};
	static char *const environment[] = {nullptr};
	bool shares = dice.below(4) == 0;
	pid_t pid = shares ? vfork() : fork();

	if (pid == 0) {
		execve("/bin/true", arguments, environment);
		_exit(127);
	}
	int status;

	must(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The ends of processes */

/*
 * In a child: threads fault in memory that they give back, or never do, until one of
 * them is told to end the process, or somebody else does.
 */
inline std::string fault_until_the_end(std::atomic<unsigned> &faulting, bool exits, bool gives_back)
{
	Arena arena(32);
	Team team(owners, [&](unsigned id) {
		std::size_t share = arena.size() / owners & -page_size();
		char *mine = arena.begin() + id * share;

		for (;;) {
			for (std::size_t i = 0; i < share; i += page_size()) {
				mine[i] = 1;
				if (i == 64 * page_size())
					faulting++;
				if (gives_back && i == 256 * page_size())
					break;
			}
			if (exits && id == 0 && faulting >= owners)
				_exit(0);
			if (gives_back)
				madvise(mine, share, MADV_DONTNEED);
		}
	});

	team.finish();
	return "unreachable";
}

/* exit_group() while other threads fault; or a signal that kills them all. */
inline bool exit_while_faulting(Storm &, Dice &dice)
{
	Shared<std::atomic<unsigned>> faulting;
	bool exits = dice.below(2);
	Child child([&] { return fault_until_the_end(*faulting, exits, true); });

	if (!exits) {
		while (*faulting < owners)
			sched_yield();
		kill(child.pid(), SIGKILL);
	}
	std::string end = child.collect();

	expect(end == (exits ? "" : "killed by signal 9"), "a faulting process: %s", end.c_str());
	return true;
}

/* Someone else takes a dying process's pages, as the OOM reaper does, while it faults. */
inline bool reap(Storm &, Dice &)
{
	Shared<std::atomic<unsigned>> faulting;
	Child child([&] { return fault_until_the_end(*faulting, false, true); });
	int pidfd = syscall(SYS_pidfd_open, child.pid(), 0);
	bool reaped = false;

	must(pidfd >= 0, "pidfd_open");
	while (*faulting < owners)
		sched_yield();
	kill(child.pid(), SIGKILL);
	for (int error = 0; error != ESRCH;) {
		error = syscall(SYS_process_mrelease, pidfd, 0) ? errno : 0;
		reaped |= !error;
		if (error && error != ESRCH && error != EAGAIN && error != EINTR)
			break;
	}
	close(pidfd);
	expect(child.collect() == "killed by signal 9", "a killed process ended otherwise");
	return reaped;
}

/* More than a cgroup may have, and nothing to reclaim: the OOM killer, with all threads in faults. */
inline bool run_out_of_memory(Storm &, Dice &)
{
	Shared<std::atomic<unsigned>> faulting;
	Cgroup cgroup;

	cgroup.limit("16M");
	Child child([&] {
		cgroup.enter();
		return fault_until_the_end(*faulting, false, false);
	});
	std::string end = child.collect();

	expect(end == "killed by signal 9", "a process beyond its limit: %s", end.c_str());
	expect(cgroup.event("oom_kill") >= 1, "memory.events does not count who was killed");
	return true;
}

/* Failures */

inline Needs needs_failures()
{
	struct Set {
		Failures pages{"fail_page_alloc"}, copies{"fail_usercopy"};
		ObjectFailures nodes{{"radix_tree_node"}};
		Setting single{Failures::knob("fail_page_alloc", "min-order"), "0"};
		Setting high{Failures::knob("fail_page_alloc", "ignore-gfp-highmem"), "N"};
	};

	return need<Set>();
}

/* Of pages, and of nodes of xarrays. */
inline void fail_memory(const char *percent)
{
	for (const char *kind : {"fail_page_alloc", "failslab"})
		Failures::percent(kind, percent);
}

/* One in three fails while the storm goes on for a pass. */
inline bool fail_allocations(Storm &storm, Dice &)
{
	unsigned pass = storm.passes();

	fail_memory("33");
	storm.next_pass();
	bool passed = wait_for([&] { return storm.passes() > pass; });

	fail_memory("0");
	return passed;
}

inline Needs needs_object_failures()
{
	struct Set {
		ObjectFailures objects{{"radix_tree_node", "kmalloc-64", "kmalloc-96",
					"kmalloc-128", "kmalloc-192", "kmalloc-256",
					"kmalloc-512"}};
		Setting folios{folio_file(usual_folio_kb(), "enabled"), "always"};
	};

	return need<Set>();
}

/*
 * Threads that all fault on the first large folios of a cgroup: one in three of the objects
 * that such a folio needs is refused to who cannot wait for it.
 */
inline bool fail_objects(Storm &, Dice &)
{
	const std::size_t kilobytes = usual_folio_kb(), size = kilobytes * 1024;
	std::uint64_t before = folios_allocated(kilobytes);
	Cgroup cgroup;

	Failures::percent("failslab", "33");
	Child child([&] {
		Arena arena(1);
		Barrier begin(owners);

		*arena.page(0) = 1;
		allow_huge_pages(true);
		cgroup.enter();

		auto each = [&](unsigned id, auto act) {
			for (std::size_t at = (id + 1) * size; at < arena.size();
			     at += owners * size)
				act(Block::word(arena.begin() + at, false), at);
		};
		Team team(owners, [&](unsigned id) {
			begin.wait();
			each(id, [](volatile std::uint64_t *word, std::size_t at) { *word = at; });
			each(id, [](volatile std::uint64_t *word, std::size_t at) {
				expect(*word == at, "the folio at %#zx lost a write", at);
			});
		});

		team.finish();
		return std::string();
	});
	std::string end = child.collect();

	Failures::percent("failslab", "0");
	expect(end.empty(), "a process with large folios: %s", end.c_str());
	return folios_allocated(kilobytes) > before;
}

/*
 * In system calls that copy to a page that is not there, each copy, and each allocation
 * of the fault that is theirs, fails in its turn: nothing is copied, or all.
 */
inline bool fail_copies(Storm &, Dice &)
{
	static const std::string text(page_size(), 'x');
	Arena arena(1);
	File file("/dev/shm");
	int nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	bool refused = false, reached = true;

	must(nth >= 0, "open of /proc/thread-self/fail-nth");
	must(pwrite(file.fd(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()),
	     "write of a page");
	*arena.page(0) = 1;
	for (std::size_t i = 1; reached && i < arena.pages(); i++) {
		std::string count = std::to_string(i);
		char left[16] = {};

		must(write(nth, count.data(), count.size()) > 0, "write of fail-nth");
		ssize_t done = pread(file.fd(), arena.page(i), page_size(), 0);
		bool failed = done < 0 && errno == EFAULT;

		/* That copies as well: it fails if it is the next. */
		reached = pread(nth, left, sizeof(left) - 1, 0) > 0 && !atoi(left);
		[[maybe_unused]] ssize_t undone = write(nth, "0", 1);

		expect(failed || done == static_cast<ssize_t>(page_size()), "read %zd bytes: %s",
		       done, strerror(errno));
		expect(std::string(arena.page(i), page_size()) ==
			       (failed ? std::string(page_size(), '\0') : text),
		       "a page was copied in part, where number %zu failed", i);
		refused |= failed;
	}
	close(nth);
	return refused;
}

} // namespace calls

inline std::vector<Writer> writers()
{
	using namespace calls;
	static constexpr std::size_t swap_size = 128 << 20;
	const Storm::Shape plain = {};
	const Storm::Shape zero = {.allowed = {.zero = true}};
	const Storm::Shape paced = {.paced = true};
	const Storm::Shape file = {
		.allowed = {.zero = true}, .backing = Backing::shared_file, .paced = true};
	/* Written anew and not discarded, so that what was merged is copied. */
	const Storm::Shape alike = {.paced = true, .alike = true, .discards = false};
	const Storm::Shape guarded = {.allowed = {.zero = true, .unmapped = true}};
	const Storm::Shape denied = {.allowed = {.denied = true}};
	const Storm::Shape broken = {.allowed = {.zero = true, .poisoned = true}};
	auto swap = [] {
		return need<Zram>(swap_size);
	};
	bool tables_go = discards_tables();

	return {
		{"discard", 40, 25, zero, true, "", "", nothing, discard},
		{"discard_tables", 40, 25, zero, true, "", tables_go ? "pmd_none" : "", nothing,
		 discard_tables},
		{"free_lazily", 40, 25, zero, false, "pglazyfree", "", nothing, free_lazily},
		{"guard", 40, 25, guarded, true, "", "", nothing, guard},
		{"page_out", 20, 10, plain, true, "pswpout", "", swap, page_out},
		{"khugepaged", 4, 25, paced, false, "thp_collapse_alloc", "", needs_huge_pages,
		 khugepaged},
		{"khugepaged_file", 4, 1, file, false, "thp_collapse_alloc", "", needs_huge_pages,
		 khugepaged_file},
		{"collapse", 8, 25, paced, false, "thp_collapse_alloc", "", needs_huge_pages,
		 collapse},
		{"collapse_file", 8, 1, file, false, "thp_collapse_alloc", "", needs_huge_pages,
		 collapse_file},
		{"merge", 6, 25, alike, false, "cow_ksm", "", needs_ksm, merge},
		{"move_pages", 20, 25, plain, true, "pgmigrate_success", "", needs_two_nodes,
		 move_pages},
		{"bind_and_move", 20, 25, plain, true, "pgmigrate_success", "", needs_two_nodes,
		 bind_and_move},
		{"change_policy", 40, 25, plain, true, "", "vma_changed", nothing, change_policy},
		{"compact", 5, 25, plain, true, "compact_migrate_scanned", "", nothing, compact},
		{"numa_scan", 8, 25, paced, true, "numa_pte_updates", "", needs_numa_balancing,
		 numa_scan},
		{"hot_remove", 2, 25, plain, true, "pgmigrate_success", "", needs_hot_remove,
		 hot_remove},
		{"poison", 10, 25, broken, false, "", "", needs_memory_failure, poison},
		{"soft_offline", 10, 25, plain, false, "", "", needs_memory_failure, soft_offline},
		{"lock", 40, 25, plain, true, "unevictable_pgs_mlocked", "vma_changed", nothing,
		 lock},
		{"seal", 20, 25, plain, true, "", "", needs_mseal, seal, true},
		{"protect", 40, 25, denied, true, "", "vma_changed", nothing, protect},
		{"clear_refs", 20, 25, plain, true, "", "", nothing, clear_refs},
		{"fork_and_exec", 8, 10, plain, true, "", "", nothing, fork_and_exec},
		{"exit_while_faulting", 4, 25, plain, true, "", "", nothing, exit_while_faulting},
		{"reap", 4, 25, plain, true, "", "", nothing, reap},
		{"run_out_of_memory", 1, 25, plain, true, "oom_kill", "nomem", nothing,
		 run_out_of_memory},
		{"fail_allocations", 8, 25, plain, true, "", "nomem", needs_failures,
		 fail_allocations},
		{"fail_objects", 40, 25, plain, true, "", "nomem", needs_object_failures,
		 fail_objects},
		{"fail_copies", 20, 25, plain, true, "", "nomem", needs_failures, fail_copies},
	};
}

} // namespace spf

#endif /* SPF_WRITERS_HPP */
