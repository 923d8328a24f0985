#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tables of who slept, where, and for how long, in each kernel.

host/bench/contention runs this and says where things are: DIR/LABEL-ROUND/storm is
what the storm in the guest said, see contend.cpp.
"""
import collections
import statistics
import sys

# The repository is where outcome.py is: leave no cache in it.
sys.dont_write_bytecode = True

import outcome  # noqa: E402

SCHEMA = 1
# What threads of the storm wait for each other in, which is not about memory.
OWN = {"futex", "clock_nanosleep", "wait4", "-"}
MOST = 4


def rank(times, share):
	"""The duration that has so many of them below it, in microseconds."""
	at = int((times.total() - 1) * share)
	for us in sorted(times):
		at -= times[us]
		if at < 0:
			return us
	return 0


def described(times):
	return {"times": times.total(), "us": sum(us * count for us, count in times.items()),
		"p50": rank(times, 0.5), "p99": rank(times, 0.99), "max": max(times, default=0)}


class Pattern:
	"""What one kernel made of one pattern, in all rounds."""

	def __init__(self):
		self.us, self.held, self.faults, self.slept, self.slept_us = [], [], [], [], []
		self.counters = collections.Counter()
		self.steps = collections.Counter()
		# By the call that slept and the function it slept in; of faults, by the reason.
		self.sleeps = collections.defaultdict(collections.Counter)
		self.reasons = collections.Counter()

	def add_sleep(self, who, where, why, times):
		if who in OWN:
			return
		self.sleeps[who, where].update(times)
		if who == "fault":
			self.reasons[why] += times.total()
			self.slept[-1] += times.total()
			self.slept_us[-1] += sum(us * count for us, count in times.items())

	def sleeps_of(self, who):
		return sum((times for (other, _), times in self.sleeps.items() if other == who),
			collections.Counter())

	def calls(self):
		"""The system calls that slept and their sleeps, longest in all first."""
		names = {who for who, _ in self.sleeps if who != "fault"}
		calls = [(who, self.sleeps_of(who)) for who in sorted(names)]
		return sorted(calls, key=lambda call: -described(call[1])["us"])

	def where(self, who):
		"""The functions that it slept in, most often first."""
		places = collections.Counter({where: times.total()
			for (other, where), times in self.sleeps.items() if other == who})
		return places.most_common()

	def json(self):
		return {"us": self.us, "held_kib": self.held, "faults": self.faults,
			"faults_slept": self.slept, "faults_slept_us": self.slept_us,
			"reasons": self.reasons, "counters": self.counters,
			"steps": described(self.steps),
			"sleeps": [{"who": who, "where": where, **described(times)}
				for (who, where), times in self.sleeps.items()]}

	def wrong(self, rounds):
		if not len(self.us) == len(self.faults) == rounds:
			yield f"{len(self.us)} rounds were timed, {len(self.faults)} traced, of {rounds}"
		count = self.sleeps.get(("fault", "speculation"), collections.Counter()).total()
		if count:
			yield f"{count} faults slept while they were speculated on"
		if self.counters["spf_attempt"] and self.reasons["-"]:
			yield f"{self.reasons['-']} faults slept, and nothing says why they were not speculated on"


class Kernel:
	"""What its guests have left behind."""

	def __init__(self, work, label, rounds):
		self.patterns = collections.defaultdict(Pattern)
		self.wrong = []
		for number in range(1, rounds + 1):
			with open(work / f"{label}-{number}" / "storm") as file:
				for line in file:
					self.read(*line.split()[1:])
		for name, pattern in self.patterns.items():
			self.wrong += [f"{name}: {sentence}" for sentence in pattern.wrong(rounds)]

	def read(self, what, name=None, *words):
		if what == "READY":
			return
		pattern = self.patterns[name]
		if what == "RAN":
			counts = {key: int(count) for key, count in (word.split("=") for word in words)}
			pattern.us.append(counts.pop("us"))
			pattern.held.append(counts.pop("held_kib"))
			pattern.counters.update(counts)
		elif what == "STEPS":
			pattern.steps.update(self.times(words))
		elif what == "FAULTS":
			pattern.faults.append(int(words[0]))
			pattern.slept.append(0)
			pattern.slept_us.append(0)
			if words[1] != "lost=0":
				self.wrong.append(f"{name}: the trace has {words[1]} events")
		elif what == "SLEPT":
			pattern.add_sleep(*words[:3], self.times(words[3:]))
		else:
			self.wrong.append(" ".join((what, name, *words)))

	@staticmethod
	def times(words):
		return collections.Counter({int(us): int(count)
			for us, count in (word.split(":") for word in words)})


def print_rows(title, heads, rows):
	print(f"\n{title}")
	first = max(len(row[0]) for row in [heads, *rows]) + 2
	wide = [max(len(row[n]) for row in [heads, *rows]) + 2 for n in range(1, len(heads))]
	for name, *cells in [heads, *rows]:
		print(f"{name:{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, wide)))


def spread(values, shape):
	return f"{statistics.median(values):{shape}} ({min(values):{shape}}..{max(values):{shape}})"


def print_tables(kernels):
	labels = list(kernels)
	first = kernels[labels[0]]
	names = list(first.patterns)

	def rows(cell):
		return [[name, *(cell(kernels[label].patterns[name], name) for label in labels)]
			for name in names]

	def ratio(pattern, name):
		return spread([a / b for a, b in zip(pattern.us, first.patterns[name].us)], ".2f")

	def slept(pattern, _):
		return spread([1000 * n / of for n, of in zip(pattern.slept, pattern.faults)], ".2f")

	heads = ["", *labels]
	print_rows("Milliseconds a run: median (least..most)", heads,
		rows(lambda p, _: spread([us / 1000 for us in p.us], ",.0f")))
	print_rows(f"Ratio to {labels[0]} of the same round", heads, rows(ratio))
	print_rows("Steps of the pattern, microseconds: p50, p99, most", heads,
		rows(lambda p, _: "{p50:,} {p99:,} {max:,}".format(**described(p.steps))))
	print_rows("Faults that slept, of 1,000 (traced)", heads, rows(slept))
	print_rows("Milliseconds that faults slept in a run, in all (traced)", heads,
		rows(lambda p, _: spread([us / 1000 for us in p.slept_us], ",.1f")))
	print_rows("KiB of slab and page tables more than before, at most", heads,
		rows(lambda p, _: spread(p.held, ",.0f")))
	for label, kernel in kernels.items():
		lines = []
		for name, pattern in kernel.patterns.items():
			if pattern.reasons.total():
				lines.append([f"{name}, faults", *waits(pattern.sleeps_of("fault")),
					places(pattern.where("fault"))])
			for who, times in pattern.calls():
				lines.append([f"{name}, {who}", *waits(times), places(pattern.where(who))])
		if lines:
			print_rows(f"{label}: who slept, microseconds, and where",
				["", "times", "p50", "p99", "most", "where"], lines)
		lines = [[name, places(pattern.reasons.most_common())]
			for name, pattern in kernel.patterns.items()
			if pattern.counters["spf_attempt"] and pattern.reasons.total()]
		if lines:
			print_rows(f"{label}: why faults that slept were not speculated on", ["", "reasons"], lines)


def waits(times):
	return ["{:,}".format(described(times)[key]) for key in ("times", "p50", "p99", "max")]


def places(counts):
	return " ".join(f"{name}:{count}" for name, count in counts[:MOST])


def parse_arguments():
	parser = outcome.parser(__doc__)
	parser.add_argument("--rounds", type=int, required=True)
	parser.add_argument("labels", nargs="+")
	return parser.parse_args()


def main():
	args = parse_arguments()
	kernels = {label: Kernel(args.dir, label, args.rounds) for label in args.labels}
	wrong = [f"{label}: {sentence}" for label, kernel in kernels.items() for sentence in kernel.wrong]
	print_tables(kernels)
	outcome.write(args, SCHEMA, rounds=args.rounds, wrong=wrong, kernels={
		label: {name: pattern.json() for name, pattern in kernel.patterns.items()}
		for label, kernel in kernels.items()})
	return outcome.judge(wrong)


sys.exit(main())
