# SPDX-License-Identifier: GPL-2.0
"""The parts of scripts/report, one subject a file."""
import os


class ReportError(Exception):
	"""The input cannot be reported on; its text is a sentence for the user."""


def replace_file(path, text):
	"""An interrupted report must not leave half a file under the final name."""
	with open(f"{path}.new", "w", encoding="utf-8") as out:
		out.write(text)
	os.replace(f"{path}.new", path)
