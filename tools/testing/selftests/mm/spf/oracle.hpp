/* SPDX-License-Identifier: GPL-2.0 */
/* What storms need: how long, what at random, and what went wrong. */
#ifndef SPF_ORACLE_HPP
#define SPF_ORACLE_HPP

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>

#include "error.hpp"

namespace spf {

/* SPF_TEST_SCALE multiplies the work (1 unless set). So does another @variable its amount. */
inline unsigned scaled(unsigned count, const char *variable = "SPF_TEST_SCALE")
{
	const char *scale = getenv(variable);

	return std::max(1.0, count * (scale ? atof(scale) : 1.0));
}

/* The first thing that went wrong; a storm goes on to its end, so that no thread waits. */
class Oracle {
public:
	[[gnu::format(printf, 2, 3)]] void violated(const char *fmt, ...)
	{
		va_list args;
		std::lock_guard<std::mutex> guard(mutex_);

		if (count_++)
			return;
		va_start(args, fmt);
		first_ = vformat(fmt, args);
		va_end(args);
	}
	void check() const
	{
		expect(count_ == 0, "%llu violations, first: %s",
		       static_cast<unsigned long long>(count_), first_.c_str());
	}

private:
	std::mutex mutex_;
	std::uint64_t count_ = 0;
	std::string first_;
};

/* A small generator: the same operations in every run. */
class Dice {
public:
	explicit Dice(std::uint64_t seed = 1) : state_(seed) {}

	std::size_t below(std::size_t limit)
	{
		state_ = state_ * 6364136223846793005u + 1442695040888963407u;
		return (state_ >> 33) % limit;
	}

private:
	std::uint64_t state_;
};

} // namespace spf

#endif /* SPF_ORACLE_HPP */
