#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""One report of all that scripts/bench has measured.

scripts/bench runs this and says where things are: DIR has what each step printed
(STEP.log) and left for programs (STEP.json, sizes.tsv). Writes report.txt, summary.json
and summary.svg to OUT, and prints what the series means to reach, and whether it does.
"""
import argparse
import csv
import json
import pathlib
import statistics
import sys

# The repository is where storm_report is: leave no cache in it.
sys.dont_write_bytecode = True

from storm_report import replace_file, svg  # noqa: E402

SCHEMA = 1
STEPS = "instructions", "coherence", "contention", "sizes"
FIRST, ON = "vma_lock", "on"
COLORS = {"vma_lock": "#777777", "mmap_lock": "#bbbbbb", **svg.COLORS}
CHEAPER = (("read_zero", "alone"), ("spurious", "2"))
WRITES = "refault", "copy_zero"
REFUSED = "file_shared", "file_write", "file_copy"
ABORTED = "cow_notified"
# What the model made of the unpatched kernel before any of this, at 8 and 32 CPUs.
EFFICIENCY = {8: 0.87, 32: 0.51}
MODES = {"locks_honoured": "all shared",
	"batches_apart": "but for batches of the LRU and the allocator"}


class Measured:
	"""What the steps have left behind."""

	def __init__(self, path):
		self.path = path
		self.instructions, self.coherence, self.contention = (
			json.loads((path / f"{step}.json").read_text()) for step in STEPS[:3])
		with open(path / "sizes.tsv", newline="") as file:
			rows = list(csv.reader(file, delimiter="\t"))
		self.sizes = {row[0]: dict(zip(rows[0][1:], map(int, row[1:]))) for row in rows[1:]}
		self.threads = max(int(name.rsplit("-", 1)[1]) for name in self.coherence["recordings"])

	def rows(self):
		for table in "faults", "calls":
			for row in self.instructions[table]:
				yield table[:-1], row["name"], row["threads"], row["kernels"]

	def ratio(self, name, threads):
		"""Median instructions with speculation on, of those with the VMA's lock."""
		for _, other, crew, kernels in self.rows():
			if (other, crew) == (name, threads):
				return kernels[ON]["median"] / kernels[FIRST]["median"]
		raise KeyError(f"{name}, {threads}")

	def kinds(self, label):
		"""By kind of fault what the model made of the most threads."""
		return self.coherence["recordings"][f"{label}-{self.threads}"]

	def point(self, label, kind, mode, cpus):
		return next(point for point in self.kinds(label)[kind][mode] if point["cpus"] == cpus)


def of_mm(point):
	"""Of the two structures, but for what a fault may write: batches of rss_stat, and the
	TLB's generation when a page is copied. Each CPU's first look at each line is among them."""
	return sum(count for what in ("transfers_of", "upgrades_of") for name, count in point[what].items()
		if name.split(".")[0] in ("mm_struct", "vm_area_struct") and
			not any(field in name for field in (".rss_stat", ".tlb_gen")))


def targets(made):
	"""What is meant, what it is, and whether that is enough."""
	for name, crew in CHEAPER:
		ratio = made.ratio(name, crew)
		yield f"{name}: fewer instructions than with the VMA's lock", f"{ratio:.4f}", ratio < 1
	for name in WRITES:
		ratio = made.ratio(name, "alone")
		yield f"{name}: at most 2% more", f"{ratio:.4f}", ratio <= 1.02
	for sort, name, crew, kernels in made.rows():
		if crew == "alone" and name not in (*WRITES, *REFUSED, ABORTED):
			ratio = kernels[ON]["median"] / kernels[FIRST]["median"]
			yield f"{name}, a process without threads: at most 1% more", f"{ratio:.4f}", ratio <= 1.01
	for name in REFUSED:
		for crew in "alone", "1", "4":
			ratio = made.ratio(name, crew)
			yield f"{name}, {crew}, refused: at most 1% more", f"{ratio:.4f}", ratio <= 1.01
	ratio = made.ratio(ABORTED, "alone")
	yield f"{ABORTED}, given up with the page table lock: at most 5% more", f"{ratio:.4f}", ratio <= 1.05
	for cpus, meant in EFFICIENCY.items():
		got = made.point(FIRST, "write", "locks_left_out", cpus)["efficiency"]
		yield (f"the unpatched kernel's modelled efficiency at {cpus} CPUs is {meant}, within 10%",
			f"{got:.3f}", abs(got / meant - 1) <= 0.1)
	for kind in made.kinds(ON):
		got = max(of_mm(point) for point in made.kinds(ON)[kind]["locks_left_out"])
		yield (f"{kind}: transfers of mm_struct and vm_area_struct (but rss_stat, tlb_gen): 0.00",
			f"{got:.4f}", got < 0.005)
		for mode, how in MODES.items():
			ratio = (made.point(ON, kind, mode, 64)["faults_per_million_cycles"] /
				made.point(FIRST, kind, mode, 64)["faults_per_million_cycles"])
			yield (f"{kind}: modelled throughput at 64 CPUs at least doubled, {how}", f"{ratio:.2f}",
				ratio >= 2)
		got = made.point(ON, kind, "batches_apart", 64)["efficiency"]
		yield (f"{kind}: at least 0.9 of linear at 64 CPUs, {MODES['batches_apart']}", f"{got:.3f}",
			got >= 0.9)
	slept = sum(sleep["times"] for pattern in made.contention["kernels"][ON].values()
		for sleep in pattern["sleeps"] if sleep["where"] == "speculation")
	yield "faults that slept while they were speculated on: none", str(slept), not slept
	for name, sizes in made.sizes.items():
		if name in ("struct vm_area_struct", "struct mm_struct"):
			grown = sizes[ON] - sizes[FIRST]
			yield f"{name} is no larger", f"{grown:+d} bytes", grown <= 0


def summary(made, args, reached):
	def medians(step):
		return {f"{name}, {crew}": {label: kernel["median"] for label, kernel in kernels.items()}
			for sort, name, crew, kernels in made.rows() if sort == step}

	def model(label):
		return {kind: {mode: [{key: value for key, value in point.items() if not key.endswith("_of")}
			for point in points[mode]] for mode in
				("locks_left_out", "locks_honoured", "batches_apart")}
			for kind, points in made.kinds(label).items()}

	def sleeps(patterns):
		return {name: {"us": spread(pattern["us"]), "faults_slept": spread(pattern["faults_slept"]),
			"faults_slept_us": spread(pattern["faults_slept_us"]), "held_kib": max(pattern["held_kib"])}
			for name, pattern in patterns.items()}

	return {"schema": SCHEMA, "kernel": args.kernel, "machine": args.machine,
		"emulator": args.emulator, "compiler": args.compiler,
		"commits": {step: getattr(made, step)["commit"] for step in STEPS[:3]},
		"kernels": dict(args.column), "model": made.coherence["parameters"],
		"fault_instructions": medians("fault"), "call_instructions": medians("call"),
		"coherence": {label: model(label) for label in COLORS},
		"contention": {label: sleeps(patterns)
			for label, patterns in made.contention["kernels"].items()},
		"rounds": made.contention["rounds"], "sizes": made.sizes,
		"targets": [{"meant": meant, "is": got, "met": met} for meant, got, met in reached]}


def spread(values):
	return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def draw_instructions(axes, made):
	rows = [(name + "()" * (sort == "call"), kernels) for sort, name, crew, kernels in made.rows()
		if crew == "alone" or name == "spurious"]
	for number, label in enumerate(list(COLORS)[1:]):
		axes.bar([place + 0.27 * (number - 1) for place in range(len(rows))],
			[kernels[label]["median"] / kernels[FIRST]["median"] - 1 for _, kernels in rows], 0.25,
			color=COLORS[label], label=label)
	axes.axhline(0, color=COLORS[FIRST], linewidth=1)
	axes.set_xticks(range(len(rows)), [name for name, _ in rows], rotation=45, ha="right")
	axes.set_ylabel("median instructions\nmore than vma_lock")
	axes.yaxis.set_major_formatter(svg.PercentFormatter(1, decimals=0))
	axes.legend(frameon=False, fontsize=8)


def draw_model(panels, made):
	for axes, kind in zip(panels, made.kinds(ON)):
		for label, color in COLORS.items():
			for mode, how in ("locks_honoured", {"marker": "o"}), ("batches_apart", {"linestyle": ":"}):
				points = made.kinds(label)[kind][mode]
				cpus = [point["cpus"] for point in points]
				axes.plot(cpus, [point["faults_per_million_cycles"] for point in points],
					markersize=3, color=color, label=label if "marker" in how else None, **how)
		axes.set_xscale("log", base=2)
		axes.set_yscale("log")
		axes.set_xticks(cpus, cpus)
		axes.xaxis.set_minor_formatter(svg.NullFormatter())
		axes.yaxis.set_major_formatter(svg.EngFormatter(sep=""))
		axes.set_title(f"{kind} faults in one VMA", fontsize=9)
		axes.set_xlabel("CPUs (model; dotted: batches of the\nLRU and the allocator not shared)")
	panels[0].set_ylabel("faults in a million cycles")
	panels[0].legend(frameon=False, fontsize=8)


def draw_sleeps(axes, made):
	names = list(made.contention["kernels"][FIRST])
	for number, (label, color) in enumerate(COLORS.items()):
		patterns = made.contention["kernels"][label]
		shares = [[1000 * slept / faults for slept, faults in
			zip(patterns[name]["faults_slept"], patterns[name]["faults"])] for name in names]
		middle = [statistics.median(values) for values in shares]
		axes.bar([place + 0.2 * (number - 1.5) for place in range(len(names))], middle, 0.19,
			color=color, label=label, capsize=2, ecolor="#444444", yerr=[
				[a - min(values) for a, values in zip(middle, shares)],
				[max(values) - a for a, values in zip(middle, shares)]])
	axes.set_xticks(range(len(names)), names)
	axes.set_ylabel("faults that slept, of 1,000:\nmedian, least, most")
	axes.legend(frameon=False, fontsize=8)


def draw(made, args):
	figure = svg.Figure(figsize=(10.5, 11), layout="constrained")
	rows = figure.subfigures(3, 1, height_ratios=(1.1, 1, 1))
	draw_instructions(rows[0].subplots(), made)
	draw_model(rows[1].subplots(1, len(made.kinds(ON)), sharey=True), made)
	draw_sleeps(rows[2].subplots(), made)
	for axes in figure.get_axes():
		axes.spines[["top", "right"]].set_visible(False)
		axes.grid(axis="y", color="#dddddd", linewidth=0.7)
	figure.suptitle(f"Page faults of Linux {args.kernel}, x86_64: counted, modelled, and traced under "
		"TCG", fontsize=10.5)
	return svg.render(figure)


def report(made, args, reached):
	lines = [f"Page faults of Linux {args.kernel}: cost, contention, scale", "",
		f"machine    {args.machine}; {args.emulator}, TCG", f"compiler   {args.compiler}"]
	lines += [f"{step:10} commit {getattr(made, step)['commit']}" for step in STEPS[:3]]
	lines += ["again      make bench", "", "kernels"]
	lines += [f"  {label:10} {what}" for label, what in args.column]
	wide = max(len(meant) for meant, _, _ in reached) + 2
	lines += ["", f"{'target':{wide}}{'is':>12}"]
	lines += [f"{meant:{wide}}{got:>12}  {'met' if met else 'NOT MET'}" for meant, got, met in reached]
	for step in STEPS:
		lines += ["", f"== {step}", (made.path / f"{step}.log").read_text().strip()]
	return "\n".join(lines) + "\n"


def parse_arguments():
	parser = argparse.ArgumentParser(description=__doc__,
		formatter_class=argparse.RawDescriptionHelpFormatter)
	for name in ("dir", "out"):
		parser.add_argument("--" + name, type=pathlib.Path, required=True)
	for name in ("kernel", "machine", "emulator", "compiler"):
		parser.add_argument("--" + name, required=True)
	parser.add_argument("--column", nargs=2, action="append", metavar=("LABEL", "WHAT"), required=True)
	return parser.parse_args()


def main():
	args = parse_arguments()
	made = Measured(args.dir)
	reached = list(targets(made))
	replace_file(args.out / "summary.json", json.dumps(summary(made, args, reached), indent="\t") + "\n")
	replace_file(args.out / "summary.svg", draw(made, args))
	text = report(made, args, reached)
	replace_file(args.out / "report.txt", text)
	print(text.split("\n== ")[0])


sys.exit(main())
