// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings whose pages are somebody else's: of the hugetlb pool, of devices, of the
 * kernel. Most are populated when they are mapped; where they fault, they fall back.
 */
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include <algorithm>

#include "accesses.hpp"
#include "cases.hpp"
#include "handling.hpp"
#include "hugetlb.hpp"
#include "io_uring.hpp"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

using namespace spf;

/* Where what is known of PCs holds. */
#if defined(__x86_64__) || defined(__i386__)
static constexpr bool pc = true;
#else
static constexpr bool pc = false;
#endif

static int open_device(const char *path, int flags)
{
	int file = open(path, flags | O_CLOEXEC);

	if (file < 0)
		throw Skip(format("cannot open %s: %s", path, strerror(errno)));
	return file;
}

static char *mapped(void *at, const char *what)
{
	if (at == MAP_FAILED)
		throw Skip(format("cannot map %s: %s", what, strerror(errno)));
	return static_cast<char *>(at);
}

/* Memory in pages of hugetlb. */
static char *map_hugetlb(std::size_t pages, int flags)
{
	return mapped(mmap(nullptr, pages * hugetlb_size(), PROT_READ | PROT_WRITE,
			   MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0),
		      "memory of hugetlb");
}

static std::string hugetlb_private()
{
	static constexpr std::size_t pages = 8, rounds = 8;
	HugetlbPool pool(pages);
	char *memory = map_hugetlb(pages, MAP_PRIVATE);

	falls_back({"vma_notsup"}, pages * rounds, [&] {
		for (std::size_t round = 0; round < rounds; round++) {
			for (std::size_t i = 0; i < pages; i++) {
				char *page = memory + i * hugetlb_size();

				if (i % 2)
					expect(*word(page, 5) == 0, "page %zu is not zero", i);
				*word(page) = stamp(i);
				expect(*word(page) == stamp(i) && *word(page, 5) == 0,
				       "page %zu lost a write", i);
			}
			must(madvise(memory, pages * hugetlb_size(), MADV_DONTNEED) == 0,
			     "MADV_DONTNEED of hugetlb");
		}
	});
	return "ok";
}

/* Writes of either are seen by both. */
static std::string hugetlb_shared()
{
	HugetlbPool pool(4);
	char *memory = map_hugetlb(4, MAP_SHARED);

	*word(memory) = 1;
	Child([&] {
		expect(*word(memory) == 1, "the parent's write is not seen");
		*word(memory + hugetlb_size()) = 2;
		return std::string();
	}).collect();
	expect(*word(memory + hugetlb_size()) == 2, "the child's write is not seen");
	return "ok";
}

/* Parent and child have copies of their own, as far as the pool suffices. */
static std::string hugetlb_copied()
{
	HugetlbPool pool(8);
	char *memory = map_hugetlb(4, MAP_PRIVATE);
	auto expect_pages = [&](std::uint64_t more) {
		for (std::size_t i = 0; i < 4; i++)
			expect(*word(memory + i * hugetlb_size()) == i + more,
			       "page %zu holds %#llx", i,
			       static_cast<unsigned long long>(*word(memory + i * hugetlb_size())));
	};

	for (std::size_t i = 0; i < 4; i++)
		*word(memory + i * hugetlb_size()) = i + 1;
	std::string seen = Child([&] {
				   expect_pages(1);
				   for (std::size_t i = 0; i < 4; i++)
					   *word(memory + i * hugetlb_size()) = i + 10;
				   expect_pages(10);
				   return std::string("ok");
			   }).collect();

	expect_pages(1);
	for (std::size_t i = 0; i < 4; i++)
		*word(memory + i * hugetlb_size()) = i + 20;
	expect_pages(20);
	return seen;
}

/* One page more than there are, not reserved: for the program, and for a system call. */
static std::string hugetlb_exhausted()
{
	HugetlbPool pool(4);
	char *memory = map_hugetlb(5, MAP_PRIVATE | MAP_NORESERVE);
	int zero = open_device("/dev/zero", O_RDONLY);
	std::string seen;
	Calls calls;

	for (std::size_t i = 0; i < 5; i++)
		seen += writing(memory + i * hugetlb_size()) + " ";
	calls.record(read(zero, memory + 4 * hugetlb_size(), calls.length));
	must(madvise(memory, hugetlb_size(), MADV_DONTNEED) == 0, "MADV_DONTNEED of hugetlb");
	calls.record(read(zero, memory + 4 * hugetlb_size(), calls.length));
	return seen + calls.seen();
}

/* Anonymous memory, but for the file that it was mapped from, which may be closed. */
static std::string zero_device_private()
{
	std::size_t pages = table_span() / page_size();
	char *memory = mapped(mmap(nullptr, table_span(), PROT_READ | PROT_WRITE, MAP_PRIVATE,
				   open_device("/dev/zero", O_RDWR), 0),
			      "/dev/zero");

	falls_back({"vma_notsup"}, pages, [&] { takes_both(memory, pages); });
	return "ok";
}

/* Memory shared with children, in a file that has no name. */
static std::string zero_device_shared()
{
	std::size_t pages = table_span() / page_size();
	char *memory = mapped(mmap(nullptr, table_span(), PROT_READ | PROT_WRITE, MAP_SHARED,
				   open_device("/dev/zero", O_RDWR), 0),
			      "/dev/zero");

	std::string seen = Child([&] {
				   falls_back({"vma_notsup", "pte_notsup"}, pages, [&] {
					   for (std::size_t i = 0; i < pages; i++)
						   *word(memory + i * page_size()) = stamp(i);
				   });
				   return std::string("ok");
			   }).collect();

	for (std::size_t i = 0; i < pages; i++)
		expect(*word(memory + i * page_size()) == stamp(i), "page %zu is not shared", i);
	return seen;
}

/* The adapters' ROMs of a PC: writes go to copies, and reads see what is there. */
static std::string physical_memory()
{
	static constexpr off_t begin = 0xc0000;
	static constexpr std::size_t pages = 64;

	if (!pc)
		throw Skip("only a PC has ROMs at an address that is known");
	std::size_t length = pages * page_size();
	int file = open_device("/dev/mem", O_RDWR);
	char *memory =
		mapped(mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, begin),
		       "/dev/mem");
	auto rom = [&] {
		std::string content(length, 0);

		must(pread(file, content.data(), length, begin) == ssize_t(length),
		     "read of /dev/mem");
		return content;
	};
	std::string content = rom();

	expect(std::equal(content.begin(), content.end(), memory), "not what read(2) sees");
	falls_back({"vma_notsup"}, pages, [&] {
		for (std::size_t i = 0; i < pages; i++)
			memory[i * page_size()]++;
	});
	for (std::size_t i = 0; i < pages; i++)
		content[i * page_size()]++;
	expect(std::equal(content.begin(), content.end(), memory), "a copy lost something");
	for (std::size_t i = 0; i < pages; i++)
		content[i * page_size()]--;
	expect(rom() == content, "a write came through");
	return "ok";
}

/* Code and data that the kernel maps into each program; a child faults on them anew. */
static std::string vdso()
{
	auto time_by = [](auto get) {
		timespec time;

		must(get(CLOCK_MONOTONIC, &time) == 0, "clock_gettime");
		return time.tv_sec * 1000000000ull + time.tv_nsec;
	};
	auto syscall_gettime = [](clockid_t clock, timespec *time) {
		return int(syscall(SYS_clock_gettime, clock, time));
	};
	auto use = [&] {
		auto *elf = reinterpret_cast<const char *>(getauxval(AT_SYSINFO_EHDR));

		if (!elf)
			throw Skip("this kernel maps no vDSO");
		expect(memcmp(elf, "\177ELF", 4) == 0, "the vDSO is no ELF file");
		for (int i = 0; i < 100; i++) {
			auto before = time_by(syscall_gettime), time = time_by(clock_gettime),
			     after = time_by(syscall_gettime);

			expect(before <= time && time <= after, "clocks run back");
		}
		return std::string("ok");
	};

	return use() + " " + Child(use).collect();
}

/*
 * The kernel writes a record of each page fault, so each is reported exactly once. But
 * only x86 sees a new entry at once: elsewhere the access may fault on it once more.
 */
static std::string perf_ring()
{
	static constexpr std::size_t data_pages = 16;
	perf_event_attr attr = {};

	attr.type = PERF_TYPE_SOFTWARE;
	attr.size = sizeof(attr);
	attr.config = PERF_COUNT_SW_PAGE_FAULTS;
	attr.sample_period = 1;
	attr.sample_type = PERF_SAMPLE_ADDR;
	attr.exclude_kernel = 1;
	attr.disabled = 1;
	int event = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);

	if (event < 0)
		throw Skip(format("no perf events here: %s", strerror(errno)));
	char *ring = mapped(mmap(nullptr, (1 + data_pages) * page_size(), PROT_READ | PROT_WRITE,
				 MAP_SHARED, event, 0),
			    "a perf event");
	auto *head = reinterpret_cast<perf_event_mmap_page *>(ring);
	Arena arena = used_arena();
	std::vector<unsigned> faults(arena.pages());

	must(ioctl(event, PERF_EVENT_IOC_ENABLE, 0) == 0, "enabling a perf event");
	for (std::size_t i = 3; i < arena.pages(); i++)
		*word(arena.page(i)) = i;
	must(ioctl(event, PERF_EVENT_IOC_DISABLE, 0) == 0, "disabling a perf event");

	std::uint64_t end = __atomic_load_n(&head->data_head, __ATOMIC_ACQUIRE);
	std::uint64_t at = head->data_tail;

	expect(end > 0 && end < head->data_size, "the ring's head is %llu",
	       static_cast<unsigned long long>(end));
	while (at < end) {
		auto *record = reinterpret_cast<perf_event_header *>(ring + head->data_offset + at);
		std::uintptr_t address = record[1].type | std::uint64_t(record[1].misc) << 32 |
					 std::uint64_t(record[1].size) << 48;
		std::uintptr_t first = reinterpret_cast<std::uintptr_t>(arena.begin());

		expect(record->type == PERF_RECORD_SAMPLE, "a record of type %u", record->type);
		if (address - first < arena.size())
			faults[(address - first) / page_size()]++;
		at += record->size;
	}
	for (std::size_t i = 3; i < arena.pages(); i++)
		expect(faults[i] == 1 || (!pc && faults[i] == 2),
		       "the fault of page %zu was recorded %u times", i, faults[i]);
	return "ok";
}

/* Rings shared with the kernel, through which it reads into memory not yet there. */
static std::string io_ring()
{
	IoUring ring;
	Arena arena = used_arena();
	int zero = open_device("/dev/zero", O_RDONLY);
	Calls calls;

	*word(arena.page(2), 1) = 1;
	must(mprotect(arena.page(4), page_size(), PROT_READ) == 0, "mprotect");
	for (std::size_t page : {1, 2, 4, 6})
		calls.record(ring.read(zero, arena.page(page), calls.length, 0));
	expect(*word(arena.page(2), 1) == 0, "nothing was read");
	return calls.seen();
}

/* The program and its own system calls reach it, and nobody else. */
static std::string secret_memory()
{
	static constexpr std::size_t pages = 64;
	int file = syscall(SYS_memfd_secret, 0), zero = open_device("/dev/zero", O_RDONLY);
	char buffer[Calls::length];
	int ends[2];
	Calls calls;

	if (file < 0)
		throw Skip(format("no memfd_secret here: %s", strerror(errno)));
	must(ftruncate(file, pages * page_size()) == 0 && pipe(ends) == 0, "ftruncate and pipe");
	char *memory = mapped(
		mmap(nullptr, pages * page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
		"secret memory");

	falls_back({"vma_notsup"}, pages, [&] {
		for (std::size_t i = 0; i < pages; i++) {
			expect(*word(memory + i * page_size(), 1) == 0, "page %zu is not zero", i);
			*word(memory + i * page_size()) = stamp(i);
		}
	});
	for (std::size_t i = 0; i < pages; i++)
		expect(*word(memory + i * page_size()) == stamp(i), "page %zu lost a write", i);
	iovec local = {buffer, sizeof(buffer)}, remote = {memory, sizeof(buffer)};

	calls.record(write(ends[1], memory, calls.length));
	calls.record(read(zero, memory, calls.length));
	calls.record(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	return calls.seen();
}

int main(int argc, char **argv)
{
	static const Case cases[] = {
		{"hugetlb_private", hugetlb_private, "ok"},
		{"hugetlb_shared", hugetlb_shared, "ok"},
		{"hugetlb_copied", hugetlb_copied, "ok"},
		{"hugetlb_exhausted", hugetlb_exhausted, "ok ok ok ok BUS_ADRERR EFAULT ok"},
		{"zero_device_private", zero_device_private, "ok"},
		{"zero_device_shared", zero_device_shared, "ok"},
		{"physical_memory", physical_memory, "ok"},
		{"vdso", vdso, "ok ok"},
		{"perf_ring", perf_ring, "ok"},
		{"io_ring", io_ring, "ok ok EFAULT ok"},
		{"secret_memory", secret_memory, "ok ok EFAULT"},
	};

	allow_huge_pages(false);
	return run_tests(argc, argv, tests_of(cases));
}
