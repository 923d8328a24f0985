/* SPDX-License-Identifier: GPL-2.0 */
/* Files under test: each page says which one it is, and of which generation. */
#ifndef SPF_FILE_HPP
#define SPF_FILE_HPP

#include <fcntl.h>
#include <unistd.h>

#include <vector>

#include "mapping.hpp"

namespace spf {

/* The first and the last word of a page. Generations begin at 1; no stamp is zero. */
inline std::uint64_t stamp(std::uint64_t generation, std::size_t page)
{
	return generation << 24 | (page + 1);
}

inline volatile std::uint64_t *front_word(char *page)
{
	return reinterpret_cast<volatile std::uint64_t *>(page);
}

inline volatile std::uint64_t *back_word(char *page)
{
	return front_word(page + page_size()) - 1;
}

inline void expect_stamp(char *page, std::size_t index, std::uint64_t expected)
{
	std::uint64_t front = *front_word(page), back = *back_word(page);

	expect(front == expected && back == expected,
	       "page %zu holds %#llx and %#llx, expected %#llx", index,
	       static_cast<unsigned long long>(front), static_cast<unsigned long long>(back),
	       static_cast<unsigned long long>(expected));
}

/* Without a name, so that it goes with its last descriptor and its last mapping. */
class File {
public:
	explicit File(const std::string &directory)
		: fd_(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0700))
	{
		must(fd_ >= 0, "open of a file without a name");
	}
	~File() { close(fd_); }
	File(const File &) = delete;
	File &operator=(const File &) = delete;

	int fd() const { return fd_; }

	void resize(std::size_t pages)
	{
		must(ftruncate(fd_, pages * page_size()) == 0, "ftruncate");
	}

	/* Page by page: the page cache takes no larger folio than what is written at once. */
	void write(std::size_t first, std::size_t count, std::uint64_t generation)
	{
		std::vector<char> content(page_size());

		for (std::size_t i = first; i < first + count; i++) {
			*front_word(content.data()) = stamp(generation, i);
			*back_word(content.data()) = stamp(generation, i);
			must(pwrite(fd_, content.data(), page_size(), i * page_size()) ==
				     static_cast<ssize_t>(page_size()),
			     "write of a page");
		}
	}
	void write_at_once(std::size_t count, std::uint64_t generation)
	{
		std::vector<char> content(count * page_size());

		for (std::size_t i = 0; i < count; i++) {
			*front_word(&content[i * page_size()]) = stamp(generation, i);
			*back_word(&content[i * page_size()]) = stamp(generation, i);
		}
		must(pwrite(fd_, content.data(), content.size(), 0) ==
			     static_cast<ssize_t>(content.size()),
		     "write of a file");
	}

	void sync() { must(fsync(fd_) == 0, "fsync"); }

	/* The next access to each page is one to the disk, where there is one. */
	void drop_cache()
	{
		sync();
		must(posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED) == 0, "posix_fadvise");
	}

private:
	int fd_;
};

} // namespace spf

#endif /* SPF_FILE_HPP */
