# SPDX-License-Identifier: GPL-2.0
"""scripts/tree, scripts/export and scripts/series: see the module of the same name."""

import pathlib
import sys

import export
import series
import tree
from git import Refusal
from repository import Repository

COMMANDS = {"tree": tree.main, "export": export.main, "series": series.main}


def main():
    command = sys.argv[1]
    try:
        COMMANDS[command](Repository(pathlib.Path(__file__).resolve().parents[2]))
    except Refusal as why:
        sys.stdout.flush()
        sys.exit(f"{command}: {why}")
    except KeyboardInterrupt:
        sys.exit(f"{command}: interrupted. Run it again to go on.")


main()
