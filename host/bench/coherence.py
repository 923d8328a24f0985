#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tables of what the replay made of each recording, side by side.

host/bench/coherence runs this and says where things are: DIR/LABEL-THREADS/ has, of
each recording, what the replay printed (see replay.cpp), what the storm said, and the
names of addresses.
"""
import collections
import sys

# The repository is where outcome.py is: leave no cache in it.
sys.dont_write_bytecode = True

import outcome  # noqa: E402

SCHEMA = 1
SHOWN = 8, 32, 64
MOST = 12
# How many more transfers than expected a fault may have: who runs when is not the same
# in each recording.
SHARE = 0.2
SLACK = {"all": 0.5, "mm": 0.02}
# The storm's own, beside those that it means.
MORE, FEW = 0.02, 8
# What the replay calls 0, 1 and 2.
MODES = {"locks_left_out": "lock hold times left out",
	"locks_honoured": "lock hold times honoured",
	"batches_apart": "the same, but nothing of LRU lists, page allocator and their counters shared"}


class Kind:
	"""Faults of one kind in one recording."""

	def __init__(self, threads, faults, instructions):
		self.threads, self.faults, self.instructions = threads, faults, instructions
		self.modes = {mode: {} for mode in MODES}
		self.moved = collections.defaultdict(dict)

	def json(self):
		return {"threads": self.threads, "faults": self.faults,
			"instructions": self.instructions, "sensitivity": self.moved,
			**{mode: list(points.values()) for mode, points in self.modes.items()}}


def of_mm(point):
	"""Those of the two structures that a speculative fault does not write to."""
	return [sum(count for name, count in point[what].items()
		if name.split(".")[0] in ("mm_struct", "vm_area_struct")) for what in ("transfers_of", "upgrades_of")]


class Recording:
	"""What a guest and the replay have left behind."""

	def __init__(self, path):
		self.kinds, self.parameters, self.wrong = {}, {}, []
		self.by_number = {}
		with open(path / "names") as file:
			self.names = dict(line.rstrip("\n").split(" ", 1) for line in file)
		for name in "points", "points-apart":
			self.read_points(path / name)
		with open(path / "storm") as file:
			for line in file:
				if line.split()[1].isdigit():
					self.add_kind(*line.split()[1:4])
		if not self.kinds:
			self.wrong.append("no faults were recorded")

	def read_points(self, path):
		what = None
		with open(path) as file:
			for line in file:
				what, *word = line.split()
				if what == "parameter":
					self.parameters[word[0]] = float(word[1])
				elif what == "lost" and word[0] != "0":
					self.wrong.append(f"{word[0]} returns to user mode were missed")
				elif what == "kind":
					self.by_number[word[0]] = Kind(int(word[1]), int(word[2]), float(word[3]))
				elif what == "moved":
					kind = self.by_number[word[0]]
					kind.moved[f"{word[1]}={word[2]}"][int(word[3])] = float(word[4])
				elif what == "point":
					point = self.point(int(word[2]), *map(float, word[3:]))
					kind = self.by_number[word[0]]
					kind.modes[list(MODES)[int(word[1])]][point["cpus"]] = point
				elif what == "line":
					name = self.names.get(word[3], f"0x{word[3]}")
					point["transfers_of"][name] += float(word[4])
					point["upgrades_of"][name] += float(word[5])
		if what != "end":
			self.wrong.append(f"{path} is cut short")

	@staticmethod
	def point(cpus, throughput, efficiency, transfers, upgrades):
		return {"cpus": cpus, "faults_per_million_cycles": throughput * 1e6,
			"efficiency": efficiency, "transfers": transfers, "upgrades": upgrades,
			"transfers_of": collections.Counter(), "upgrades_of": collections.Counter()}

	def add_kind(self, number, name, pages):
		meant = int(pages.split("=")[1])
		seen = 0
		if number in self.by_number:
			self.kinds[name] = self.by_number[number]
			seen = self.kinds[name].faults
		if not meant <= seen <= meant * (1 + MORE) + FEW:
			self.wrong.append(f"{name}: {seen} faults were recorded and {meant} are meant")


def transfers(recordings):
	"""What outcome compares with what is expected: all, and those of the two structures."""
	for label, recording in recordings.items():
		for name, kind in recording.kinds.items():
			for cpus in SHOWN:
				point = kind.modes["locks_left_out"][cpus]
				for what, count in ("all", point["transfers"]), ("mm", of_mm(point)[0]):
					yield (label, name, str(cpus), what), round(count, 3), SHARE, SLACK[what]


def print_curves(recordings, mode):
	print("\nA fault's transfers and upgrades, those of mm_struct and vm_area_struct,\n"
		f"faults in a million cycles, efficiency; {MODES[mode]}")
	print("fault CPUs", *(f"{label:>37}" for label in recordings))
	first = next(iter(recordings.values()))
	for name, kind in first.kinds.items():
		for cpus in kind.modes[mode]:
			cells = []
			for recording in recordings.values():
				point = recording.kinds[name].modes[mode][cpus]
				cells.append(f"{point['transfers']:8.2f}{point['upgrades']:5.2f}"
					+ "{:6.2f}{:5.2f}".format(*of_mm(point))
					+ f"{point['faults_per_million_cycles']:7.0f}{point['efficiency']:6.3f}")
			print(f"{name:6}{cpus:4}", *cells)


def print_lines(label, name, kind):
	points = kind.modes["locks_left_out"]
	print(f"\n{label}, {name}: {kind.faults} faults of {kind.threads} threads, "
		f"{kind.instructions:.0f} instructions each; transfers a fault at",
		*(str(cpus) for cpus in SHOWN), "CPUs")
	for line, _ in points[SHOWN[1]]["transfers_of"].most_common(MOST):
		print(f"   {line:58}", *(f"{points[cpus]['transfers_of'][line]:8.3f}" for cpus in SHOWN))


def print_moved(label, name, kind):
	points = kind.modes["locks_left_out"]
	print(f"\n{label}, {name}: efficiency at", *(str(cpus) for cpus in SHOWN),
		"CPUs, lock hold times left out, one parameter changed")
	print(f"   {'none':18}", *(f"{points[cpus]['efficiency']:6.3f}" for cpus in SHOWN))
	for moved, at in kind.moved.items():
		print(f"   {moved:18}", *(f"{at[cpus]:6.3f}" for cpus in SHOWN))


def parse_arguments():
	parser = outcome.parser(__doc__)
	outcome.add_expectations(parser)
	parser.add_argument("labels", nargs="+")
	return parser.parse_args()


def main():
	args = parse_arguments()
	recordings = {label: Recording(args.dir / label) for label in args.labels}
	parameters = next(iter(recordings.values())).parameters
	wrong = [f"{label}: {sentence}" for label, recording in recordings.items()
		for sentence in recording.wrong]
	if not wrong:
		print("Parameters:", *(f"{name}={number:g}" for name, number in parameters.items()))
		for mode in MODES:
			print_curves(recordings, mode)
		for show in print_lines, print_moved:
			for label, recording in recordings.items():
				for name, kind in recording.kinds.items():
					show(label, name, kind)
	outcome.write(args, SCHEMA, parameters=parameters, wrong=wrong, recordings={
		label: {name: kind.json() for name, kind in recording.kinds.items()}
		for label, recording in recordings.items()})
	if args.expect and not wrong:
		wrong += outcome.more_than_expected(args.expect, transfers(recordings), "transfers a fault")
	if args.record and not wrong:
		outcome.record(args.record, ["Transfers of cache lines a fault, by recording, fault, modelled "
			"CPUs, and whether", "of all lines or of mm_struct and vm_area_struct, as "
			"host/bench/coherence --record", "wrote them."], transfers(recordings))
	return outcome.judge(wrong)


sys.exit(main())
