// SPDX-License-Identifier: GPL-2.0
/*
 * Writes to pages that are present and not ours alone: each is copied, nobody sees
 * another's writes, and with speculation on the counters show that copies of this
 * kind were made by it.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include <vector>

#include "child.hpp"
#include "counters.hpp"
#include "handling.hpp"
#include "ktap.hpp"
#include "mapping.hpp"
#include "pages.hpp"
#include "team.hpp"

using namespace spf;

static const std::size_t tables = tables_of(usual_faults());

/* The parent copies while the child has the pages; then the child has them alone. */
static void anonymous()
{
	OneCpu here;
	Arena arena(tables);
	Pages pages(arena);
	Gate copied;

	pages.fill();
	Child child([&] {
		copied.wait();
		pages.expect_marked(0);
		speculates(pages.count(), [&] { pages.mark(2); });
		pages.expect_marked(2);
		return std::string();
	});
	speculates(pages.count(), [&] { pages.mark(1); });
	copied.open();
	pages.expect_marked(1);
	child.collect();
	pages.expect_marked(1);
}

/* The other way round: it is the child that copies, in tables that fork() made. */
static void anonymous_in_child()
{
	OneCpu here;
	Arena arena(tables);
	Pages pages(arena);

	pages.fill();
	Child([&] {
		speculates(pages.count(), [&] { pages.mark(1); });
		pages.expect_marked(1);
		return std::string();
	}).collect();
	pages.expect_marked(0);
}

/* Memory that was only read so far; the first write of a VMA makes its anon_vma. */
static void zero_page()
{
	OneCpu here;
	Arena arena(tables);
	Pages pages(arena);

	pages.touch();
	speculates(pages.count() - 1, [&] { pages.mark(1); });
	for (std::size_t page = 0; page < pages.count(); page++)
		expect(*pages.word(page, 1) == 0, "the copy of the zero page is not zero");
	pages.fill();
	pages.expect_marked(0);
	pages.touch();
}

/* A mapping of the beginning of a file. */
class FileMapping {
public:
	FileMapping(int file, int sharing) : pages_(nullptr, tables * table_span() / page_size())
	{
		void *at = mmap(nullptr, pages_.size(), PROT_READ | PROT_WRITE, sharing, file, 0);

		must(at != MAP_FAILED, "mmap of a file");
		pages_ = Pages(static_cast<char *>(at), pages_.count());
	}
	~FileMapping() { munmap(pages_.begin(), pages_.size()); }
	FileMapping(const FileMapping &) = delete;
	FileMapping &operator=(const FileMapping &) = delete;

	const Pages *operator->() const { return &pages_; }

private:
	Pages pages_;
};

/*
 * Pages of a file that are mapped because they were read: a write copies the page, the
 * file keeps what it has. @copy makes the copies. The file is closed here.
 */
template <class Copy> static void file_pages(int file, Copy copy)
{
	must(file >= 0, "making a file");
	OneCpu here;
	std::size_t size = tables * table_span();
	int sized = ftruncate(file, size);
	FileMapping shared(file, MAP_SHARED), ours(file, MAP_PRIVATE);

	close(file);
	must(sized == 0, "ftruncate");
	shared->fill();
	ours->touch();
	copy(*ours.operator->());
	ours->expect_marked(1);
	shared->expect_marked(0);
}

/* ramfs has nothing but the page cache. */
class Ramfs {
public:
	Ramfs()
	{
		must(mkdtemp(path_) != nullptr, "mkdtemp");
		if (mount("spf", path_, "ramfs", 0, nullptr)) {
			int error = errno;

			rmdir(path_);
			throw Skip(format("cannot mount a ramfs: %s", strerror(error)));
		}
	}
	~Ramfs()
	{
		umount2(path_, MNT_DETACH);
		rmdir(path_);
	}
	Ramfs(const Ramfs &) = delete;
	Ramfs &operator=(const Ramfs &) = delete;

	const char *path() const { return path_; }

private:
	char path_[32] = "/tmp/spf.XXXXXX";
};

static void file()
{
	Ramfs ramfs;

	file_pages(open(ramfs.path(), O_TMPFILE | O_RDWR, 0600), [](const Pages &pages) {
		speculates(pages.count() - 1, [&] { pages.mark(1); });
	});
}

/* Where there are memory policies it has its own, which speculation may not look up. */
static void tmpfs_file()
{
	const bool policies = access("/proc/self/numa_maps", F_OK) == 0;

	file_pages(memfd_create("spf", 0), [policies](const Pages &pages) {
		const std::size_t copied = pages.count() - 1;

		if (policies)
			falls_back({"vma_notsup"}, copied, [&] { pages.mark(1); });
		else
			speculates(copied, [&] { pages.mark(1); });
	});
}

/* Lets ksmd merge pages until @count of this process are merged, and stops it. */
static void merge(std::size_t count)
{
	static const std::string ksm = "/sys/kernel/mm/ksm/";
	Setting all(ksm + "pages_to_scan", "100000");
	Setting at_once(ksm + "sleep_millisecs", "0");
	Setting everything(ksm + "smart_scan", "0");
	Setting run(ksm + "run", "1");
	auto number = [](const std::string &path) {
		return std::stoull(read_file(path).value_or("0"));
	};
	std::uint64_t last = number(ksm + "full_scans") + 100;

	while (number("/proc/self/ksm_merging_pages") < count) {
		expect(number(ksm + "full_scans") < last,
		       "100 scans of all memory merged %llu of %zu pages",
		       number("/proc/self/ksm_merging_pages"), count);
		sched_yield();
	}
}

static void ksm_page()
{
	OneCpu here;
	Arena arena(tables);
	Pages pages(arena, 64);

	pages.fill();
	arena.advise(0, arena.size(), MADV_MERGEABLE);
	merge(pages.count());
	pages.expect_marked(0);
	speculates(pages.count(), [&] { pages.mark(1); });
	pages.expect_marked(1);
}

/* Large folios of which the child keeps every other half. */
static void shared_large_folio()
{
	const std::size_t kilobytes = usual_folio_kb();
	HugePages allowed;
	OneCpu here;
	Arena arena(tables);
	Pages pages(arena);
	Setting always(folio_file(kilobytes, "enabled"), "always");
	std::size_t half = kilobytes * 1024 / page_size() / 2;
	Gate parted, copied;
	std::uint64_t folios = folios_allocated(kilobytes);

	pages.fill();
	folios = folios_allocated(kilobytes) - folios;
	expect(folios >= pages.count() / half / 2 * 99 / 100, "only %llu folios of %zu kB",
	       static_cast<unsigned long long>(folios), kilobytes);
	Child child([&] {
		for (std::size_t page = half; page < pages.count(); page += 2 * half)
			arena.advise(page * page_size(), half * page_size(), MADV_DONTNEED);
		parted.open();
		copied.wait();
		for (std::size_t page = 0; page < pages.count(); page++) {
			if (page / half % 2)
				expect(*pages.word(page) == 0, "page %zu is back", page);
			else
				pages.expect_page(page, 0);
		}
		return std::string();
	});
	parted.wait();
	speculates(pages.count(), [&] { pages.mark(1); });
	copied.open();
	pages.expect_marked(1);
	child.collect();
	pages.expect_marked(1);
}

int main(int argc, char **argv)
{
	allow_huge_pages(false);
	return run_tests(argc, argv,
			 {
				 {"anonymous", anonymous},
				 {"anonymous_in_child", anonymous_in_child},
				 {"zero_page", zero_page},
				 {"file", file},
				 {"tmpfs_file", tmpfs_file},
				 {"ksm_page", ksm_page},
				 {"shared_large_folio", shared_large_folio},
			 });
}
