// SPDX-License-Identifier: GPL-2.0
/*
 * Memory armed with userfaultfd, in every mode: a fault that speculation resolved on
 * its own would be one that the monitor never saw. So each test knows which accesses
 * must be reported, and counts them.
 */
#include <memory>

#include "accesses.hpp"
#include "cases.hpp"
#include "handling.hpp"
#include "hugetlb.hpp"
#include "pagemap.hpp"
#include "userfault.hpp"

using namespace spf;

/* Memory of which each page faults on its own. */
struct Area {
	char *begin;
	std::size_t pages;
	std::size_t page;

	explicit Area(const Arena &arena)
		: begin(arena.begin()), pages(arena.pages()), page(page_size())
	{
	}
	Area(void *at, std::size_t length, std::size_t page_length)
		: begin(static_cast<char *>(at)), pages(length / page_length), page(page_length)
	{
		must(at != MAP_FAILED, "mmap");
	}

	char *at(std::size_t index) const { return begin + index * page; }
	std::size_t index(const char *address) const { return (address - begin) / page; }
	std::size_t size() const { return pages * page; }
};

/* How often the monitor was told of each page. Read when the monitor is finished. */
using Reports = std::vector<unsigned>;

static void expect_reports(const Reports &reports, unsigned each)
{
	for (std::size_t i = 0; i < reports.size(); i++)
		expect(reports[i] == each, "page %zu was reported %u times, not %u", i, reports[i],
		       each);
}

static void write_stamps(const Area &area)
{
	for (std::size_t i = 0; i < area.pages; i++)
		*word(area.at(i)) = stamp(i);
}

/* Each page is the monitor's to fill, for loads, for stores and for the kernel. */
static std::string filled_by_monitor(const Area &area, std::uint64_t features = 0)
{
	Userfault userfault(features);
	Reports reports(area.pages);
	int ends[2];

	must(pipe(ends) == 0, "pipe");
	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_MISSING);
	Monitor monitor(userfault, [&](int fd, char *page, std::uint64_t) {
		std::size_t i = area.index(page);

		reports[i]++;
		must(fill_page(fd, area.at(i), stamp(i), area.page) == 0, "UFFDIO_COPY");
	});

	/* Two of three from user mode. */
	falls_back({"vma_notsup"}, area.pages * 2 / 3, [&] {
		for (std::size_t i = 0; i < area.pages; i++) {
			std::uint64_t found = 0;

			if (i % 3 == 0)
				*word(area.at(i), 1) = i;
			if (i % 3 == 1) {
				must(write(ends[1], area.at(i), sizeof(found)) == sizeof(found) &&
					     read(ends[0], &found, sizeof(found)) == sizeof(found),
				     "a pipe from a missing page");
			} else {
				found = *word(area.at(i));
			}
			expect(found == stamp(i), "page %zu was not filled by its monitor", i);
			expect(*word(area.at(i), 1) == (i % 3 ? 0 : i), "page %zu lost a write", i);
		}
	});
	monitor.finish();
	expect_reports(reports, 1);
	return "ok";
}

static std::string missing()
{
	Arena arena = used_arena();

	arena.advise(0, 4 * page_size(), MADV_DONTNEED);
	return filled_by_monitor(Area(arena));
}

static void *map_file(std::size_t length, unsigned flags = 0)
{
	int file = memfd_create("spf", flags);

	if (file < 0)
		throw Skip(format("no memfd of this kind here: %s", strerror(errno)));
	must(ftruncate(file, length) == 0, "ftruncate of a memfd");
	return mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
}

static std::string missing_shmem()
{
	std::size_t length = 256 * page_size();

	return filled_by_monitor(Area(map_file(length), length, page_size()),
				 UFFD_FEATURE_MISSING_SHMEM);
}

static std::string missing_hugetlb()
{
	HugetlbPool pool(6);
	std::size_t length = 6 * hugetlb_size();

	return filled_by_monitor(Area(map_file(length, MFD_HUGETLB), length, hugetlb_size()),
				 UFFD_FEATURE_MISSING_HUGETLBFS);
}

/* Accesses to missing memory raise SIGBUS, with nobody asked. */
static std::string missing_sigbus()
{
	Arena arena = used_arena();
	Userfault userfault(UFFD_FEATURE_SIGBUS);

	userfault.arm(arena.begin(), arena.size(), UFFDIO_REGISTER_MODE_MISSING);
	falls_back({"vma_notsup"}, arena.pages() - 3, [&] {
		for (std::size_t i = 3; i < arena.pages(); i++) {
			std::string seen = i % 2 ? reading(arena.page(i)) : writing(arena.page(i));

			expect(seen == "BUS_ADRERR", "page %zu: %s", i, seen.c_str());
		}
	});
	return writing(arena.page(0)) + " " + writing(arena.page(1)) + " " + reading(arena.page(2));
}

/* Half of the pages are answered with poison, which also stays when the monitor is gone. */
static std::string poison()
{
	Arena arena = used_arena();
	Userfault userfault(UFFD_FEATURE_POISON);
	std::string seen;

	userfault.arm(arena.begin(), arena.size(), UFFDIO_REGISTER_MODE_MISSING);
	Monitor monitor(userfault, [&](int fd, char *page, std::uint64_t) {
		std::size_t i = (page - arena.begin()) / page_size();
		uffdio_poison request = {Userfault::range(page, page_size()), 0, 0};

		if (i % 2 == 0)
			must(fill_page(fd, page, stamp(i), page_size()) == 0, "UFFDIO_COPY");
		else
			must(ioctl(fd, UFFDIO_POISON, &request) == 0, "UFFDIO_POISON");
	});
	auto access = [&] {
		for (std::size_t i = 4; i < 8; i++) {
			std::string one = i & 2 ? writing(arena.page(i)) : reading(arena.page(i));

			/* The latter where the kernel knows no other hardware poison. */
			if (one == format("SIGBUS %d", BUS_MCEERR_AR) || one == "BUS_ADRERR")
				one = "poison";
			seen += one + " ";
		}
	};

	access();
	userfault.disarm(arena.begin(), arena.size());
	falls_back({"pte_notsup"}, 2, access);
	monitor.finish();
	return seen;
}

/*
 * Each write to a protected page is reported before it is done, and once; reads are
 * not. The child, which is not armed, writes unseen to pages of its own.
 */
static std::string write_protect(const Area &area, std::uint64_t features, bool populated,
				 bool fork)
{
	Userfault userfault(features);
	Reports reports(area.pages);

	if (populated)
		write_stamps(area);
	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_WP);
	userfault.write_protect(area.begin, area.size(), true);
	Monitor monitor(userfault, [&](int, char *page, std::uint64_t flags) {
		std::size_t i = area.index(page);

		reports[i]++;
		expect(flags & UFFD_PAGEFAULT_FLAG_WP, "a fault without the flag WP: %#llx",
		       static_cast<unsigned long long>(flags));
		if (populated)
			expect(*word(page) == stamp(i), "page %zu was written before its report",
			       i);
		userfault.write_protect(page, page_size(), false);
	});
	std::unique_ptr<Child> child;

	if (fork)
		child = std::make_unique<Child>([&] {
			for (std::size_t i = 0; i < area.pages; i++) {
				expect(*word(area.at(i)) == stamp(i), "page %zu changed in fork",
				       i);
				*word(area.at(i)) = ~stamp(i);
			}
			return std::string();
		});
	if (populated)
		for (std::size_t i = 0; i < area.pages; i++)
			expect(*word(area.at(i)) == stamp(i), "page %zu lost its content", i);
	falls_back({"vma_notsup"}, area.pages, [&] {
		for (std::size_t i = 0; i < area.pages; i++)
			*word(area.at(i)) = stamp(i) + 1;
	});
	if (child)
		child->collect();
	monitor.finish();
	expect_reports(reports, 1);
	for (std::size_t i = 0; i < area.pages; i++)
		expect(*word(area.at(i)) == stamp(i) + 1, "page %zu lost a write", i);

	/* Not armed any more, though protected again before. */
	userfault.write_protect(area.begin, area.size(), true);
	userfault.disarm(area.begin, area.size());
	for (std::size_t i = 0; i < area.pages; i++)
		*word(area.at(i)) = stamp(i) + 2;
	for (std::size_t i = 0; i < area.pages; i++)
		expect(*word(area.at(i)) == stamp(i) + 2, "page %zu lost a late write", i);
	return "ok";
}

static std::string write_protect_present()
{
	return write_protect(Area(used_arena()), UFFD_FEATURE_PAGEFAULT_FLAG_WP, true, false);
}

static std::string write_protect_forked()
{
	return write_protect(Area(used_arena()), UFFD_FEATURE_PAGEFAULT_FLAG_WP, true, true);
}

/* Markers in entries that are empty: never faulted in. */
static std::string write_protect_empty()
{
	return write_protect(Area(used_arena()), UFFD_FEATURE_WP_UNPOPULATED, false, false);
}

/* Markers in entries whose pages, still in the file, were discarded. */
static std::string write_protect_file()
{
	std::size_t length = 128 * page_size();
	Area area(map_file(length), length, page_size());
	Userfault userfault(UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	Reports reports(area.pages);

	write_stamps(area);
	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_WP);
	userfault.write_protect(area.begin, area.size(), true);
	must(madvise(area.begin, area.size(), MADV_DONTNEED) == 0, "madvise");
	Monitor monitor(userfault, [&](int, char *page, std::uint64_t) {
		reports[area.index(page)]++;
		userfault.write_protect(page, page_size(), false);
	});

	falls_back({"vma_notsup"}, area.pages, [&] {
		for (std::size_t i = 0; i < area.pages; i++)
			*word(area.at(i), 1) = i;
	});
	monitor.finish();
	expect_reports(reports, 1);
	for (std::size_t i = 0; i < area.pages; i++)
		expect(*word(area.at(i)) == stamp(i) && *word(area.at(i), 1) == i,
		       "page %zu lost its content", i);
	return "ok";
}

/* The kernel lifts protection itself and remembers: exactly what was written. */
static std::string write_protect_async()
{
	Arena arena = used_arena();
	Userfault userfault(UFFD_FEATURE_WP_ASYNC);
	Pagemap pagemap;

	userfault.arm(arena.begin(), arena.size(), UFFDIO_REGISTER_MODE_WP);
	userfault.write_protect(arena.begin(), arena.size(), true);
	/* Empty entries, then present ones. */
	for (std::size_t stride : {2, 3}) {
		falls_back({"vma_notsup"}, arena.pages() / stride, [&] {
			for (std::size_t i = 0; i < arena.pages(); i += stride)
				*word(arena.page(i)) = stamp(i);
			for (std::size_t i = 0; i < arena.pages(); i++)
				(void)*word(arena.page(i));
		});
		expect_bits(
			pagemap.scan(arena.begin(), arena.pages(), PAGE_IS_WRITTEN,
				     PM_SCAN_WP_MATCHING),
			page_bits(arena.pages(), [=](std::size_t i) { return i % stride == 0; }),
			"written, says PAGEMAP_SCAN");
	}
	return "ok";
}

/* What another mapping of the file has is shown only when the monitor says so. */
static std::string minor()
{
	std::size_t length = 256 * page_size();
	Area alias(map_file(length), length, page_size());
	Area area(mremap(alias.begin, 0, length, MREMAP_MAYMOVE), length, page_size());
	Userfault userfault(UFFD_FEATURE_MINOR_SHMEM);
	Reports reports(area.pages);

	write_stamps(alias);
	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_MINOR);
	Monitor monitor(userfault, [&](int fd, char *page, std::uint64_t flags) {
		std::size_t i = area.index(page);
		uffdio_continue request = {Userfault::range(page, page_size()), 0, 0};

		reports[i]++;
		expect(flags & UFFD_PAGEFAULT_FLAG_MINOR, "a fault without the flag MINOR: %#llx",
		       static_cast<unsigned long long>(flags));
		*word(alias.at(i)) = ~stamp(i);
		must(ioctl(fd, UFFDIO_CONTINUE, &request) == 0, "UFFDIO_CONTINUE");
	});

	falls_back({"vma_notsup"}, area.pages, [&] {
		for (std::size_t i = 0; i < area.pages; i++) {
			if (i % 2)
				*word(area.at(i), 1) = i;
			expect(*word(area.at(i)) == ~stamp(i), "page %zu was seen too early", i);
		}
	});
	monitor.finish();
	expect_reports(reports, 1);
	return "ok";
}

/* Loads and stores of protected pages are both reported, and lose nothing. */
static std::string access_protect()
{
	Arena arena = used_arena();
	Area area(arena);
	Userfault userfault(UFFD_FEATURE_RWP);
	Reports reports(area.pages);

	write_stamps(area);
	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_RWP);
	userfault.access_protect(area.begin, area.size(), true);
	Monitor monitor(userfault, [&](int, char *page, std::uint64_t flags) {
		reports[area.index(page)]++;
		expect(flags & UFFD_PAGEFAULT_FLAG_RWP, "a fault without the flag RWP: %#llx",
		       static_cast<unsigned long long>(flags));
		userfault.access_protect(page, page_size(), false);
	});

	falls_back({"vma_notsup"}, area.pages, [&] {
		for (std::size_t i = 0; i < area.pages; i++) {
			if (i % 2)
				*word(area.at(i), 1) = i;
			expect(*word(area.at(i)) == stamp(i), "page %zu lost its content", i);
		}
	});
	monitor.finish();
	expect_reports(reports, 1);
	return "ok";
}

/* The kernel gives access back itself and remembers: exactly what was accessed. */
static std::string access_protect_async()
{
	Arena arena = used_arena();
	Area area(arena);
	Userfault userfault(UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC);
	Pagemap pagemap;

	write_stamps(area);
	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_RWP);
	for (std::size_t stride : {2, 3}) {
		userfault.access_protect(area.begin, area.size(), true);
		falls_back({"vma_notsup"}, area.pages / stride, [&] {
			for (std::size_t i = 0; i < area.pages; i += stride) {
				expect(*word(area.at(i)) == stamp(i), "page %zu lost its content",
				       i);
				*word(area.at(i)) = stamp(i);
			}
		});
		expect_bits(pagemap.scan(area.begin, area.pages, PAGE_IS_ACCESSED),
			    page_bits(area.pages, [=](std::size_t i) { return i % stride == 0; }),
			    "accessed, says PAGEMAP_SCAN");
	}
	return "ok";
}

/* A fault that waits for its monitor goes on when the mode becomes asynchronous. */
static std::string set_mode()
{
	Arena arena = used_arena();
	Area area(arena);
	Userfault userfault(UFFD_FEATURE_RWP);
	Reports reports(area.pages);
	std::atomic<bool> answered{true};

	write_stamps(area);
	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_RWP);
	Monitor monitor(userfault, [&](int, char *page, std::uint64_t) {
		reports[area.index(page)]++;
		if (answered)
			userfault.access_protect(page, page_size(), false);
		else
			userfault.set_mode(UFFD_FEATURE_RWP_ASYNC, 0);
	});

	/* In turn: each fault answered; the first one reported, the others not. */
	for (int round = 0; round < 4; round++) {
		answered = round % 2 == 0;
		reports.assign(area.pages, 0);
		userfault.set_mode(0, UFFD_FEATURE_RWP_ASYNC);
		userfault.access_protect(area.begin, area.size(), true);
		for (std::size_t i = 0; i < area.pages; i++)
			expect(*word(area.at(i)) == stamp(i), "page %zu lost its content", i);
		for (std::size_t i = 0; i < area.pages; i++)
			expect(reports[i] == (answered || i == 0), "round %d: page %zu", round, i);
	}
	monitor.finish();
	return "ok";
}

/* The monitor also answers for a child; and a child may be none of its business. */
static std::string fork_of_armed(std::uint64_t features)
{
	Arena arena = used_arena();
	Area area(arena);
	Userfault userfault(features);
	Reports reports(area.pages);

	userfault.arm(area.begin, area.size(), UFFDIO_REGISTER_MODE_MISSING);
	Monitor monitor(userfault, [&](int fd, char *page, std::uint64_t) {
		std::size_t i = area.index(page);
		bool of_child = fd != userfault.fd();

		reports[i]++;
		must(fill_page(fd, page, stamp(i) + of_child, page_size()) == 0, "UFFDIO_COPY");
	});
	auto expect_filled = [&](std::uint64_t more) {
		for (std::size_t i = 3; i < area.pages; i++) {
			std::uint64_t wanted = more == 2 ? 0 : stamp(i) + more;

			expect(*word(area.at(i)) == wanted, "page %zu holds %#llx", i,
			       static_cast<unsigned long long>(*word(area.at(i))));
		}
	};
	Child child([&] {
		expect_filled(features ? 1 : 2);
		return std::string("ok");
	});

	expect_filled(0);
	std::string seen = child.collect();

	monitor.finish();
	for (std::size_t i = 3; i < area.pages; i++)
		expect(reports[i] == (features ? 2 : 1), "page %zu was reported %u times", i,
		       reports[i]);
	return seen;
}

static std::string fork_followed()
{
	return fork_of_armed(UFFD_FEATURE_EVENT_FORK);
}

static std::string fork_left()
{
	return fork_of_armed(0);
}

/* errno, or 0 when the page has moved. */
static int move_page(int fd, char *to, char *from)
{
	uffdio_move request = {};

	request.dst = reinterpret_cast<std::uintptr_t>(to);
	request.src = reinterpret_cast<std::uintptr_t>(from);
	request.len = page_size();
	return ioctl(fd, UFFDIO_MOVE, &request) ? errno : 0;
}

/* Missing pages are answered with pages of another mapping, which are gone there. */
static std::string move()
{
	Arena from(1), to = used_arena();
	Userfault userfault(UFFD_FEATURE_MOVE);
	Reports reports(to.pages());

	write_stamps(Area(from));
	to.advise(0, 4 * page_size(), MADV_DONTNEED);
	userfault.arm(to.begin(), to.size(), UFFDIO_REGISTER_MODE_MISSING);
	Monitor monitor(userfault, [&](int fd, char *page, std::uint64_t) {
		std::size_t i = (page - to.begin()) / page_size();
		int error;

		reports[i]++;
		while ((error = move_page(fd, page, from.page(i))) == EAGAIN || error == EBUSY)
			sched_yield();
		expect(error == 0, "UFFDIO_MOVE of page %zu: %s", i, strerror(error));
	});

	falls_back({"vma_notsup"}, to.pages(), [&] {
		for (std::size_t i = 0; i < to.pages(); i++)
			expect(*word(to.page(i)) == stamp(i), "page %zu has not arrived", i);
	});
	monitor.finish();
	expect_reports(reports, 1);
	mostly_speculates(from.pages(), [&] {
		for (std::size_t i = 0; i < from.pages(); i++)
			expect(*word(from.page(i)) == 0, "page %zu is in both places", i);
	});
	return "ok";
}

/* Each store to a page that is being moved lands once: where it was, or where it went. */
static std::string move_while_written()
{
	Arena from = used_arena(), to = used_arena();
	Userfault userfault(UFFD_FEATURE_MOVE);
	std::size_t words = page_size() / sizeof(std::uint64_t);
	std::atomic<std::size_t> current{0};

	to.advise(0, 4 * page_size(), MADV_DONTNEED);
	userfault.arm(to.begin(), to.size(), UFFDIO_REGISTER_MODE_MISSING);
	/* Word 0 is the used arena's. */
	for (std::size_t i = 0; i < from.pages(); i++)
		*word(from.page(i), 1) = 1;
	Team writer(1, [&](unsigned) {
		for (std::size_t i = 0; i < from.pages(); i++) {
			current = i;
			for (std::size_t at = 2; at < words; at++)
				*word(from.page(i), at) = at;
		}
		current = from.pages();
	});

	writer.start();
	for (std::size_t i = 0; i < from.pages(); i++) {
		int error;

		while (current < i)
			sched_yield();
		while ((error = move_page(userfault.fd(), to.page(i), from.page(i))) == EAGAIN ||
		       error == EBUSY)
			sched_yield();
		expect(error == 0, "UFFDIO_MOVE of page %zu: %s", i, strerror(error));
	}
	writer.finish();
	for (std::size_t i = 0; i < from.pages(); i++)
		for (std::size_t at = 1; at < words; at++)
			expect(*word(from.page(i), at) + *word(to.page(i), at) == at,
			       "page %zu word %zu holds %llu where it was, %llu where it went", i,
			       at, static_cast<unsigned long long>(*word(from.page(i), at)),
			       static_cast<unsigned long long>(*word(to.page(i), at)));
	return "ok";
}

/*
 * Threads fault while the memory is armed and disarmed: each page is filled by the
 * monitor or is fresh, and no fault waits for ever. Faults that begin after the
 * request returned are reported without exception, or not at all.
 */
static std::string arming_under_faults()
{
	static constexpr unsigned threads = 3, all = threads + 1;
	Arena arena = used_arena();
	Userfault userfault;
	std::vector<char> filled(arena.pages());
	char *last = arena.page(arena.pages() - 1);
	auto arm = [&] {
		userfault.arm(arena.begin(), arena.size(), UFFDIO_REGISTER_MODE_MISSING);
	};

	arm();
	Monitor monitor(userfault, [&](int fd, char *page, std::uint64_t) {
		std::size_t i = (page - arena.begin()) / page_size();

		switch (int error = fill_page(fd, page, stamp(i), page_size())) {
		case 0:
			filled[i] = true;
			break;
		case EEXIST:
			userfault.wake(page, page_size());
			break;
		case ENOENT:
			/* Disarmed meanwhile, which has let the fault go. */
			break;
		default:
			throw Failure(format("UFFDIO_COPY: %s", strerror(error)));
		}
	});

	for (int round = 0; round < 8; round++) {
		std::atomic<unsigned> faulting{threads};
		Team team(threads, [&](unsigned id) {
			for (std::size_t i = 1 + id; i < arena.pages(); i += all) {
				if (i & 4)
					(void)*word(arena.page(i));
				*word(arena.page(i), 1) = i;
			}
			faulting--;
		});
		/* The pages that the threads leave to us, one a call. */
		std::size_t next = all;
		auto touch_own = [&](bool armed) {
			char *page = arena.page(next);

			if (next + all >= arena.pages())
				return;
			*word(page, 1) = next;
			expect(*word(page) == (armed ? stamp(next) : 0), "page %zu was %s", next,
			       armed ? "not reported" : "reported though disarmed");
			next += all;
		};

		userfault.disarm(arena.begin(), arena.size());
		arena.discard_but_one_per_table();
		std::fill(filled.begin(), filled.end(), false);
		team.start();
		for (;;) {
			touch_own(false);
			arm();
			touch_own(true);
			if (!faulting)
				break;
			userfault.disarm(arena.begin(), arena.size());
		}
		team.finish();

		/* When the monitor answers one more, it is past all earlier messages. */
		must(madvise(last, page_size(), MADV_DONTNEED) == 0, "madvise of the last page");
		expect(*word(last) == stamp(arena.pages() - 1), "the last page was not reported");
		for (std::size_t i = 1; i + 1 < arena.pages(); i++) {
			if (i % all == 0)
				continue;
			expect(*word(arena.page(i)) == (filled[i] ? stamp(i) : 0),
			       "round %d: page %zu holds %#llx", round, i,
			       static_cast<unsigned long long>(*word(arena.page(i))));
			expect(*word(arena.page(i), 1) == i, "round %d: page %zu lost a write",
			       round, i);
		}
	}
	monitor.finish();
	return "ok";
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"missing", missing, "ok"},
		{"missing_shmem", missing_shmem, "ok"},
		{"missing_hugetlb", missing_hugetlb, "ok"},
		{"missing_sigbus", missing_sigbus, "ok BUS_ADRERR ok"},
		{"poison", poison, "ok poison ok poison ok poison ok poison "},
		{"write_protect_present", write_protect_present, "ok"},
		{"write_protect_forked", write_protect_forked, "ok"},
		{"write_protect_empty", write_protect_empty, "ok"},
		{"write_protect_file", write_protect_file, "ok"},
		{"write_protect_async", write_protect_async, "ok"},
		{"minor", minor, "ok"},
		{"access_protect", access_protect, "ok"},
		{"access_protect_async", access_protect_async, "ok"},
		{"set_mode", set_mode, "ok"},
		{"fork_followed", fork_followed, "ok"},
		{"fork_left", fork_left, "ok"},
		{"move", move, "ok"},
		{"move_while_written", move_while_written, "ok"},
		{"arming_under_faults", arming_under_faults, "ok"},
	};

	allow_huge_pages(false);
	return run_tests(argc, argv, tests_of(cases));
}
