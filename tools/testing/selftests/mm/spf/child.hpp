/* SPDX-License-Identifier: GPL-2.0 */
/* A piece of a test in a process of its own. */
#ifndef SPF_CHILD_HPP
#define SPF_CHILD_HPP

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>
#include <string>

#include "error.hpp"

namespace spf {

/* Where one process waits until another lets it go on. */
class Gate {
public:
	Gate() { must(pipe(ends_) == 0, "pipe"); }
	~Gate()
	{
		close(ends_[0]);
		close(ends_[1]);
	}
	Gate(const Gate &) = delete;
	Gate &operator=(const Gate &) = delete;

	/* Lets one pass, who waits already or will. */
	void open() { must(write(ends_[1], "", 1) == 1, "opening a gate"); }
	void wait()
	{
		char one;

		must(read(ends_[0], &one, 1) == 1, "waiting at a gate");
	}

private:
	int ends_[2];
};

/*
 * A forked child running @body, a function that returns text. collect() gives this
 * text, or throws what the child threw; a child ended by a signal gives "killed by
 * signal N". A child that is not collected is killed: something has failed.
 */
class Child {
public:
	template <class Body> explicit Child(Body body)
	{
		int ends[2];

		must(pipe(ends) == 0, "pipe");
		pid_ = fork();
		must(pid_ >= 0, "fork");
		if (pid_ == 0) {
			close(ends[0]);
			_exit(run(ends[1], body));
		}
		close(ends[1]);
		output_ = ends[0];
	}
	~Child()
	{
		if (pid_ > 0) {
			kill(pid_, SIGKILL);
			wait();
		}
		close(output_);
	}
	Child(const Child &) = delete;
	Child &operator=(const Child &) = delete;

	pid_t pid() const { return pid_; }

	/* Whether it has something to collect by then: it may be waiting for what never comes. */
	bool speaks_within(int seconds) const
	{
		struct pollfd end = {output_, POLLIN, 0};
		int count = poll(&end, 1, seconds * 1000);

		must(count >= 0, "poll");
		return count > 0;
	}

	std::string collect()
	{
		std::string text;
		char part[512];
		ssize_t got;

		while ((got = read(output_, part, sizeof(part))) > 0)
			text.append(part, got);
		int status = wait();

		if (WIFSIGNALED(status))
			return format("killed by signal %d", WTERMSIG(status));
		switch (WEXITSTATUS(status)) {
		case returned:
			return text;
		case skipped:
			throw Skip(text);
		default:
			throw Failure("in a child: " + text);
		}
	}

private:
	enum { returned, failed, skipped };

	template <class Body> static int run(int output, Body body)
	{
		int how = failed;
		std::string text;

		try {
			text = body();
			how = returned;
		} catch (const Skip &skip) {
			text = skip.what();
			how = skipped;
		} catch (const std::exception &failure) {
			text = failure.what();
		}
		return write(output, text.data(), text.size()) < 0 ? failed : how;
	}

	int wait()
	{
		int status;

		must(waitpid(pid_, &status, 0) == pid_, "waitpid");
		pid_ = 0;
		return status;
	}

	pid_t pid_;
	int output_;
};

/* What a process and its child both see. */
template <class T> class Shared {
public:
	Shared()
	{
		void *at = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		must(at != MAP_FAILED, "mmap of shared memory");
		value_ = new (at) T{};
	}
	~Shared() { munmap(value_, sizeof(T)); }
	Shared(const Shared &) = delete;
	Shared &operator=(const Shared &) = delete;
	T *operator->() const { return value_; }
	T &operator*() const { return *value_; }

private:
	T *value_;
};

} // namespace spf

#endif /* SPF_CHILD_HPP */
