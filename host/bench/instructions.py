#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tables of the instructions that were counted in each kernel, side by side.

host/bench/instructions runs this and says where things are: DIR/LABEL/ has, of each
kernel, what the plugin counted, what the storm said, and the kernel's symbols.
"""
import collections
import sys

# The repository is where outcome.py and host/plugin/symbols.py are: leave no cache in it.
sys.dont_write_bytecode = True

import outcome  # noqa: E402
from symbols import functions  # noqa: E402

SCHEMA = 1
FIRST_CALL = 256	# see host/plugin/marks.hpp
STATISTICS = ("median", "mean", "p99")
# How many more instructions than expected the median may have. It is not the same each
# time where CPUs flush the TLBs of others (4), where they race (2), and in calls that
# schedule; a pipe's other end is woken with new averages of its load if a microsecond has
# passed, which takes 124 of 5,328.
TOLERANCE = {"alone": 0.01, "1": 0.01, "4": 0.03, "2": 0.04}
CALL_TOLERANCE = collections.defaultdict(lambda: 0.02, pipe=0.03)
# These change each other's VMA as they fault: how many faults that disturbs, and so the median,
# is chance. What is compared is the least.
RACING = "brk", "4"
# The storm's own, beside those that it means: where a library's page was shared.
MORE, FEW = 0.02, 8


class Row:
	"""Faults of one kind, or stretches of system calls, in one kernel."""

	def __init__(self, guest):
		self.guest = guest
		self.times = collections.Counter()
		self.executed = collections.defaultdict(collections.Counter)

	def rank(self, share):
		"""The instructions of the fault that has so many below it."""
		at = int((self.times.total() - 1) * share)
		for count in sorted(self.times):
			at -= self.times[count]
			if at < 0:
				return count

	def statistics(self):
		total = sum(count * times for count, times in self.times.items())
		return {"times": self.times.total(), "instructions": total, "min": min(self.times),
			"median": self.rank(0.5), "mean": round(total / self.times.total(), 1),
			"p99": self.rank(0.99), "max": max(self.times)}

	def functions(self):
		"""Where those are that were executed where it was the median."""
		median = self.rank(0.5)
		return {name: round(count / self.times[median], 3)
			for name, count in self.executed[median].most_common()}

	def keep_below(self, least):
		self.times = collections.Counter({count: times for count, times in self.times.items()
			if count < least})

	def wrong(self):
		meant, seen = self.guest["times"], self.times.total()
		if not meant <= seen <= meant * (1 + MORE) + FEW:
			yield f"{seen} were counted and {meant} are meant"


class Kernel:
	"""What a guest has left behind."""

	def __init__(self, path):
		self.rows = {}
		self.wrong = []
		kinds = {}
		with open(path / "storm") as file:
			for line in file:
				word = line.split()
				if not word[1].isdigit():
					continue
				guest = dict(pair.split("=") for pair in word[4:])
				row = Row({name: int(count) for name, count in guest.items()})
				kinds[int(word[1])] = self.rows[int(word[1]) >= FIRST_CALL, word[2], word[3]] = row
		self.read_counts(path, kinds)
		# What comes late and finds its entry set takes less than what sets it.
		late = self.rows.get((False, "spurious", "2"))
		if late:
			late.keep_below(self.rows[False, "cow_reuse", "1"].rank(0))
			late.guest = {"times": late.times.total()}
		for (_, name, crew), row in self.rows.items():
			self.wrong += [f"{name}, {crew}: {sentence}" for sentence in row.wrong()]

	def read_counts(self, path, kinds):
		function = functions(path / "symbols")
		names = {}
		word = executed = None
		with open(path / "counts") as file:
			for line in file:
				word = line.split()
				if word[0] == "took":
					kind, count, times = map(int, word[1:])
					kinds[kind].times[count] += times
					executed = kinds[kind].executed[count]
				elif word[0] == "lost":
					if word[1] != "0":
						self.wrong.append(f"{word[1]} returns to user mode were missed")
				elif word[0] != "end":
					# Parts that the compiler made of a function are its own.
					if word[0] not in names:
						names[word[0]] = function(int(word[0], 16)).split(".")[0]
					executed[names[word[0]]] += int(word[1])
		if not word or word[0] != "end":
			self.wrong.append("what the plugin counted is cut short")


def number(value):
	return f"{value:,.0f}" if isinstance(value, int) else f"{value:,.1f}"


def print_rows(heads, rows):
	"""Rows of a name, a crew, and cells."""
	wide = max(12, *(len(cell) + 2 for row in [heads, *rows] for cell in row[2:]))
	for name, crew, *cells in [heads, *rows]:
		print(f"{name:15}{crew:8}" + "".join(f"{cell:>{wide}}" for cell in cells))


def print_table(title, labels, rows, statistic):
	"""One statistic of all rows, and what ratios they have to the first kernel."""
	heads = [statistic, "threads", *labels, *(f"{label}/{labels[0]}" for label in labels[1:])]
	lines = []
	for row in rows:
		values = [row["kernels"][label][statistic] for label in labels]
		lines.append([row["name"], row["threads"], *map(number, values),
			*(f"{value / values[0]:.4f}" for value in values[1:])])
	print(f"\n{title}")
	print_rows(heads, lines)


def print_speculated(labels, rows):
	lines = []
	for row in rows:
		guests = [row["kernels"][label]["guest"] for label in labels]
		lines.append([row["name"], row["threads"],
			*(f"{guest['spf_success'] / guest['times']:.3f}" if "spf_success" in guest else "-"
				for guest in guests)])
	print("\nResolved speculatively, of all")
	print_rows(["", "threads", *labels], lines)


def print_functions(labels, row, most):
	"""Where a median fault's instructions are, or those that one kernel has more of."""
	tables = [row["kernels"][label]["functions"] for label in labels]
	names = {name for table in tables for name in table}
	first = {name: tables[0].get(name, 0) for name in names}

	def weight(name):
		if len(tables) == 1:
			return first[name]
		return max(abs(table.get(name, 0) - first[name]) for table in tables[1:])

	print(f"\n{row['name']}, {row['threads']}: functions of a median one")
	for name in sorted(sorted(names), key=weight, reverse=True)[:most]:
		if weight(name):
			print("  ", f"{name:40}", *(f"{table.get(name, 0):>12,.1f}" for table in tables),
				*(f"{table.get(name, 0) - first[name]:>+12,.1f}" for table in tables[1:]))


def compared(tables):
	"""What outcome compares with what is expected: medians."""
	for table, rows in tables.items():
		for row in rows:
			statistic = "min" if (row["name"], row["threads"]) == RACING else "median"
			tolerance, key = (CALL_TOLERANCE, "name") if table == "calls" else (TOLERANCE, "threads")
			for label, kernel in row["kernels"].items():
				yield (row["name"], row["threads"], label), kernel[statistic], tolerance[row[key]], 0


def parse_arguments():
	parser = outcome.parser(__doc__)
	parser.add_argument("--top", type=int, default=0)
	outcome.add_expectations(parser)
	parser.add_argument("--compiler", required=True)
	parser.add_argument("columns", nargs="+", metavar="LABEL=BUILD_DIR[,off]")
	return parser.parse_args()


def main():
	args = parse_arguments()
	columns = dict(column.split("=", 1) for column in args.columns)
	labels = list(columns)
	kernels = {label: Kernel(args.dir / label) for label in labels}
	tables = {"faults": [], "calls": []}
	wrong = [f"{label}: {sentence}" for label, kernel in kernels.items() for sentence in kernel.wrong]
	for key in kernels[labels[0]].rows:
		call, name, crew = key
		none = [label for label, kernel in kernels.items() if not kernel.rows[key].times]
		if none:
			# A check has all others to compare.
			if not args.expect:
				wrong.append(f"{name}, {crew}: there was none in {', '.join(none)}; count again")
			continue
		tables["calls" if call else "faults"].append({"name": name, "threads": crew, "kernels": {
			label: {**kernel.rows[key].statistics(), "guest": kernel.rows[key].guest,
				"functions": kernel.rows[key].functions()}
			for label, kernel in kernels.items()}})
	for statistic in STATISTICS:
		print_table("Kernel instructions a page fault, from exception entry to return",
			labels, tables["faults"], statistic)
	print_speculated(labels, tables["faults"])
	for statistic in STATISTICS[:2]:
		print_table("Kernel instructions of system calls, from entry to return, interrupts and "
			"faults left out (build: with faults)", labels, tables["calls"], statistic)
	for row in tables["faults"] + tables["calls"] if args.top else []:
		print_functions(labels, row, args.top)
	outcome.write(args, SCHEMA, compiler=args.compiler, columns=columns, **tables)
	if args.expect:
		wrong += outcome.more_than_expected(args.expect, compared(tables), "instructions")
	if args.record and not wrong:
		outcome.record(args.record, [
			"Median kernel instructions, as host/bench/instructions --record wrote them; the "
			"least of {}, {}.".format(*RACING),
			f"Compiler: {args.compiler}"], compared(tables))
	return outcome.judge(wrong)


sys.exit(main())
