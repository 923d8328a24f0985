# SPDX-License-Identifier: GPL-2.0
"""Pictures as text: the same figure always gives the same SVG."""
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

from matplotlib.figure import Figure  # noqa: E402, F401
from matplotlib.ticker import EngFormatter, NullFormatter, PercentFormatter  # noqa: E402, F401

# Of speculation switched off and on.
COLORS = {"off": "#c2611f", "on": "#1f6fb2"}


def render(figure):
	out = io.StringIO()
	figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
	return out.getvalue()
