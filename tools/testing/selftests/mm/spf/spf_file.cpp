// SPDX-License-Identifier: GPL-2.0
/*
 * Faults on files that are in the page cache, where one that reads maps the pages
 * around it too: resolved speculatively by count, right by content, and beside all
 * that takes the pages, the mapping, the file or its file system away.
 *
 * SPF_TEST_SCALE multiplies the work of the storms (1 unless set).
 */
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include "counters.hpp"
#include "file.hpp"
#include "file_system.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "oracle.hpp"
#include "perf_event.hpp"
#include "team.hpp"
#include "trap.hpp"

using namespace spf;

/* 2048 pages with 4K pages. */
static const std::size_t tables = tables_of(std::min<std::size_t>(2048, usual_faults()));

static const char around_path[] = "/sys/kernel/debug/fault_around_bytes";

/* Two pages a fault, not one: then the kernel does not look around at all. */
class SmallWindow {
public:
	static constexpr std::size_t pages = 2;

private:
	Setting around_{around_path, std::to_string(pages *page_size())};
};

static void expect_stamps(const Arena &view, std::uint64_t generation)
{
	for (std::size_t i = 0; i < view.pages(); i++)
		expect_stamp(view.page(i), i, stamp(generation, i));
}

static void touch_each_table(const Arena &view)
{
	for (std::size_t at = 0; at < view.size(); at += table_span())
		(void)*static_cast<volatile char *>(view.begin() + at);
}

static FileMemory consistent_memory()
{
	FileMemory memory = FileMemory::now();

	expect(memory.counted == memory.walked,
	       "rss counts %llu kB of files, but %llu kB are mapped",
	       static_cast<unsigned long long>(memory.counted),
	       static_cast<unsigned long long>(memory.walked));
	return memory;
}

/* Reads all of @view, whose page tables are there, and counts the faults. */
static Counters read_all(Arena &view)
{
	touch_each_table(view);
	view.discard_but_one_per_table();
	std::uint64_t discarded = consistent_memory().counted;
	Counters before = Counters::now();

	expect_stamps(view, 1);
	Counters moved = Counters::now().since(before);
	std::uint64_t read = consistent_memory().counted;

	expect(read >= discarded + (view.pages() - tables) * page_size() / 1024,
	       "%zu pages were read, yet rss went from %llu to %llu kB", view.pages(),
	       static_cast<unsigned long long>(discarded), static_cast<unsigned long long>(read));
	return moved;
}

struct Mapping {
	const char *name;
	int protection;
	int flags;
	int advice;
};

static void read_cached(const std::string &type, const Mapping &mapping)
{
	SmallWindow window;
	FileSystem file_system(type);
	Mount mount = file_system.mounted();
	Arena view(tables);
	File file(mount.path());

	file.write(0, view.pages(), 1);
	view.map_file(file.fd(), mapping.protection, mapping.flags);
	view.advise(0, view.size(), mapping.advice);
	expect_resolved(read_all(view), view.pages() / window.pages);
}

/* As many pages a fault as is usual, and the whole of a folio that is larger. */
static void usual_window(const std::string &type)
{
	static constexpr std::size_t rounds = 64;
	FileSystem file_system(type);
	Mount mount = file_system.mounted();
	Arena view(1);
	File file(mount.path());
	std::size_t around = std::stoul(read_file(around_path).value_or("65536")) / page_size();

	file.write_at_once(view.pages(), 1);
	view.map_file(file.fd(), PROT_READ, MAP_SHARED);
	touch_each_table(view);
	Counters before = Counters::now();

	for (std::size_t round = 0; round < rounds; round++) {
		view.discard_but_one_per_table();
		expect_stamps(view, 1);
	}
	Counters moved = Counters::now().since(before);

	consistent_memory();
	expect(mode() != Mode::on || moved["pgfault"] <= rounds * view.pages() / around * 105 / 100,
	       "a fault did not map %zu pages: %s", around, moved.summary().c_str());
	expect_speculated(moved, std::max<std::size_t>(rounds, moved["pgfault"] * 95 / 100));
}

/* Not in the cache: not for speculation, and right, however much is read ahead. */
static void read_uncached(int advice)
{
	FileSystem file_system("ext4");
	Mount mount = file_system.mounted();
	Arena view(1);
	File file(mount.path());

	file.write(0, view.pages(), 1);
	file.drop_cache();
	view.map_file(file.fd(), PROT_READ, MAP_PRIVATE);
	view.advise(0, view.size(), advice);
	Counters before = Counters::now();

	expect_stamps(view, 1);
	Counters moved = Counters::now().since(before);

	note("%s", moved.summary().c_str());
	expect(moved["pgmajfault"] > 0, "nothing was read from the disk");
	consistent_memory();
}

/* Of this process: a fault that comes again after it has waited is one. */
static std::uint64_t major_faults()
{
	struct rusage usage;

	must(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
	return usage.ru_majflt;
}

/*
 * A fault that had to read from the disk lets go of its locks meanwhile, and starts
 * anew when the page is there: speculatively, before it takes mmap_lock.
 */
static void retry_after_reading()
{
	FileSystem file_system("ext4");
	Mount mount = file_system.mounted();
	Arena view(tables);
	File file(mount.path());
	PerfEvent events = mmap_lock_attempts();

	file.write(0, view.pages(), 1);
	file.drop_cache();
	view.map_file(file.fd(), PROT_READ, MAP_SHARED);
	view.advise(0, view.size(), MADV_RANDOM);
	touch_each_table(view);

	std::size_t faults = view.pages() - tables;
	Counters before = Counters::now();
	std::uint64_t locked = events.count(), major = major_faults();

	expect_stamps(view, 1);
	locked = events.count() - locked;
	Counters moved = Counters::now().since(before);

	expect_resolved(moved, faults);
	expect(moved["pgmajfault"] >= faults * 99 / 100, "%zu pages were read by %llu faults",
	       faults, static_cast<unsigned long long>(moved["pgmajfault"]));
	expect(major_faults() - major >= faults * 99 / 100,
	       "%llu of %zu faults that read a page were major ones",
	       static_cast<unsigned long long>(major_faults() - major), faults);
	expect(mode() == Mode::on || locked >= faults * 99 / 100,
	       "without speculation mmap_lock was taken %llu times for %zu faults",
	       static_cast<unsigned long long>(locked), faults);
	expect(mode() != Mode::on || locked <= faults / 100,
	       "mmap_lock was taken %llu times for %zu faults: %s",
	       static_cast<unsigned long long>(locked), faults, moved.summary().c_str());
}

/* In pages, of what is opened on @mount from now on. */
static Setting read_ahead(const Mount &mount, std::size_t pages)
{
	struct stat status;

	must(stat(mount.path().c_str(), &status) == 0, "stat of a mount");
	return {format("/sys/class/bdi/%u:%u/read_ahead_kb", major(status.st_dev),
		       minor(status.st_dev)),
		std::to_string(pages * page_size() / 1024)};
}

/* A file of which nothing is cached, mapped to be copied. @around of its pages are read at once. */
struct Uncopied {
	explicit Uncopied(std::size_t around) : set(read_ahead(mount, around))
	{
		file.write(0, view.pages(), 1);
		file.drop_cache();
		view.map_file(file.fd(), PROT_READ | PROT_WRITE, MAP_PRIVATE);
	}

	void copy(std::size_t page) { *front_word(view.page(page)) = stamp(2, page); }

	FileSystem file_system = FileSystem("ext4");
	Mount mount = file_system.mounted();
	Setting set;
	Arena view = Arena(tables);
	File file = File(mount.path());
};

/*
 * The pages around one that had to be read are read with it, unless many such pages
 * went by in vain: those that are copied from the cache count as well. Backwards,
 * where half of them are ahead and nothing but this reads them.
 */
static void read_around_for_copies()
{
	static constexpr std::size_t around = 8;
	Uncopied mapping(around);
	const Arena &view = mapping.view;
	Counters before = Counters::now();

	for (std::size_t i = view.pages(); i-- > 0;)
		mapping.copy(i);
	Counters moved = Counters::now().since(before);

	for (std::size_t i = 0; i < view.pages(); i++)
		expect(*front_word(view.page(i)) == stamp(2, i) &&
			       *back_word(view.page(i)) == stamp(1, i),
		       "page %zu was not copied and written", i);
	expect(moved["pgmajfault"] <= view.pages() / (around / 2) * 5 / 4,
	       "%llu of %zu pages were read one by one",
	       static_cast<unsigned long long>(moved["pgmajfault"]), view.pages());
	expect_speculated(moved, view.pages() / 2);
}

/*
 * Where they went by in vain, no more is read than what is asked for. That a fault finds
 * its page in the cache does not count once it had to wait until it was read.
 */
static void read_around_in_vain()
{
	static constexpr std::size_t around = 4;
	Uncopied mapping(around);
	const Arena &view = mapping.view;
	std::vector<unsigned char> cached(view.pages());
	Counters before = Counters::now();

	for (std::size_t i = around / 2; i < view.pages(); i += around)
		mapping.copy(i);
	Counters moved = Counters::now().since(before);

	must(mincore(view.begin(), view.size(), cached.data()) == 0, "mincore");
	std::size_t read = std::count_if(cached.begin(), cached.end(),
					 [](unsigned char page) { return page & 1; });

	note("%zu pages were read for %zu", read, view.pages() / around);
	/* All of them, were it not given up. */
	expect(read <= view.pages() * 3 / 4, "%zu of %zu pages were read, with %zu asked for", read,
	       view.pages(), view.pages() / around);
	expect_speculated(moved, view.pages() / around / 2);
}

/* Needs nothing from where it stands, and so runs from wherever it is copied to. */
[[gnu::noinline]] static int code(int value)
{
	return value * 3 + 1;
}

static void execute(const std::string &type)
{
	std::string text(page_size(), '\0');
	SmallWindow window;
	FileSystem file_system(type);
	Mount mount = file_system.mounted();
	Arena view(tables);
	File file(mount.path());

	/* Whole pages: of one written in part, the other blocks would have to be read. */
	std::memcpy(text.data(), reinterpret_cast<const void *>(code), 64);
	for (std::size_t i = 0; i < view.pages(); i++)
		must(pwrite(file.fd(), text.data(), text.size(), i * page_size()) ==
			     static_cast<ssize_t>(text.size()),
		     "write of code");
	view.map_file(file.fd(), PROT_READ | PROT_EXEC, MAP_PRIVATE);

	auto run_all = [&view] {
		for (std::size_t i = 0; i < view.pages(); i++) {
			int result = reinterpret_cast<int (*)(int)>(view.page(i))(i);

			expect(result == code(i), "page %zu computed %d", i, result);
		}
	};
	touch_each_table(view);
	view.discard_but_one_per_table();
	Counters before = Counters::now();

	run_all();
	expect_resolved(Counters::now().since(before), view.pages() / window.pages);
	consistent_memory();
}

/* To the byte, and also for what was mapped when the end was elsewhere. */
static void end_of_file(const std::string &type)
{
	static constexpr std::size_t pages = 5, tail = 100;
	FileSystem file_system(type);
	Mount mount = file_system.mounted();
	Arena view(1);
	File file(mount.path());
	auto expect_end = [&view](std::size_t count) {
		for (std::size_t i = 0; i < 16; i++) {
			char *at = view.page(i) + 24;
			Signal signal = try_read(at);

			expect(i < count ? !signal.signo : signal.is(SIGBUS, BUS_ADRERR, at),
			       "%zu pages: page %zu: signal %d code %d at %p", count, i,
			       signal.signo, signal.code, signal.address);
		}
	};

	file.write(0, pages + 1, 1);
	view.map_file(file.fd(), PROT_READ, MAP_SHARED);
	expect_end(pages + 1);
	must(ftruncate(file.fd(), pages * page_size() + tail) == 0, "ftruncate");
	expect_end(pages + 1);
	expect(*front_word(view.page(pages)) == stamp(1, pages) &&
		       *back_word(view.page(pages)) == 0,
	       "the end of the last page is not zero");
	file.resize(pages);
	expect_end(pages);
	file.resize(pages + 3);
	expect_end(pages + 3);
	expect_stamp(view.page(pages), pages, 0);
	file.resize(0);
	expect_end(0);
	consistent_memory();
}

/* Hole by hole, with nobody else about, resident memory and mincore() are exact. */
static void punched(const std::string &type)
{
	FileSystem file_system(type);
	Mount mount = file_system.mounted();
	Arena view(1);
	File file(mount.path());
	std::size_t half = view.pages() / 2;
	std::vector<unsigned char> present(view.pages());

	file.write(0, view.pages(), 1);
	view.map_file(file.fd(), PROT_READ, MAP_SHARED);
	expect_stamps(view, 1);
	std::uint64_t before = consistent_memory().counted;

	must(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		       half * page_size()) == 0,
	     "fallocate of a hole");
	must(mincore(view.begin(), view.size(), present.data()) == 0, "mincore");
	for (std::size_t i = 0; i < view.pages(); i++)
		expect((present[i] & 1) == (i >= half), "mincore of page %zu is %d", i, present[i]);
	expect(before == consistent_memory().counted + half * page_size() / 1024,
	       "%zu pages went: %llu kB, then %llu", half, static_cast<unsigned long long>(before),
	       static_cast<unsigned long long>(consistent_memory().counted));
	for (std::size_t i = 0; i < view.pages(); i++)
		expect_stamp(view.page(i), i, i < half ? 0 : stamp(1, i));
	expect(before == consistent_memory().counted, "half of the pages did not come back");
}

/*
 * What each page of a view must hold, and while that is changed, what it will. One
 * thread changes it and tells; the others look, and know by the version whether a
 * change was under way. Nothing else is allowed: a page that is not being changed is
 * exactly what it was last made.
 */
class Watched {
public:
	/* Beside stamps, which are greater, and zero. */
	enum : std::uint64_t { beyond = 1, unmapped = 2, something_else = 3 };

	Watched(Oracle &oracle, std::size_t pages, std::uint64_t initial)
		: oracle_(oracle), pages_(pages)
	{
		for (Page &page : pages_)
			page.now = page.next = initial;
	}

	/* @change makes pages what @become says. In between they may be zero if so said. */
	template <class Become, class Change>
	void change(std::size_t first, std::size_t count, bool zero_between, Become become,
		    Change change)
	{
		zero_between_ = zero_between;
		for (std::size_t i = first; i < first + count; i++) {
			pages_[i].next = become(i);
			pages_[i].version++;
		}
		/* What is seen of the change is not seen before the versions are. */
		std::atomic_thread_fence(std::memory_order_seq_cst);
		change();
		std::atomic_thread_fence(std::memory_order_seq_cst);
		for (std::size_t i = first; i < first + count; i++) {
			pages_[i].now = pages_[i].next.load();
			pages_[i].version++;
		}
	}

	void look(char *page, std::size_t index)
	{
		look_at(front_word(page), index);
		look_at(back_word(page), index);
		looks_++;
	}
	std::uint64_t looks() const { return looks_; }
	/* Those where the page was at rest. */
	std::uint64_t exact() const { return exact_; }

private:
	struct Page {
		std::atomic<std::uint64_t> version{0}, now, next;
	};

	static std::uint64_t see(volatile std::uint64_t *at)
	{
		std::uint64_t value = 0;
		Signal signal = trap([at, &value] { value = *at; });
		auto *address = const_cast<std::uint64_t *>(at);

		if (!signal.signo)
			return value;
		if (signal.is(SIGBUS, BUS_ADRERR, address))
			return beyond;
		return signal.is(SIGSEGV, SEGV_MAPERR, address) ? unmapped : something_else;
	}

	/* Bytes are written one after the other over zeroes. */
	static bool part_of(std::uint64_t seen, std::uint64_t whole)
	{
		for (int shift = 0; shift < 64; shift += 8) {
			std::uint64_t byte = seen >> shift & 0xff;

			if (byte && byte != (whole >> shift & 0xff))
				return false;
		}
		return true;
	}

	void look_at(volatile std::uint64_t *at, std::size_t index)
	{
		Page &page = pages_[index];
		std::uint64_t version = page.version;
		std::uint64_t allowed[] = {page.now, page.next, 0, 0};
		std::uint64_t seen = see(at);

		/* It was seen before what is loaded next. */
		std::atomic_thread_fence(std::memory_order_acquire);
		allowed[2] = page.now;
		allowed[3] = page.next;
		bool zero_between = zero_between_;
		std::uint64_t last = page.version;
		bool fine;

		if (seen == something_else || last > version + 1) {
			fine = seen != something_else;
		} else if (last == version && version % 2 == 0) {
			fine = seen == allowed[0];
			exact_++;
		} else {
			fine = std::count(allowed, allowed + 4, seen) ||
			       (zero_between &&
				(part_of(seen, allowed[1]) || part_of(seen, allowed[3])));
		}
		if (!fine)
			oracle_.violated("page %zu holds %#llx, expected %#llx%s", index,
					 static_cast<unsigned long long>(seen),
					 static_cast<unsigned long long>(allowed[0]),
					 version % 2 || last != version ? " or what it becomes"
									: "");
	}

	Oracle &oracle_;
	std::vector<Page> pages_;
	std::atomic<bool> zero_between_{false};
	std::atomic<std::uint64_t> looks_{0}, exact_{0};
};

/* One CPU of the usual four is left for the one who changes things. */
static constexpr unsigned readers = 3;

static std::size_t window_pages()
{
	return 64 * 1024 / page_size();
}

/*
 * Reads over and over the pages of views that the kernel maps with one fault: the
 * readers share these views, but no page, so that none of them ever waits for a page
 * that another one has locked. What they have mapped they discard.
 */
class Readers {
public:
	Readers(Watched &watched, std::vector<Arena> &views)
		: watched_(watched), views_(views), team_(readers, [this](unsigned id) { run(id); })
	{
		team_.start();
	}

	/* Until they have seen something of what is now at rest, however long a change took. */
	void let_look()
	{
		std::uint64_t enough =
			watched_.exact() + std::max<std::size_t>(views_[0].pages() / 2, 256);

		while ((watched_.exact() < enough || watched_.exact() < watched_.looks() / 2) &&
		       !team_.stopping())
			sched_yield();
	}
	bool failed() const { return team_.stopping(); }
	void finish()
	{
		team_.stop();
		team_.finish();
	}

private:
	void run(unsigned id)
	{
		Arena &view = views_[id % views_.size()];
		std::size_t window = window_pages();

		while (!team_.stopping()) {
			for (std::size_t first = id * window; first < view.pages();
			     first += readers * window) {
				for (std::size_t i = first; i < first + window; i++)
					watched_.look(view.page(i), i);
				/* Fails where nothing is mapped. */
				madvise(view.page(first), window * page_size(), MADV_DONTNEED);
			}
		}
	}

	Watched &watched_;
	std::vector<Arena> &views_;
	Team team_;
};

/* After a storm: nothing was seen that should not have been, and enough was. */
static void judge(const Oracle &oracle, const Watched &watched, const Counters &moved,
		  unsigned percent)
{
	oracle.check();
	note("%llu looks, %llu words at rest", static_cast<unsigned long long>(watched.looks()),
	     static_cast<unsigned long long>(watched.exact()));
	expect(watched.exact() >= watched.looks() / 4,
	       "of %llu looks at two words only %llu were at a page at rest",
	       static_cast<unsigned long long>(watched.looks()),
	       static_cast<unsigned long long>(watched.exact()));
	expect_speculated(moved, moved["pgfault"] * percent / 100);
}

/* Pages of one file go and come back, in a shared and in a private mapping of it. */
template <class Round> static void storm_on_file(const std::string &type, Round round)
{
	FileSystem file_system(type);
	Mount mount = file_system.mounted();
	std::uint64_t before = consistent_memory().counted;
	File file(mount.path());
	Oracle oracle;
	std::vector<Arena> views;
	Dice dice;

	views.emplace_back(1);
	views.emplace_back(1);
	Watched watched(oracle, views[0].pages(), 0);

	views[0].map_file(file.fd(), PROT_READ, MAP_SHARED);
	views[1].map_file(file.fd(), PROT_READ | PROT_WRITE, MAP_PRIVATE);
	watched.change(
		0, views[0].pages(), false, [](std::size_t page) { return stamp(1, page); },
		[&] { file.write(0, views[0].pages(), 1); });

	Counters start = Counters::now();
	Readers readers(watched, views);

	for (unsigned i = 0; i < scaled(25) && !readers.failed(); i++) {
		std::size_t first = dice.below(views[0].pages());
		std::size_t count = round.count(first, views[0].pages(), dice);

		watched.change(
			first, count, true, [&](std::size_t) { return round.taken; },
			[&] { round.take(file, first, count); });
		readers.let_look();
		watched.change(
			first, count, true, [&](std::size_t page) { return stamp(i + 2, page); },
			[&] { file.write(first, count, i + 2); });
		readers.let_look();
	}
	readers.finish();
	Counters moved = Counters::now().since(start);

	for (std::size_t i = 0; i < views[0].pages(); i++) {
		watched.look(views[0].page(i), i);
		watched.look(views[1].page(i), i);
	}
	consistent_memory();
	for (Arena &view : views)
		view.map(0, view.size());
	std::uint64_t after = consistent_memory().counted;

	/* Some of it is this program's own code. */
	std::uint64_t own = std::max<std::size_t>(512, 16 * page_size() / 1024);

	expect(after <= before + own, "%llu kB of files before, %llu after",
	       static_cast<unsigned long long>(before), static_cast<unsigned long long>(after));
	/* Most pages that are looked at were just taken away: these have to be made. */
	judge(oracle, watched, moved, 5);
}

struct Truncation {
	static constexpr std::uint64_t taken = Watched::beyond;

	static std::size_t count(std::size_t first, std::size_t pages, Dice &)
	{
		return pages - first;
	}
	static void take(File &file, std::size_t first, std::size_t) { file.resize(first); }
};

struct Hole {
	static constexpr std::uint64_t taken = 0;

	static std::size_t count(std::size_t first, std::size_t pages, Dice &dice)
	{
		return 1 + dice.below(std::min<std::size_t>(pages - first, 64));
	}
	static void take(File &file, std::size_t first, std::size_t count)
	{
		must(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       first * page_size(), count * page_size()) == 0,
		     "fallocate of a hole");
	}
};

/*
 * The mapping holds the last reference to a file, and what is mapped next at its place
 * is another file, or nothing.
 */
static void last_reference(const std::string &type)
{
	FileSystem file_system(type);
	Mount mount = file_system.mounted();
	Oracle oracle;
	std::vector<Arena> views;
	Dice dice;

	views.emplace_back(1);
	Arena &view = views[0];
	Watched watched(oracle, view.pages(), Watched::unmapped);

	view.unmap(0, view.size());
	Counters start = Counters::now();
	Readers readers(watched, views);

	for (unsigned i = 1; i <= scaled(20) && !readers.failed(); i++) {
		File file(mount.path());

		file.write(0, view.pages(), i);
		watched.change(
			0, view.pages(), false, [&](std::size_t page) { return stamp(i, page); },
			[&] {
				view.map_file(file.fd(), PROT_READ,
					      i % 2 ? MAP_SHARED : MAP_PRIVATE);
			});
		readers.let_look();
		if (dice.below(2))
			continue;
		watched.change(
			0, view.pages(), false, [](std::size_t) { return Watched::unmapped; },
			[&] { view.unmap(0, view.size()); });
		readers.let_look();
	}
	readers.finish();
	Counters moved = Counters::now().since(start);

	consistent_memory();
	judge(oracle, watched, moved, 25);
	view.map(0, view.size());
	mount.unmount();
}

/*
 * A file system whose only file is closed and unmapped is unmounted at once, whatever
 * threads of the process are at: reading what was there, or writing elsewhere.
 */
static void unmount_after_unmap(const std::string &type)
{
	FileSystem file_system(type);
	Oracle oracle;
	std::vector<Arena> views;

	views.emplace_back(1);
	Arena &view = views[0];
	Watched watched(oracle, view.pages(), Watched::unmapped);

	view.unmap(0, view.size());
	Counters start = Counters::now();
	Arena elsewhere(1);
	Team writer(1, [&](unsigned) {
		while (!writer.stopping()) {
			for (std::size_t i = 0; i < elsewhere.pages(); i++)
				*front_word(elsewhere.page(i)) = i;
			elsewhere.discard_but_one_per_table();
		}
	});
	Readers readers(watched, views);

	writer.start();
	for (unsigned i = 1; i <= scaled(20) && !readers.failed(); i++) {
		Mount mount = file_system.mounted();

		watched.change(
			0, view.pages(), false, [&](std::size_t page) { return stamp(i, page); },
			[&] {
				File file(mount.path());

				file.write(0, view.pages(), i);
				/* What is being written to the disk is busy. */
				file.sync();
				view.map_file(file.fd(), PROT_READ, MAP_SHARED);
			});
		readers.let_look();
		watched.change(
			0, view.pages(), false, [](std::size_t) { return Watched::unmapped; },
			[&] {
				view.unmap(0, view.size());
				mount.unmount();
			});
	}
	readers.finish();
	writer.stop();
	writer.finish();
	judge(oracle, watched, Counters::now().since(start), 25);
}

int main(int argc, char **argv)
{
	static constexpr Mapping mappings[] = {
		{"shared", PROT_READ, MAP_SHARED, MADV_NORMAL},
		{"private", PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_NORMAL},
		{"random", PROT_READ, MAP_SHARED, MADV_RANDOM},
		{"sequential", PROT_READ, MAP_PRIVATE, MADV_SEQUENTIAL},
	};
	std::vector<Test> tests;

	for (const char *type : {"tmpfs", "ext4"}) {
		auto add = [&](const char *name, std::function<void(const std::string &)> run) {
			tests.push_back({format("%s_%s", type, name), [=] {
						 run(type);
					 }});
		};

		for (const Mapping &mapping : mappings)
			add(mapping.name,
			    [&mapping](const std::string &on) { read_cached(on, mapping); });
		add("usual_window", usual_window);
		add("execute", execute);
		add("end_of_file", end_of_file);
		add("punched", punched);
		add("truncate_storm",
		    [](const std::string &on) { storm_on_file(on, Truncation()); });
		add("punch_storm", [](const std::string &on) { storm_on_file(on, Hole()); });
		add("last_reference", last_reference);
		add("unmount_after_unmap", unmount_after_unmap);
	}
	for (auto [name, advice] : {std::pair{"uncached", MADV_NORMAL},
				    {"uncached_random", MADV_RANDOM},
				    {"uncached_sequential", MADV_SEQUENTIAL}})
		tests.push_back({name, [advice = advice] {
					 read_uncached(advice);
				 }});
	tests.push_back({"retry_after_reading", retry_after_reading});
	tests.push_back({"read_around_for_copies", read_around_for_copies});
	tests.push_back({"read_around_in_vain", read_around_in_vain});
	keep_stacks(readers + 1);
	allow_huge_pages(false);
	return run_tests(argc, argv, tests);
}
