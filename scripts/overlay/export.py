# SPDX-License-Identifier: GPL-2.0
"""make export: the commits of out/linux into patches/ and the overlay."""

import os

import compose
from git import DATE, Refusal
from repository import FOLDERS, entry, parse, split_adds
from worktree import Linux


class Exporter:
    """The files that the commits base..spf are in this repository."""

    def __init__(self, git, base):
        self.git = git
        self.base = base
        self.commits = self.git("rev-list", "--reverse", f"{base}..spf").split()
        self.overlay = self.new_files()
        self.patches = {}
        seen = set()
        for number, commit in enumerate(self.commits, 1):
            name, text = self.patch(number, commit, seen)
            self.patches[name] = text

    def new_files(self):
        """What the last commit has and the base lacks: {path: (mode, blob)}."""
        had = set(self.git("ls-tree", "-r", "-z", "--name-only", self.base).split("\0"))
        found = {}
        for line in self.git("ls-tree", "-r", "-z", "spf").split("\0"):
            meta, _, path = line.partition("\t")
            if not path or path in had:
                continue
            mode, _, blob = meta.split()
            if mode not in ("100644", "100755"):
                raise Refusal(f"{path} is neither a file nor a program (mode {mode}): the overlay "
                              "cannot hold it.")
            if path.split("/")[0] not in FOLDERS:
                raise Refusal(f"{path} is new in a place that the overlay does not have. It has "
                              f"the folders {' '.join(FOLDERS)}.")
            found[path] = (mode, blob)
        return found

    def patch(self, number, commit, seen):
        """One commit as a mail in canonical form, the files it adds only named."""
        parents = self.git("rev-list", "--parents", "-1", commit).split()[1:]
        subject = self.git("log", "-1", "--format=%h %s", commit)
        if len(parents) != 1:
            raise Refusal(f"{subject} is a merge: a series is a line of commits. Rebase it.")
        changes = self.git("diff-tree", "-r", "-z", "--no-renames", "--name-only", parents[0],
                           commit).split("\0")
        changes = [path for path in changes if path]
        if not changes:
            raise Refusal(f"{subject} changes nothing: drop it, or give it its change.")
        adds = [path for path in changes if path in self.overlay and path not in seen]
        seen.update(adds)
        edits = [path for path in changes if path not in adds]
        diff = self.git.bytes("diff-tree", "-p", "--full-index", "--binary", "--no-renames",
                              parents[0], commit, "--", *edits) if edits else b""

        message, _ = split_adds(self.git("log", "-1", "--format=%B", commit) + "\n")
        if adds:
            message = self.git("interpret-trailers", "--if-exists", "add",
                               *(arg for path in adds for arg in ("--trailer", f"Adds: {path}")),
                               stdin=message)
        title, _, body = message.partition("\n\n")
        title = " ".join(title.split())
        author = self.git("log", "-1", "--format=%an <%ae>", commit)
        mail = (f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: {author}\nDate: {DATE}\n"
                f"Subject: [PATCH] {title}\n\n{body.strip()}\n---\n\n").encode()
        name = self.git("log", "-1", "--format=%f", commit)[:52].rstrip("-.")
        return f"{number:04}-{name}.patch", mail + diff

    def verify(self):
        """What make tree will make of these files must be these commits."""
        patches = [parse(name, text) for name, text in self.patches.items()]
        composed = compose.compose(self.git, self.base, patches, self.overlay)
        for name, why in composed.failed.items():
            raise Refusal(f"{name} would not apply again: {why}")
        for name, ours, theirs in zip(self.patches, composed.commits, self.commits):
            for what, form in (("files", "%T"), ("author", "%an <%ae>"), ("message", "%B")):
                a, b = (split_adds(self.git("log", "-1", f"--format={form}", commit))[0]
                        for commit in (ours, theirs))
                if a.split() != b.split():
                    raise Refusal(f"{name}: the commit's {what} would not survive as a mail. "
                                  "A line of the message that starts with ---, diff or From "
                                  "does that: word it otherwise.")

    def files(self):
        """{path: (mode, content)} for everything to be written."""
        found = {f"patches/{name}": ("100644", text) for name, text in self.patches.items()}
        for path, (mode, blob) in self.overlay.items():
            found[path] = (mode, self.git.bytes("cat-file", "blob", blob))
        return found


def write(repository, path, mode, content):
    file = repository.top / path
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".new")
    new.write_bytes(content)
    new.chmod(0o755 if mode == "100755" else 0o644)
    new.replace(file)


def remove(repository, path):
    file = repository.top / path
    file.unlink()
    for folder in file.relative_to(repository.top).parents[:-1]:
        try:
            (repository.top / folder).rmdir()
        except OSError:
            break


def main(repository):
    linux = Linux(repository)
    if not linux.state:
        raise Refusal("there is no out/linux to export: run make tree first.")
    state = linux.state
    linux.refuse_elsewhere()
    linux.refuse_dirty("Commit them (git add -f for new files), or drop them.")
    if state["version"] != repository.base["BASE_VERSION"] and os.environ.get("FORCE") != "1":
        raise Refusal(f"out/linux is Linux {state['version']}, and the patches here are for "
                      f"Linux {repository.base['BASE_VERSION']}. To rewrite them for "
                      f"{state['version']}, add FORCE=1.")
    if linux.git("merge-base", "base", "spf") != state["base"]:
        raise Refusal(f"spf in {linux.path} does not start from base any more: git rebase base.")

    exporter = Exporter(linux.git, state["base"])
    exporter.verify()
    new = exporter.files()
    wanted = {path: entry(mode, content) for path, (mode, content) in new.items()}
    present = {f"patches/{file.name}" for file in repository.patch_files()}
    present |= state["files"].keys() | wanted.keys()
    now = {path: repository.entry(path) for path in present}
    lost = sorted(path for path, is_ in now.items()
                  if is_ != wanted.get(path) and is_ != state["files"].get(path))
    if lost:
        raise Refusal(f"changed here since out/linux was made, and different there: "
                      f"{', '.join(lost)}. Bring the change into out/linux as a commit, or undo "
                      "it here (git checkout), then export again.")

    changed = 0
    for path, (mode, content) in sorted(new.items()):
        if now[path] != wanted[path]:
            write(repository, path, mode, content)
            changed += 1
    for path in sorted(present - wanted.keys()):
        if now[path]:
            remove(repository, path)
            changed += 1
    linux.remember({**state, "tip": linux.head(), "files": wanted})
    print(f"{len(exporter.commits)} commits are {len(exporter.patches)} patches and "
          f"{len(exporter.overlay)} overlay files; {changed} files changed.")
