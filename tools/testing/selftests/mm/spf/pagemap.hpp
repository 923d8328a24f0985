/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel says about single pages of this process. */
#ifndef SPF_PAGEMAP_HPP
#define SPF_PAGEMAP_HPP

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "mapping.hpp"

namespace spf {

/* Bits of an entry. */
inline constexpr unsigned pagemap_soft_dirty = 55;
inline constexpr unsigned pagemap_present = 63;

/* One "1" or "0" a page, so that two answers compare and print. */
using PageBits = std::string;

class Pagemap {
public:
	Pagemap() : file_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC))
	{
		must(file_ >= 0, "open of /proc/self/pagemap");
	}
	~Pagemap() { close(file_); }
	Pagemap(const Pagemap &) = delete;
	Pagemap &operator=(const Pagemap &) = delete;

	PageBits bits(const char *begin, std::size_t pages, unsigned bit) const
	{
		PageBits found;

		for (std::uint64_t entry : entries(begin, pages))
			found += entry >> bit & 1 ? '1' : '0';
		return found;
	}

	/* The page's frame, or 0 where it has none. Only root is told. */
	std::uint64_t frame(const char *page) const
	{
		std::uint64_t entry = entries(page, 1).front();

		return entry >> pagemap_present & 1 ? entry & ((1ull << 55) - 1) : 0;
	}

	/* The pages of which PAGEMAP_SCAN says @category. */
	PageBits scan(const char *begin, std::size_t pages, std::uint64_t category,
		      std::uint64_t flags = 0) const
	{
		std::vector<page_region> regions(pages);
		pm_scan_arg arg = {};
		PageBits found(pages, '0');

		arg.size = sizeof(arg);
		arg.flags = flags;
		arg.start = reinterpret_cast<std::uintptr_t>(begin);
		arg.end = arg.start + pages * page_size();
		arg.vec = reinterpret_cast<std::uintptr_t>(regions.data());
		arg.vec_len = regions.size();
		arg.category_mask = arg.return_mask = category;
		int count = ioctl(file_, PAGEMAP_SCAN, &arg);

		if (count < 0 && (errno == ENOTTY || errno == EINVAL))
			throw Skip(format("PAGEMAP_SCAN does not know category %#llx here",
					  static_cast<unsigned long long>(category)));
		must(count >= 0, "PAGEMAP_SCAN");
		for (int i = 0; i < count; i++) {
			for (std::uint64_t at = regions[i].start; at < regions[i].end;
			     at += page_size())
				found[(at - arg.start) / page_size()] = '1';
		}
		return found;
	}

private:
	std::vector<std::uint64_t> entries(const char *begin, std::size_t pages) const
	{
		std::vector<std::uint64_t> found(pages);
		off_t at = reinterpret_cast<std::uintptr_t>(begin) / page_size() * 8;
		ssize_t length = pages * 8;

		must(pread(file_, found.data(), length, at) == length, "read of pagemap");
		return found;
	}

	int file_;
};

/* Whether any of @count frames from @first on was kept by the kernel when it booted. */
inline bool any_reserved(std::uint64_t first, std::size_t count)
{
	static constexpr unsigned reserved = 32; /* The kernel keeps its name to itself. */
	std::array<std::uint64_t, 512> flags;
	bool found = false;
	int file = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	must(file >= 0, "open of /proc/kpageflags");
	/* In pieces: a test may count its process's memory. */
	for (std::size_t at = 0; at < count && !found; at += flags.size()) {
		std::size_t piece = std::min(flags.size(), count - at);
		ssize_t length = piece * sizeof(flags[0]);

		must(pread(file, flags.data(), length, (first + at) * sizeof(flags[0])) == length,
		     "read of /proc/kpageflags");
		found = std::any_of(flags.begin(), flags.begin() + piece,
				    [](std::uint64_t flag) { return flag >> reserved & 1; });
	}
	close(file);
	return found;
}

/* Bits of those pages for which @wanted(page) is true. */
template <class Wanted> PageBits page_bits(std::size_t pages, Wanted wanted)
{
	PageBits bits;

	for (std::size_t i = 0; i < pages; i++)
		bits += wanted(i) ? '1' : '0';
	return bits;
}

/* Names the first page in which they differ. */
inline void expect_bits(const PageBits &seen, const PageBits &wanted, const char *what)
{
	for (std::size_t i = 0; i < wanted.size(); i++)
		expect(seen[i] == wanted[i], "page %zu is %s%s", i, seen[i] == '1' ? "" : "not ",
		       what);
}

} // namespace spf

#endif /* SPF_PAGEMAP_HPP */
