#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tables of the longest stretches without preemption and without interrupts.

host/bench/latency runs this and says where things are: DIR/LABEL-WATCH/storm is what
the storm in the guest said, see contend.cpp and stretches.hpp.
"""
import collections
import sys

# The repository is where outcome.py is: leave no cache in it.
sys.dont_write_bytecode = True

import outcome  # noqa: E402

SCHEMA = 1
WATCHED = {"preempt": "without preemption", "irq": "with interrupts off"}
MOST = 15
# Functions of mm/spf.c, and on PREEMPT_RT those that try a lock, as hardly anything else does.
SPECULATION = ("spf_", "__vma_speculate", "vma_speculate", "snapshot_vma", "rt_spin_trylock",
	"rt_mutex_slowtrylock")


class Stretches:
	"""Those of one kernel, by the functions that began them."""

	def __init__(self, path):
		self.times = collections.defaultdict(collections.Counter)
		self.patterns = collections.Counter()
		self.faults = 0
		self.wrong = []
		with open(path / "storm") as file:
			for line in file:
				self.read(*line.split()[1:])
		if not self.times:
			self.wrong.append("nothing was traced")

	def read(self, what, name=None, *words):
		if what == "HELD":
			times = {int(us): int(count) for us, count in (word.split(":") for word in words[2:])}
			self.times[words[0], words[1]].update(times)
			self.patterns[name] = max(self.patterns[name], *times)
		elif what == "FAULTS":
			self.faults += int(words[0])
			if words[1] != "lost=0":
				self.wrong.append(f"{name}: the trace has {words[1]} events")
		elif what != "READY":
			self.wrong.append(" ".join((what, name, *words)))

	def longest(self, began=None):
		times = [self.times.get(began, {})] if began else self.times.values()
		return max((us for counter in times for us in counter), default=0)

	def speculation(self):
		"""What speculation began, and how long the longest of it is."""
		return {began: self.longest(began) for began in self.times
			if any(function.startswith(SPECULATION) for function in began)}

	def json(self):
		return {"faults": self.faults, "longest_us": self.longest(), "patterns": self.patterns,
			"speculation_us": max(self.speculation().values(), default=0),
			"stretches": [{"caller": caller, "parent": parent, "times": times.total(),
				"longest_us": max(times)} for (caller, parent), times in self.times.items()]}


def print_table(title, kernels):
	names = {began for kernel in kernels.values() for began in kernel.times}

	def weight(began):
		return max(kernel.longest(began) for kernel in kernels.values())

	shown = sorted(sorted(names), key=weight, reverse=True)[:MOST]
	shown += sorted({began for kernel in kernels.values() for began in kernel.speculation()} - set(shown))
	heads = [f"{label:>12} times" for label in kernels]
	print(f"\n{title}, microseconds of 62.5 instructions: the longest, by what began it")
	print(f"{'function, for whom':60}" + "".join(f"{head:>22}" for head in heads))
	for caller, parent in shown:
		print(f"{caller + ', ' + parent:60}" + "".join("{:>12,}{:>10,}".format(
			kernel.longest((caller, parent)), kernel.times.get((caller, parent),
				collections.Counter()).total()) for kernel in kernels.values()))
	for pattern in sorted({pattern for kernel in kernels.values() for pattern in kernel.patterns}):
		print(f"{'of all, in ' + pattern:60}" +
			"".join(f"{kernel.patterns[pattern]:>12,}{'':10}" for kernel in kernels.values()))


def parse_arguments():
	parser = outcome.parser(__doc__)
	parser.add_argument("labels", nargs="+")
	return parser.parse_args()


def main():
	args = parse_arguments()
	wrong, result = [], {}
	for watch, title in WATCHED.items():
		kernels = {label: Stretches(args.dir / f"{label}-{watch}") for label in args.labels}
		print_table(title.capitalize(), kernels)
		result[watch] = {label: kernel.json() for label, kernel in kernels.items()}
		first = next(iter(kernels.values())).longest()
		for label, kernel in kernels.items():
			wrong += [f"{label}, {watch}: {sentence}" for sentence in kernel.wrong]
			wrong += [f"{label}, {' '.join(began)}: {us} us {title}, and the longest of "
				f"{args.labels[0]} is {first} us"
				for began, us in kernel.speculation().items() if us > first]
	outcome.write(args, SCHEMA, wrong=wrong, **result)
	return outcome.judge(wrong)


sys.exit(main())
