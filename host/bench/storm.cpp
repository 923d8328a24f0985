// SPDX-License-Identifier: GPL-2.0
/*
 * The only program of a guest whose instructions are counted (its /init): page
 * faults of one kind after another, each kind by a process that has never had a
 * thread ("alone"), by a thread of a process that has two, and by four threads
 * in one VMA; and stretches of system calls. Only the faults that are meant are
 * marked, not what prepares them.
 *
 * Arguments: --list prints the names. The variable "only" in the environment, where
 * the kernel puts name=value from its command line, has those to do, "," between them.
 */
#include <atomic>
#include <fcntl.h>
#include <malloc.h>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "guest.hpp"

using namespace guest;

namespace {

constexpr unsigned int rounds = 2, stretches = 32, cpus = 4;
constexpr const char *file_path = "/pages", *mirror_path = "/dev/hmm_dmirror0", *idle = "idle",
		     *translating = "translate";

enum class memory { anonymous, private_file, shared_file, heap };
enum class protection { none, soft_dirty, fork, child, notified };

/*
 * Each thread faults once every "stride" bytes of its own page tables. The page
 * at the start of a table stays, so that the table does; with a stride of a table,
 * there is none. A file has a page every "filled" bytes.
 */
struct workload {
	const char *name;
	memory of;
	size_t tables, stride, filled;
	touch before;
	protection then;
	touch how;
	bool raced = false; /* two threads fault on each page, for one of them to be late */

	size_t share() const { return tables * table; }
	bool no_tables() const { return stride == table; }
	size_t faults() const { return tables * (no_tables() ? 1 : table / stride - 1); }
};

constexpr size_t around = 16 * page; /* what a fault in a file maps besides, if it is there */

using m = memory;
using a = touch;
using p = protection;

constexpr workload workloads[] = {
	/* The first access, a read: the zero page. */
	{"read_zero", m::anonymous, 1, page, 0, a::none, p::none, a::read},
	/* The first access, a write. */
	{"refault", m::anonymous, 1, page, 0, a::none, p::none, a::write},
	/* A write to what has been read: a copy of the zero page. */
	{"copy_zero", m::anonymous, 1, page, 0, a::read, p::none, a::write},
	/* A write to a page that is the process's own, and write-protected all the same. */
	{"mkwrite", m::anonymous, 1, page, 0, a::write, p::soft_dirty, a::write},
	/* The same after a fork, when the child has gone. */
	{"cow_reuse", m::anonymous, 1, page, 0, a::write, p::fork, a::write},
	/* What is late finds the entry that it needs: less than any of the others. */
	{"spurious", m::anonymous, 1, page, 0, a::write, p::fork, a::write, true},
	/* A write while the child is there. */
	{"cow_copy", m::anonymous, 1, page, 0, a::write, p::child, a::write},
	/* The same where there was an MMU notifier: given up with the page table lock. */
	{"cow_notified", m::anonymous, 1, page, 0, a::write, p::notified, a::write},
	/* A read of a file: of a page without neighbours, and of 16. */
	{"file_read", m::private_file, 8, around, around, a::none, p::none, a::read},
	{"file_around", m::private_file, 4, around, page, a::none, p::none, a::read},
	/* A write to a private mapping of a file: the first access, and after a read. */
	{"file_write", m::private_file, 1, page, page, a::none, p::none, a::write},
	{"file_copy", m::private_file, 1, page, page, a::read, p::none, a::write},
	/* A write to a shared one. */
	{"file_shared", m::shared_file, 1, page, page, a::none, p::none, a::write},
	/* A write where there is no page table. */
	{"no_table", m::anonymous, 64, table, 0, a::none, p::none, a::write},
	/* A write to the heap, which grows by a page each time. */
	{"brk", m::heap, 1, page, 0, a::none, p::none, a::write},
};

/* Of the process itself, none; one thread is the second of two, as who waits is one, too. */
constexpr unsigned int crews[] = {0, 1, 4, 2}, racers = 3;
constexpr const char *crew_names[] = {"alone", "1", "4", "2"};

char *three_pages(int flags)
{
	return map_anonymous(nullptr, 3 * page, flags);
}

/* To a child on the same CPU, which sends it back. */
void send_around()
{
	static const struct echo {
		int to[2], from[2];

		echo()
		{
			char byte;

			require(!pipe(to) && !pipe(from), "pipe");
			const pid_t pid = fork();

			require(pid >= 0, "fork");
			if (!pid) {
				close(to[1]);
				while (read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1)
					;
				_exit(0);
			}
		}
	} other;
	char byte = 0;

	require(write(other.to[1], &byte, 1) == 1 && read(other.from[0], &byte, 1) == 1, "a pipe");
}

/* What a compiler does to its address space: it reads, its heap grows, and it writes. */
int translate()
{
	std::ifstream in("/init");
	std::vector<std::string> words(1);
	char letter;

	for (size_t n = 0; n < 16 * page && in.get(letter); n++) {
		words.back() += letter;
		if (!letter)
			words.emplace_back(64, letter);
	}
	std::ofstream out("/translated");

	for (const std::string &word : words)
		out << word;
	return out && words.size() > 1 ? 0 : 1;
}

void execute(const char *argument)
{
	const pid_t pid = vfork();

	if (!pid) {
		execl("/init", "/init", argument, nullptr);
		_exit(1);
	}
	wait_for(pid);
}

struct call {
	const char *name;
	void (*make)(char *pages);
	bool load = false; /* faults count, and all tasks */
};

const call calls[] = {
	/* Unlike its neighbours, so a VMA of its own. */
	{"mmap_munmap",
	 [](char *) {
		 require(!munmap(three_pages(MAP_NORESERVE), 3 * page), "munmap");
	 }},
	/* Of the middle page of a VMA, and back: it is split and merged. */
	{"mprotect",
	 [](char *pages) {
		 require(!mprotect(pages + page, page, PROT_READ), "mprotect");
		 require(!mprotect(pages + page, page, PROT_READ | PROT_WRITE), "mprotect");
	 }},
	{"fork_exit",
	 [](char *) {
		 const pid_t pid = fork();

		 if (!pid)
			 _exit(0);
		 wait_for(pid);
	 }},
	{"vfork_exec",
	 [](char *) {
		 execute(idle);
	 }},
	/* The end of the heap, there and back. */
	{"brk",
	 [](char *) {
		 require(sbrk(page) != reinterpret_cast<void *>(-1), "sbrk");
		 require(sbrk(-page) != reinterpret_cast<void *>(-1), "sbrk");
	 }},
	{"signal",
	 [](char *) {
		 require(!raise(SIGUSR1), "raise");
	 }},
	{"pipe",
	 [](char *) {
		 send_around();
	 }},
	/* Programs that come and go, and all their faults. */
	{"build", [](char *) { execute(translating); }, true},
};

void reach_all(const workload &w, char *area, touch how)
{
	for (size_t at = 0; at < w.share(); at += w.stride)
		if (w.no_tables() || at % table)
			reach(area + at, how);
}

void grow(const workload &w)
{
	static std::mutex lock;

	for (size_t n = 0; n < w.faults(); n++) {
		char *at;
		{
			const std::lock_guard<std::mutex> guard(lock);

			at = static_cast<char *>(sbrk(page));
		}
		/* The break need not be where a page begins. */
		reach(at + page - 1, touch::write);
	}
}

void prepare(const workload &w, char *area)
{
	if (w.of == memory::heap || w.no_tables())
		return;
	if (w.before != touch::write)
		for (size_t at = 0; at < w.share(); at += table)
			zap(area + at, w.stride);
	reach_all(w, area, w.before);
}

/* A device mirrors this process's memory, and leaves it. */
void notify()
{
	const int mirror = open(mirror_path, O_RDWR);

	require(mirror >= 0 && !close(mirror), mirror_path);
}

std::unique_ptr<child> protect(const workload &w)
{
	std::unique_ptr<child> sharer;

	if (w.then == protection::soft_dirty)
		require(!!(std::ofstream("/proc/self/clear_refs") << 4 << std::flush),
			"/proc/self/clear_refs");
	if (w.then == protection::notified)
		notify();
	if (w.then == protection::fork || w.then == protection::child ||
	    w.then == protection::notified)
		sharer = std::make_unique<child>();
	if (w.then == protection::fork)
		sharer.reset();
	return sharer;
}

/* One of two threads is late, by up to as long as about a fault takes, to each page. */
void race(const workload &w, char *area, bool late)
{
	static std::atomic<size_t> come;
	const size_t begin = come & ~size_t(1);
	size_t faults = 0;

	for (size_t at = page; at < w.share(); at += w.stride) {
		come++;
		for (faults++; come < begin + 2 * faults;)
			;
		for (volatile size_t n = late ? faults * 37 % 1024 : 0; n; n = n - 1)
			;
		reach(area + at, w.how);
	}
}

void fault(const workload &w, char *area, unsigned int thread)
{
	if (w.raced)
		race(w, area, thread);
	else if (w.of == memory::heap)
		grow(w);
	else
		reach_all(w, area, w.how);
}

/* While it is there, faults are of that kind, and counters are looked at. */
class marking {
public:
	marking(unsigned int what, counters &where) : kind(what), moved(where), before(vmstat())
	{
		mark(kind);
	}
	marking(const marking &) = delete;
	~marking()
	{
		mark(marks::none);
		if (kind)
			add_since(before, moved);
	}

private:
	unsigned int kind;
	counters &moved;
	const counters before;
};

/*
 * Threads stay where they are, for the TLBs that a copy flushes to be the same ones.
 * Between preparation and mark, everybody writes to his stack once more: it may have been
 * write-protected with everything else.
 */
void round(const workload &w, char *area, unsigned int threads, unsigned int kind, counters &moved)
{
	if (!threads) {
		prepare(w, area);
		const auto sharer = protect(w);
		const marking now(kind, moved);

		fault(w, area, 0);
		return;
	}
	meeting all(threads + 1);
	std::vector<std::thread> crew;

	for (unsigned int t = 0; t < threads; t++)
		crew.emplace_back([&all, &w, t, own = area + (w.raced ? 0 : t * w.share())] {
			pin((t + 1) % cpus);
			prepare(w, own);
			all.wait();
			all.wait();
			all.wait();
			fault(w, own, t);
			all.wait();
		});
	all.wait();
	const auto sharer = protect(w);
	all.wait();
	{
		const marking now(kind, moved);

		all.wait();
		all.wait();
	}
	for (auto &thread : crew)
		thread.join();
}

/* Aligned to a page table, and with the first page of each. */
char *area_for(const workload &w, size_t size)
{
	char *area = map_anonymous(nullptr, size + table, MAP_NORESERVE);

	area += -reinterpret_cast<uintptr_t>(area) % table;
	if (w.of == memory::anonymous) {
		require(!madvise(area, size, MADV_NOHUGEPAGE), "madvise");
	} else {
		const int file = open(file_path, O_RDWR | O_CREAT | O_TRUNC, 0600);

		require(file >= 0 && !ftruncate(file, size), file_path);
		for (size_t at = 0; at < size; at += w.filled)
			require(pwrite(file, file_path, 1, at) == 1, file_path);
		map(area, size,
		    MAP_FIXED | (w.of == memory::shared_file ? MAP_SHARED : MAP_PRIVATE), file);
		close(file);
	}
	for (size_t at = 0; at < size; at += w.no_tables() ? size : table)
		reach(area + at, w.of == memory::anonymous ? touch::write : w.how);
	return area;
}

void report(unsigned int kind, const char *name, const char *crew, size_t times,
	    const counters &moved)
{
	std::cout << "STORM " << kind << ' ' << name << ' ' << crew << " times=" << times;
	print(moved);
}

void run(const workload &w, unsigned int kind, unsigned int crew)
{
	const unsigned int threads = crews[crew], shares = threads ? threads : 1;
	const size_t size = shares * w.share();
	/* Where there is a page table, there will never be none again. */
	char *area = w.of == memory::heap ? nullptr
					  : area_for(w, (w.no_tables() ? rounds + 1 : 1) * size);
	counters moved;

	/* Unmarked first: whatever is done once only is done here. */
	for (unsigned int n = 0; n <= rounds; n++)
		round(w, area + w.no_tables() * n * size, threads, n ? kind : marks::none, moved);
	report(kind, w.name, crew_names[crew], rounds * shares * w.faults(), moved);
}

void run(const call &c, unsigned int kind, unsigned int crew)
{
	char *pages = three_pages(MAP_POPULATE);
	meeting end(2);
	std::thread other;

	if (crews[crew])
		other = std::thread([&end] { end.wait(); });
	for (unsigned int n = 0; n < 2 * stretches; n++) {
		mark(n < stretches ? marks::none : kind);
		c.make(pages);
		mark(marks::none);
	}
	if (other.joinable()) {
		end.wait();
		other.join();
	}
	report(kind, c.name, crew_names[crew], stretches, {});
}

void storm()
{
	unsigned int kind = marks::none;

	for (const workload &w : workloads)
		for (unsigned int crew = 0; crew < std::size(crews); crew++)
			if (kind++; wanted(w.name) && w.raced == (crew == racers))
				run_alone(w.name, [&] { run(w, kind, crew); });
	kind = 0;
	for (const call &c : calls)
		for (unsigned int crew = 0; crew < 2; crew++, kind++)
			if (wanted(c.name))
				run_alone(c.name, [&] {
					run(c, kind + (c.load ? marks::loads : marks::calls), crew);
				});
	mark(marks::finish);
	std::cout << "STORM READY" << std::endl;
}

} // namespace

int main(int argc, char **argv)
{
	if (argc == 2 && argv[1] == std::string(idle))
		return 0;
	if (argc == 2 && argv[1] == std::string(translating))
		return translate();
	if (argc == 2 && argv[1] == std::string("--list")) {
		for (const workload &w : workloads)
			std::cout << w.name << '\n';
		for (const call &c : calls)
			std::cout << c.name << '\n';
		return 0;
	}
	try {
		set_up();
		mount_at("/dev", "devtmpfs");
		signal(SIGUSR1, [](int) {});
		/* Who waits for a process on its CPU sees all of its end. */
		pin(0);
		/* What address space there is does not depend on who allocates first. */
		mallopt(M_ARENA_MAX, 1);
		storm();
	} catch (const std::exception &error) {
		std::cout << "STORM FAILED " << error.what() << std::endl;
	}
	return end_guest();
}
