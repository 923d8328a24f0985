# SPDX-License-Identifier: GPL-2.0
"""The comparison as a picture."""
from storm_report.svg import (COLORS, EngFormatter, Figure, NullFormatter, PercentFormatter,
	render)
from storm_report.table import by_name, with_most_threads

ACROSS = 4		# panels in a row
REASONS = 9		# that have a colour of their own


def scaling(axes, workloads):
	"""One workload's faults a second against threads."""
	counts = [made["threads"] for made in workloads]
	for mode, color in COLORS.items():
		values = [made["modes"][mode]["faults_per_s"] for made in workloads]
		median, least, most = ([value[key] for value in values]
			for key in ("median", "min", "max"))
		axes.errorbar(counts, median, fmt="o-", markersize=4, color=color, capsize=3,
			label=f"speculation {mode}",
			yerr=[[a - b for a, b in zip(median, least)],
				[b - a for a, b in zip(median, most)]])
	axes.set_title(f"{workloads[0]['name']}   \u00d7{workloads[-1]['ratio']:.2f}", fontsize=9)
	axes.set_xscale("log", base=2)
	axes.set_xticks(counts, counts)
	axes.set_xlim(counts[0] / 1.3, counts[-1] * 1.3)
	axes.set_ylim(0)
	axes.xaxis.set_minor_formatter(NullFormatter())
	axes.yaxis.set_major_formatter(EngFormatter(sep=""))
	axes.grid(axis="y", color="#dddddd", linewidth=0.7)


def outcomes(axes, workloads):
	"""What became of the attempts: resolved, or the reason of each that was aborted."""
	totals = {}
	for made in workloads:
		for reason, count in made["modes"]["on"]["spf_abort"].items():
			totals[reason] = totals.get(reason, 0) + count
	reasons = sorted((reason for reason in totals if totals[reason]),
		key=lambda reason: (-totals[reason], reason))
	named, rest = reasons[:REASONS], reasons[REASONS:]
	parts = [("aborted: " + reason, [reason], f"C{number}")
		for number, reason in enumerate(named)]
	if rest:
		parts.append(("aborted: other reasons", rest, "#999999"))

	places = range(len(workloads))
	modes = [made["modes"]["on"] for made in workloads]
	attempts = [max(mode["spf_attempt"], 1) for mode in modes]
	begin = [mode["spf_success"] / of for mode, of in zip(modes, attempts)]
	axes.barh(places, begin, 0.7, color="#d5dfe8", label="resolved")
	for label, names, color in parts:
		share = [sum(mode["spf_abort"].get(name, 0) for name in names) / of
			for mode, of in zip(modes, attempts)]
		axes.barh(places, share, 0.7, begin, color=color, label=label)
		begin = [a + b for a, b in zip(begin, share)]
	for place, mode in zip(places, modes):
		axes.annotate(f"{100 * mode['spf_hit']:.2f}% of {mode['spf_attempt']:,}", (0, place),
			(6, 0), textcoords="offset points", va="center")
	axes.set_yticks(places, [made["name"] for made in workloads])
	axes.set_ylim(len(workloads) - 0.5, -0.5)
	axes.set_xlim(0, 1)
	axes.tick_params(axis="y", length=0)
	axes.xaxis.set_major_formatter(PercentFormatter(1))
	axes.set_xlabel("attempts with most threads: resolved speculatively, and aborted by reason")
	axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def draw(result):
	groups = by_name(result["workloads"]).values()
	rows = -(-len(groups) // ACROSS)
	lower_height = 0.9 + 0.36 * len(groups)
	figure = Figure(figsize=(10.5, 1.4 + 2.1 * rows + lower_height),
		layout="constrained")
	upper, lower = figure.subfigures(2, 1, height_ratios=(2.1 * rows, lower_height))

	panels = upper.subplots(rows, ACROSS, squeeze=False).flat
	for axes, group in zip(panels, groups):
		scaling(axes, group)
	used = panels[:len(groups)]
	for axes in panels[len(groups):]:
		axes.set_axis_off()
	used[0].legend(loc="best", frameon=False, fontsize=8)
	upper.supxlabel("threads (\u00d7: median on / median off with most threads)", fontsize=9)
	upper.supylabel("page faults a second: median, least, most", fontsize=9)
	below = lower.subplots()
	outcomes(below, with_most_threads(result["workloads"]))
	for axes in (*used, below):
		axes.spines[["top", "right"]].set_visible(False)

	title = (f"Speculative page faults: Linux {result['kernel']}, {result['arch']}, "
		f"{result['cpus']} CPUs, {result['rounds']} rounds")
	if result["accelerator"] == "tcg":
		title += "\nEmulated by TCG: time is not real. Compare off with on, mind the spread"
	figure.suptitle(title, fontsize=10.5)
	return render(figure)
