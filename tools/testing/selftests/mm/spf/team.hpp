/* SPDX-License-Identifier: GPL-2.0 */
/* Threads that start together, each on a CPU of its own as far as they go round. */
#ifndef SPF_TEAM_HPP
#define SPF_TEAM_HPP

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "error.hpp"

namespace spf {

/* The CPUs this process may use, by number. */
inline std::vector<unsigned> cpus()
{
	std::vector<unsigned> usable;
	cpu_set_t set;

	must(sched_getaffinity(getpid(), sizeof(set), &set) == 0, "sched_getaffinity");
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &set))
			usable.push_back(cpu);
	}
	return usable;
}

/*
 * As long as this lives, the calling thread and what it forks stay on one CPU: its
 * batch of new pages, and nobody else's, can hold a reference to a page.
 */
class OneCpu {
public:
	explicit OneCpu(unsigned cpu = cpus().front())
	{
		cpu_set_t one;

		must(sched_getaffinity(0, sizeof(old_), &old_) == 0, "sched_getaffinity");
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		must(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
	}
	~OneCpu() { sched_setaffinity(0, sizeof(old_), &old_); }
	OneCpu(const OneCpu &) = delete;
	OneCpu &operator=(const OneCpu &) = delete;

private:
	cpu_set_t old_;
};

class Barrier {
public:
	explicit Barrier(unsigned threads) { pthread_barrier_init(&barrier_, nullptr, threads); }
	~Barrier() { pthread_barrier_destroy(&barrier_); }
	Barrier(const Barrier &) = delete;
	Barrier &operator=(const Barrier &) = delete;

	void wait() { pthread_barrier_wait(&barrier_); }

private:
	pthread_barrier_t barrier_;
};

/*
 * The constructor returns when every thread waits at the start, its stack paged
 * in. start() lets them go; finish() returns when every body has returned, with the
 * threads still there, so that memory compares with what it was before start().
 * stopping() turns true on stop(), or when a body threw, which finish() rethrows.
 */
class Team {
public:
	using Body = std::function<void(unsigned id)>;

	Team(unsigned threads, Body body)
		: body_(std::move(body)), ready_(threads + 1), go_(threads + 1), done_(threads + 1),
		  leave_(threads + 1)
	{
		std::vector<unsigned> usable = cpus();

		for (unsigned id = 0; id < threads; id++)
			threads_.emplace_back(&Team::run, this, id, usable[id % usable.size()]);
		ready_.wait();
	}
	~Team()
	{
		if (!started_)
			body_ = [](unsigned) {
			};
		stop();
		try {
			finish();
		} catch (...) {
			/* Only reached when something else is already being reported. */
		}
		leave_.wait();
		for (std::thread &thread : threads_)
			thread.join();
	}
	Team(const Team &) = delete;
	Team &operator=(const Team &) = delete;

	void start()
	{
		started_ = true;
		go_.wait();
	}
	void stop() { stop_.store(true, std::memory_order_relaxed); }
	bool stopping() const { return stop_.load(std::memory_order_relaxed); }

	void finish()
	{
		if (finished_)
			return;
		if (!started_)
			start();
		done_.wait();
		finished_ = true;
		if (thrown_)
			std::rethrow_exception(thrown_);
	}

private:
	/* In a frame of its own, which leaves the pages to the frames of the body. */
	[[gnu::noinline]] static void page_in_stack()
	{
		volatile char stack[64 * 1024];

		for (std::size_t at = 0; at < sizeof(stack); at += 1024)
			stack[at] = 0;
	}

	void run(unsigned id, unsigned cpu)
	{
		cpu_set_t set;

		page_in_stack();
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
		ready_.wait();
		go_.wait();
		try {
			body_(id);
		} catch (...) {
			std::lock_guard<std::mutex> guard(mutex_);

			if (!thrown_)
				thrown_ = std::current_exception();
			stop();
		}
		done_.wait();
		leave_.wait();
	}

	Body body_;
	Barrier ready_, go_, done_, leave_;
	bool started_ = false;
	bool finished_ = false;
	std::atomic<bool> stop_{false};
	std::mutex mutex_;
	std::exception_ptr thrown_;
	std::vector<std::thread> threads_;
};

/*
 * The C library keeps the stacks of so many threads for later ones. Mapped now, they are
 * not mapped into a hole that a test makes.
 */
inline void keep_stacks(unsigned threads)
{
	Team(threads, [](unsigned) {}).finish();
}

} // namespace spf

#endif /* SPF_TEAM_HPP */
