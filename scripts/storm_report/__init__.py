# SPDX-License-Identifier: GPL-2.0
"""The parts of scripts/report, one subject a file."""


class ReportError(Exception):
	"""The input cannot be reported on; its text is a sentence for the user."""
