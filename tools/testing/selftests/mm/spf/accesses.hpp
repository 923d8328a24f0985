/* SPDX-License-Identifier: GPL-2.0 */
/* Accesses as programs see them: by the program itself, and by system calls for it. */
#ifndef SPF_ACCESSES_HPP
#define SPF_ACCESSES_HPP

#include <functional>
#include <string>

#include "mapping.hpp"
#include "team.hpp"
#include "trap.hpp"

namespace spf {

/* Accesses aim into pages, so that si_addr shows that it is not rounded. */
inline constexpr std::size_t inside = 24;

/* "ok", or signal, code and where: "at" the accessed address or elsewhere. */
inline std::string describe(const Signal &signal, const void *accessed)
{
	if (!signal.signo)
		return "ok";
	if (signal.address != accessed)
		return format("signal %d code %d at %p, accessed %p", signal.signo, signal.code,
			      signal.address, accessed);
	if (signal.signo == SIGBUS)
		return signal.code == BUS_ADRERR ? "BUS_ADRERR" : format("SIGBUS %d", signal.code);
	switch (signal.code) {
	case SEGV_MAPERR:
		return "SEGV_MAPERR";
	case SEGV_ACCERR:
		return "SEGV_ACCERR";
	case SEGV_PKUERR:
		return "SEGV_PKUERR";
	default:
		return format("SIGSEGV %d", signal.code);
	}
}

inline std::string reading(const char *page)
{
	return describe(try_read(page + inside), page + inside);
}

inline std::string writing(char *page)
{
	return describe(try_write(page + inside), page + inside);
}

/* What system calls that move @length bytes return: "ok EFAULT short". */
class Calls {
public:
	static constexpr ssize_t length = 64;

	void record(ssize_t done)
	{
		seen_ += seen_.empty() ? "" : " ";
		seen_ += done == length ? "ok" : done < 0 ? strerrorname_np(errno) : "short";
	}
	const std::string &seen() const { return seen_; }

private:
	std::string seen_;
};

/*
 * An arena with something in its first and third page: its table is there, and it
 * has an anon_vma, so that nothing but the case itself stands against speculation.
 */
inline Arena used_arena(std::size_t tables = 1)
{
	Arena arena(tables);

	*arena.page(0) = *arena.page(2) = 1;
	return arena;
}

inline volatile std::uint64_t *word(const char *page, std::size_t index = 0)
{
	return reinterpret_cast<volatile std::uint64_t *>(const_cast<char *>(page)) + index;
}

/* No page is 0, no two pages are alike. */
inline std::uint64_t stamp(std::size_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15u;
}

/* Fresh memory takes writes, and reads as zero before them. */
inline std::string takes_both(char *pages, std::size_t count)
{
	for (std::size_t i = 0; i < count; i++) {
		volatile char *at = pages + i * page_size();

		/* Half of the pages are first read, which maps the zero page. */
		if (i % 2)
			expect(*at == 0, "fresh page %zu is not zero", i);
		*at = 1;
		expect(at[1] == 0, "fresh page %zu is not zero", i);
	}
	for (std::size_t i = 0; i < count; i++)
		expect(pages[i * page_size()] == 1, "page %zu lost a write", i);
	return "ok";
}

/*
 * @step is called over and over beside a thread that does the same with @disturb,
 * until both have had their share.
 */
inline std::string beside(const std::function<void()> &disturb,
			  const std::function<void(int)> &step)
{
	std::atomic<int> disturbed{0};
	Team team(1, [&](unsigned) {
		while (!team.stopping()) {
			disturb();
			disturbed++;
		}
	});

	team.start();
	for (int i = 0; (i < 2000 || disturbed < 200) && !team.stopping(); i++)
		step(i);
	team.stop();
	team.finish();
	return "ok";
}

} // namespace spf

#endif /* SPF_ACCESSES_HPP */
