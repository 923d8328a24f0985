/* SPDX-License-Identifier: GPL-2.0 */
/* Pages with contents of their own, to tell whose copy of which page one sees. */
#ifndef SPF_PAGES_HPP
#define SPF_PAGES_HPP

#include <cstddef>
#include <cstdint>

#include "error.hpp"
#include "mapping.hpp"

namespace spf {

/*
 * Each page is filled, and then marked in its first word, a round after the other.
 * No two pages are filled alike, or those are that lie a multiple of @period apart.
 */
class Pages {
public:
	Pages(char *begin, std::size_t count, std::size_t period = SIZE_MAX)
		: begin_(begin), count_(count), period_(period)
	{
	}
	explicit Pages(const Arena &arena, std::size_t period = SIZE_MAX)
		: Pages(arena.begin(), arena.pages(), period)
	{
	}

	char *begin() const { return begin_; }
	std::size_t count() const { return count_; }
	std::size_t size() const { return count_ * page_size(); }
	volatile std::uint64_t *word(std::size_t page, std::size_t index = 0) const
	{
		return reinterpret_cast<volatile std::uint64_t *>(begin_ + page * page_size()) +
		       index;
	}

	void fill() const
	{
		for (std::size_t page = 0; page < count_; page++) {
			for (std::size_t i = 0; i < words(); i++)
				*word(page, i) = filling(page, i);
		}
	}

	/* Reads or writes each page once: what is to fault. */
	void touch() const
	{
		for (std::size_t page = 0; page < count_; page++)
			(void)*word(page);
	}
	void mark(std::uint64_t round) const
	{
		mark(round, [] {});
	}
	template <class Then> void mark(std::uint64_t round, Then then) const
	{
		for (std::size_t page = 0; page < count_; page++) {
			*word(page) = marking(page, round);
			then();
		}
	}

	/* Round 0: filled and never marked. */
	void expect_marked(std::uint64_t round) const
	{
		for (std::size_t page = 0; page < count_; page++)
			expect_page(page, round);
	}
	void expect_page(std::size_t page, std::uint64_t round) const
	{
		for (std::size_t i = 0; i < words(); i++) {
			std::uint64_t held = *word(page, i);
			std::uint64_t wanted =
				round && !i ? marking(page, round) : filling(page, i);

			if (held == wanted)
				continue;
			throw Failure(format("page %zu word %zu holds %#llx, expected %#llx "
					     "of round %llu",
					     page, i, static_cast<unsigned long long>(held),
					     static_cast<unsigned long long>(wanted),
					     static_cast<unsigned long long>(round)));
		}
	}

private:
	static std::size_t words() { return page_size() / sizeof(std::uint64_t); }
	std::uint64_t filling(std::size_t page, std::size_t index) const
	{
		return (page % period_ + 1) * 0x9e3779b97f4a7c15u + index;
	}
	std::uint64_t marking(std::size_t page, std::uint64_t round) const
	{
		return (page + 1) * 0xc2b2ae3d27d4eb4fu - round;
	}

	char *begin_;
	std::size_t count_;
	std::size_t period_;
};

} // namespace spf

#endif /* SPF_PAGES_HPP */
