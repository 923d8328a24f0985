/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel reports: the switch, the fault counters, a process's memory. */
#ifndef SPF_COUNTERS_HPP
#define SPF_COUNTERS_HPP

#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#include "error.hpp"

namespace spf {

inline std::optional<std::string> read_file(const std::string &path)
{
	std::ifstream file(path);
	std::ostringstream text;

	if (!file || !(text << file.rdbuf()))
		return std::nullopt;
	return text.str();
}

/* errno of the refused write, or 0. One write(2), for files that parse each one. */
inline int write_file(const std::string &path, const std::string &text)
{
	std::FILE *file = std::fopen(path.c_str(), "w");

	if (!file)
		return errno;
	errno = 0;
	bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
	bool closed = std::fclose(file) == 0;
	return written && closed ? 0 : errno;
}

/* A setting in /proc or /sys that gets its old value back. */
class Setting {
public:
	Setting(std::string path, const std::string &value) : path_(std::move(path))
	{
		std::string old = read_file(path_).value_or("");
		std::size_t open = old.find('[');

		/* Lists of choices mark the current one: "always [madvise] never". */
		old_ = open == old.npos ? old : old.substr(open + 1, old.find(']') - open - 1);
		if (old_.empty())
			throw Skip(format("this kernel has no %s", path_.c_str()));
		if (int error = write_file(path_, value))
			throw Skip(format("cannot set %s: %s", path_.c_str(), strerror(error)));
	}
	~Setting() { write_file(path_, old_); }
	Setting(const Setting &) = delete;
	Setting &operator=(const Setting &) = delete;

private:
	std::string path_;
	std::string old_;
};

enum class Mode { absent, off, on };

inline constexpr const char *mode_path = "/proc/sys/vm/speculative_page_fault";

inline Mode mode()
{
	std::optional<std::string> text = read_file(mode_path);

	if (!text)
		return Mode::absent;
	expect(*text == "0\n" || *text == "1\n", "%s reads \"%s\": expected 0 or 1", mode_path,
	       text->c_str());
	return *text == "1\n" ? Mode::on : Mode::off;
}

/* The lines of /proc/vmstat about faults and what they do, at one moment or between two. */
class Counters {
public:
	static Counters now()
	{
		std::ifstream file("/proc/vmstat");
		Counters counters;
		std::string name;
		std::uint64_t value;

		while (file >> name >> value) {
			for (const char *prefix :
			     {"spf_", "vma_lock_", "pgfault", "pgmajfault", "numa_hint_faults",
			      "numa_pages_migrated", "numa_pte_updates", "pswp",
			      "unevictable_pgs_mlocked"}) {
				if (name.rfind(prefix, 0) == 0)
					counters.values_[name] = value;
			}
		}
		return counters;
	}

	Counters since(const Counters &before) const
	{
		Counters delta = *this;

		for (auto &[name, value] : delta.values_)
			value -= before[name];
		return delta;
	}

	Counters &operator+=(const Counters &more)
	{
		for (const auto &[name, value] : more.values_)
			values_[name] += value;
		return *this;
	}

	std::uint64_t operator[](const std::string &name) const
	{
		auto found = values_.find(name);

		return found == values_.end() ? 0 : found->second;
	}

	bool present() const { return values_.count("spf_attempt") != 0; }
	std::uint64_t attempt() const { return (*this)["spf_attempt"]; }
	std::uint64_t success() const { return (*this)["spf_success"]; }

	/* The counters of that prefix, without it. */
	std::map<std::string, std::uint64_t> group(const std::string &prefix) const
	{
		std::map<std::string, std::uint64_t> found;

		for (const auto &[name, value] : values_) {
			if (name.rfind(prefix, 0) == 0)
				found[name.substr(prefix.size())] = value;
		}
		return found;
	}
	std::map<std::string, std::uint64_t> aborts() const { return group("spf_abort_"); }

	/* Every attempt ended as a success or as one abort: exact when nothing faults. */
	bool balanced() const
	{
		std::uint64_t ended = success();

		for (const auto &[reason, count] : aborts())
			ended += count;
		return attempt() == ended;
	}

	/* One line for people: what moved. */
	std::string summary() const
	{
		std::string text;

		for (const auto &[name, value] : values_) {
			if (value)
				text += format("%s%s=%llu", text.empty() ? "" : " ", name.c_str(),
					       static_cast<unsigned long long>(value));
		}
		return text;
	}

private:
	std::map<std::string, std::uint64_t> values_;
};

/*
 * That speculation really ran: with it on, at least @least successes; with it off,
 * not one attempt. Kernels without it have nothing to show.
 */
inline void expect_speculated(const Counters &moved, std::uint64_t least)
{
	if (mode() == Mode::on)
		expect(moved.success() >= least,
		       "only %llu faults were speculated, expected %llu: %s",
		       static_cast<unsigned long long>(moved.success()),
		       static_cast<unsigned long long>(least), moved.summary().c_str());
	if (mode() == Mode::off)
		expect(moved.attempt() == 0, "speculation is off, yet: %s",
		       moved.summary().c_str());
}

/*
 * The counters of a machine that is not otherwise idle move while they are read.
 * Wait for a reading that adds up; a kernel that miscounts never gives one, and
 * then the last reading tells the report so.
 */
inline Counters settled_counters()
{
	Counters counters = Counters::now();

	for (int more = 100; more && !counters.balanced(); more--)
		counters = Counters::now();
	return counters;
}

/*
 * That the @faults of a kind were speculated: hardly any other one was counted that
 * could stand in for them.
 */
inline void expect_resolved(const Counters &moved, std::uint64_t faults)
{
	expect_speculated(moved, faults * 99 / 100);
	expect(mode() != Mode::on || moved["pgfault"] <= faults * 105 / 100,
	       "more faults than the expected %llu: %s", static_cast<unsigned long long>(faults),
	       moved.summary().c_str());
}

/*
 * Runs @faults, which takes @count faults of one kind: expects that nearly all that
 * was faulted is this, and that it was speculated.
 */
template <class Faults> void speculates(std::size_t count, Faults faults)
{
	Counters before = Counters::now();

	faults();
	expect_resolved(Counters::now().since(before), count);
}

/* The number after "Name:" in a file of /proc/self, in its own unit (kB mostly). */
inline std::uint64_t proc_field(const char *path, const char *name)
{
	std::string text = read_file(path).value_or("");
	std::size_t at = text.find(std::string("\n") + name + ":");

	expect(at != text.npos, "%s has no line %s", path, name);
	return std::stoull(text.substr(at + 2 + strlen(name)));
}

/*
 * A process's anonymous pages and page tables, in kB. /proc/self/status sums
 * every CPU's share of the rss counters, so it is exact at rest; smaps_rollup
 * counts the same pages by walking the VMAs. They part when a page is counted
 * twice or not at all, and when one sits in a hole, where no VMA leads to it.
 */
struct Memory {
	std::uint64_t counted;
	std::uint64_t walked;
	std::uint64_t tables;

	static Memory now()
	{
		/* The first reading may grow this process; the second has room. */
		read();
		return read();
	}

private:
	static Memory read()
	{
		return {proc_field("/proc/self/status", "RssAnon"),
			proc_field("/proc/self/smaps_rollup", "Anonymous"),
			proc_field("/proc/self/status", "VmPTE")};
	}
};

/* The same for pages of files, shared memory included. */
struct FileMemory {
	std::uint64_t counted;
	std::uint64_t walked;

	static FileMemory now()
	{
		read();
		return read();
	}

private:
	static FileMemory read()
	{
		static const char status[] = "/proc/self/status";
		static const char rollup[] = "/proc/self/smaps_rollup";

		return {proc_field(status, "RssFile") + proc_field(status, "RssShmem"),
			proc_field(rollup, "Rss") - proc_field(rollup, "Anonymous")};
	}
};

} // namespace spf

#endif /* SPF_COUNTERS_HPP */
