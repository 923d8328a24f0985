# SPDX-License-Identifier: GPL-2.0
"""The comparison as text: one table of all, then one a workload."""
from storm_report.samples import MODES
from storm_report.summary import rates, share, total

WIDTH = 18


def row(label, off, on, ratio=""):
	return f"  {label:<26}{off:>{WIDTH}}{on:>{WIDTH}}{ratio:>14}".rstrip()


def pair(label, samples, value):
	return row(label, value(samples["off"]), value(samples["on"]))


def aborts(mode):
	counts = sorted(mode["spf_abort"].items(), key=lambda item: (-item[1], item[0]))
	return [(name, count) for name, count in counts if count]


def workload(samples, made):
	off, on = (made["modes"][mode] for mode in MODES)
	speed = {mode: made["modes"][mode]["faults_per_s"] for mode in MODES}
	paired = [b / a for a, b in zip(rates(samples["off"]), rates(samples["on"]))]

	def less_tables(runs):
		faults = total(runs, "faults") - total(runs, "tables")
		return f"{share(total(runs, 'spf_success'), faults):.4f}"

	def spread(mode):
		return f"{speed[mode]['min']:,.0f}..{speed[mode]['max']:,.0f}"

	lines = [
		f"{made['name']}, {threads(made['threads'])}",
		row("speculation", "off", "on", "on/off"),
		row("faults/s, median", f"{speed['off']['median']:,.0f}",
			f"{speed['on']['median']:,.0f}", f"{made['ratio']:.2f}"),
		row("faults/s, least..most", spread("off"), spread("on"),
			f"{min(paired):.2f}..{max(paired):.2f}"),
		row("resolved speculatively", f"{off['spf_share']:.4f}", f"{on['spf_share']:.4f}"),
		pair("  less tables allocated", samples, less_tables),
		row("hits an attempt", f"{off['spf_hit']:.4f}", f"{on['spf_hit']:.4f}"),
		row("threads blocked, times", f"{off['blocked']:,}", f"{on['blocked']:,}"),
	]
	if any(total(samples[mode], "writes") for mode in MODES):
		lines.append(pair("address space changes/s", samples, lambda runs:
			f"{total(runs, 'writes') / total(runs, 'seconds'):,.0f}"))
	lines.append(row("attempts", f"{off['spf_attempt']:,}", f"{on['spf_attempt']:,}"))
	lines += [row(f"  aborted, {name}", off["spf_abort"].get(name, 0), f"{count:,}")
		for name, count in aborts(on)]
	return lines


def threads(count):
	return "1 thread" if count == 1 else f"{count} threads"


def column(text):
	return f"{text:>{WIDTH - 4}}"


def against_threads(workloads):
	"""Medians of each workload, a column for each number of threads that some had."""
	counts = sorted({made["threads"] for made in workloads})
	lines = [f"{'faults/s, median':<22}" + "".join(column(threads(count)) for count in counts)]
	for name, group in by_name(workloads).items():
		by_count = {made["threads"]: made for made in group}

		def cells(value):
			return "".join(column(value(by_count[count]) if count in by_count else "")
				for count in counts).rstrip()

		lines.append(f"{name:<16}off   " + cells(lambda made:
			f"{made['modes']['off']['faults_per_s']['median']:,.0f}"))
		lines.append(f"{'':<16}on    " + cells(lambda made:
			f"{made['modes']['on']['faults_per_s']['median']:,.0f}"))
		lines.append(f"{'':<16}on/off" + cells(lambda made: f"{made['ratio']:.2f}"))
	return lines


def by_name(workloads):
	"""{name: what was made of the workload, fewest threads first}, in the order of the run."""
	groups = {}
	for made in workloads:
		groups.setdefault(made["name"], []).append(made)
	return {name: sorted(group, key=lambda made: made["threads"])
		for name, group in groups.items()}


def with_most_threads(workloads):
	"""Of each workload, what was made of it with most threads."""
	return [group[-1] for group in by_name(workloads).values()]


def render(run, result, reproduce):
	lines = [f"Linux {result['kernel']}, {run.meta['machine']}, {result['cpus']} CPUs, "
		f"{result['accelerator']}, {result['rounds']} rounds of off and on, "
		f"commit {result['commit']}"]
	if result["accelerator"] == "tcg":
		lines.append("Emulated (TCG): time is not real. Read ratios and counts, "
			"and mind the spread.")
	lines += [f"To do it again: {reproduce}", ""] + against_threads(result["workloads"])
	for made in with_most_threads(result["workloads"]):
		lines += [""] + workload(run.samples[made["name"], made["threads"]], made)
	return "\n".join(lines)
