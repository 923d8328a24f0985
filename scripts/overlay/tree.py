# SPDX-License-Identifier: GPL-2.0
"""make tree: the series as commits in out/linux."""

import compose
import source
from git import Refusal
from worktree import Linux


def report(patches, failed, where):
    """Say patch by patch what applies."""
    for patch in patches:
        why = failed.get(patch.name)
        print(f"{'does not apply' if why else 'applies':14}  {patch.name}")
        for line in (why or "").split("\n"):
            if line:
                print(f"{'':16}{line}")
    print(f"{len(patches) - len(failed)} of {len(patches)} patches apply to {where}.", flush=True)


def main(repository):
    patches = repository.patches()
    repository.check_adds(patches)
    for path in repository.unnamed(patches):
        print(f"note: {path} is not in the series: no patch's Adds names it")

    linux = Linux(repository)
    linux.refuse_work()
    what = source.find(repository)
    files = repository.manifest(patches)
    count = f"{len(patches)} patches" if patches else "no patches yet (patches/ has none)"
    done = f"out/linux is Linux {what.version} and {count}"
    if linux.head() and linux.state["source"] == what.id and linux.state["files"] == files:
        print(f"{done}, as before.")
        return

    base = what.base(linux.git)
    overlay = compose.from_disk(linux.git, repository, patches)
    composition = compose.compose(linux.git, base, patches, overlay)
    if composition.failed:
        report(patches, composition.failed, what.name)
        raise Refusal(f"{len(composition.failed)} patches do not apply to {what.name}: see above. "
                      "out/linux is left as it was.")
    if not linux.head():
        print(f"writing {linux.path}", flush=True)
    linux.switch({"source": what.id, "version": what.version, "base": base,
                  "tip": composition.tip, "files": files})
    print(f"{done}, on branch spf.")
