/* SPDX-License-Identifier: GPL-2.0 */
/* Huge pages that are set aside for a test. */
#ifndef SPF_HUGETLB_HPP
#define SPF_HUGETLB_HPP

#include <string>

#include "counters.hpp"

namespace spf {

/* Bytes of each, where there are any. Not what a page table maps: powerpc's may be larger. */
inline std::size_t hugetlb_size()
{
	static const std::size_t size = proc_field("/proc/meminfo", "Hugepagesize") * 1024;

	return size;
}

/* They go back to the system with this and the last mapping of them. */
class HugetlbPool {
public:
	explicit HugetlbPool(std::size_t pages) : size_(path, std::to_string(pages))
	{
		if (read_file(path) != std::to_string(pages) + "\n")
			throw Skip(format("no memory for %zu pages of hugetlb", pages));
	}

private:
	static constexpr const char *path = "/proc/sys/vm/nr_hugepages";
	Setting size_;
};

} // namespace spf

#endif /* SPF_HUGETLB_HPP */
