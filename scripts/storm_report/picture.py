# SPDX-License-Identifier: GPL-2.0
"""The comparison as a picture: the same summary always gives the same SVG."""
import io

from storm_report import ReportError

try:
	import matplotlib
except ImportError as error:
	raise ReportError("the picture needs matplotlib: "
		"apt-get install python3-matplotlib") from error

matplotlib.use("svg")
# Identifiers in the SVG are otherwise random, and fonts those of the machine.
matplotlib.rcParams.update({"svg.hashsalt": "spf", "svg.fonttype": "path",
	"font.family": "DejaVu Sans", "font.size": 9, "axes.axisbelow": True})

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import EngFormatter, NullFormatter, PercentFormatter  # noqa: E402

COLORS = {"off": "#c2611f", "on": "#1f6fb2"}
HEIGHT = 0.36


def speeds(axes, workloads):
	"""On a logarithmic scale, as workloads differ a hundredfold: points, not bars."""
	for mode, shift in (("off", -HEIGHT / 2), ("on", HEIGHT / 2)):
		values = [made["modes"][mode]["faults_per_s"] for made in workloads]
		axes.errorbar([value["median"] for value in values],
			[place + shift for place in range(len(workloads))], fmt="o",
			color=COLORS[mode], label=f"speculation {mode}", capsize=3,
			xerr=[[value["median"] - value["min"] for value in values],
				[value["max"] - value["median"] for value in values]])
	for place, made in enumerate(workloads):
		axes.annotate(f"\u00d7{made['ratio']:.2f}", (1, place), (4, 0),
			xycoords=("axes fraction", "data"), textcoords="offset points",
			va="center", fontweight="bold", annotation_clip=False)
	axes.set_xscale("log")
	axes.set_yticks(range(len(workloads)), [made["name"] for made in workloads])
	axes.set_xlabel("page faults a second (logarithmic): median, least and most of the rounds\n"
		"(\u00d7: median on / median off)")
	axes.xaxis.set_major_formatter(EngFormatter(sep=""))
	axes.xaxis.set_minor_formatter(NullFormatter())
	axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, frameon=False)


def shares(axes, workloads):
	modes = [made["modes"]["on"] for made in workloads]
	values = [mode["spf_share"] for mode in modes]
	axes.barh(range(len(workloads)), values, 2 * HEIGHT, color=COLORS["on"])
	for place, value in enumerate(values):
		axes.annotate(f"{100 * value:.1f}%", (min(value, 1.0), place), (4, 0),
			textcoords="offset points", va="center")
	axes.set_xlim(0, 1.25)
	axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
	axes.set_yticks(range(len(workloads)), [])
	axes.xaxis.set_major_formatter(PercentFormatter(1))
	axes.set_xlabel("faults resolved speculatively,\nspeculation on")


def draw(result):
	workloads = result["workloads"]
	figure = Figure(figsize=(9.5, 2.2 + 0.62 * len(workloads)), layout="constrained")
	left, right = figure.subplots(1, 2, sharey=False, width_ratios=(5, 2))
	speeds(left, workloads)
	shares(right, workloads)
	for axes in (left, right):
		axes.set_ylim(len(workloads) - 0.5, -0.5)
		axes.grid(axis="x", color="#dddddd", linewidth=0.7)
		axes.tick_params(axis="y", length=0)
		axes.spines[["top", "right"]].set_visible(False)

	threads = ", ".join(sorted({str(made["threads"]) for made in workloads}))
	title = (f"Speculative page faults: Linux {result['kernel']}, {result['arch']}, "
		f"{result['cpus']} CPUs, {threads} threads, {result['rounds']} rounds")
	if result["accelerator"] == "tcg":
		title += "\nEmulated by TCG: time is not real. Compare off with on, mind the spread"
	figure.suptitle(title, fontsize=10.5)

	out = io.StringIO()
	figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
	return out.getvalue()
