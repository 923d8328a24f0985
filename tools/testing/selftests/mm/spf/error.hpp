/* SPDX-License-Identifier: GPL-2.0 */
/* How a test says that it failed, or that this machine cannot run it. */
#ifndef SPF_ERROR_HPP
#define SPF_ERROR_HPP

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

namespace spf {

/* What was tested is broken, or the system refused what every kernel grants. */
struct Failure : std::runtime_error {
	using std::runtime_error::runtime_error;
};

/* This machine lacks what the test needs; the text says what. */
struct Skip : std::runtime_error {
	using std::runtime_error::runtime_error;
};

[[gnu::format(printf, 1, 0)]] inline std::string vformat(const char *fmt, va_list args)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, args);
	return text;
}

[[gnu::format(printf, 1, 2)]] inline std::string format(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	std::string text = vformat(fmt, args);
	va_end(args);
	return text;
}

[[gnu::format(printf, 2, 3)]] inline void expect(bool condition, const char *fmt, ...)
{
	if (condition)
		return;

	va_list args;

	va_start(args, fmt);
	std::string text = vformat(fmt, args);
	va_end(args);
	throw Failure(text);
}

/* For a system call that has to succeed; @what reads "mmap of the arena". */
inline void must(bool succeeded, const char *what)
{
	if (!succeeded)
		throw Failure(format("%s failed: %s", what, strerror(errno)));
}

} // namespace spf

#endif /* SPF_ERROR_HPP */
