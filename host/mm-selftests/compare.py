# SPDX-License-Identifier: GPL-2.0
"""Judge the outcomes on the patched kernel by those on the unpatched one."""
import collections

BASE = "base"
# Why a test that never ended well cannot be judged.
CANNOT = {
	"skip": "",
	"timeout": "needs more time than a test is given",
	"the guest ended": "takes the guest down",
}
# So many results with the same outcomes are named.
NAMED = 8
VERDICTS = ("same", "differs", "varies", "cannot run")


def verdict(base, others):
	"""Of one result: base is its outcome in each run, others those of patched kernels."""
	if len(set(base)) > 1:
		return "varies"
	if any(outcome != base[0] for outcome in others):
		return "differs"
	return "cannot run" if base[0] in CANNOT else "same"


def judge(runs):
	"""{name: verdict} of a test; runs is {mode: [{name: outcome} for each run]}."""
	everything = [run for mode in runs.values() for run in mode]
	names = dict.fromkeys(name for run in everything for name in run)
	verdicts = {}
	for name in names:
		found = {mode: [run.get(name, "absent") for run in of] for mode, of in runs.items()}
		base = found.pop(BASE)
		verdicts[name] = verdict(base, [outcome for of in found.values() for outcome in of])
	return verdicts


def outcomes_of(runs, name):
	"""A name's outcomes in words, each mode's runs in their order."""
	said = []
	for mode, of in runs.items():
		found = [run.get(name, "absent") for run in of]
		said.append(f"{mode}: {found[0] if len(set(found)) == 1 else ', '.join(found)}")
	return "; ".join(said)


def reason(runs_reasons, runs, name):
	if runs[BASE][0].get(name) in CANNOT and CANNOT[runs[BASE][0][name]]:
		return CANNOT[runs[BASE][0][name]]
	return runs_reasons[BASE][0].get(name) or "skipped, no reason given"


class Summary:
	"""Of all tests: add() each, then text()."""

	def __init__(self):
		self.rows = []
		self.counts = collections.Counter()
		self.lists = {name: [] for name in VERDICTS}

	def add(self, test, runs, reasons, seconds):
		verdicts = judge(runs)
		counts = collections.Counter(verdicts.values())
		self.counts += counts
		self.rows.append((test, counts, seconds))
		said = collections.defaultdict(list)
		for name, what in verdicts.items():
			if what == "cannot run":
				said[what, reason(reasons, runs, name)].append(name)
			elif what != "same":
				said[what, outcomes_of(runs, name)].append(name)
		for (what, why), names in said.items():
			# A test that ended early lacks all that would have come.
			if len(names) > NAMED:
				names[NAMED:] = [f"and {len(names) - NAMED} more"]
			self.lists[what].append(f"{test}: {', '.join(names)}: {why}")

	def text(self):
		width = max([len(str(test)) for test, *_ in self.rows] + [4])
		lines = [f"{'test':{width}} {'same':>6} {'differs':>8} {'varies':>7} {'cannot run':>11} {'s':>5}"]
		for test, counts, seconds in self.rows + [("all", self.counts, sum(r[2] for r in self.rows))]:
			numbers = [counts[name] for name in VERDICTS]
			lines.append(f"{str(test):{width}} {numbers[0]:6} {numbers[1]:8} {numbers[2]:7} "
				f"{numbers[3]:11} {seconds:5}")
		headings = {
			"differs": "differs from the unpatched kernel",
			"varies": "varies on the unpatched kernel, so it is not compared",
			"cannot run": "cannot run in this guest, on any of the kernels",
		}
		for name, heading in headings.items():
			lines += ["", f"{heading}: {self.counts[name]}"]
			lines += [f"  {line}" for line in self.lists[name]]
		return "\n".join(lines) + "\n"
