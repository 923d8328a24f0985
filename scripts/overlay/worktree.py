# SPDX-License-Identifier: GPL-2.0
"""out/linux: what it was made from, whether it has work of its own, how it is changed."""

import fcntl
import json

from git import Git, Refusal

BRANCH = "refs/heads/spf"


class Linux:
    """
    The git tree in out/linux, locked against other commands.

    .git/spf.json keeps what it was last made from or exported to. While it is
    changed that is in .git/spf.busy: what is found half done then is ours.
    """

    def __init__(self, repository):
        self.path = repository.linux
        self.git = Git(self.path, repository.author)
        self.state_file = self.git.dir / "spf.json"
        self.busy_file = self.git.dir / "spf.busy"
        repository.out.mkdir(exist_ok=True)
        self.lock = open(repository.out / "linux.lock", "w", encoding="ascii")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another command that uses {self.path}", flush=True)
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        self._open()
        self.state = json.loads(self.state_file.read_text()) if self.state_file.exists() else {}

    def _open(self):
        if not self.git.dir.is_dir():
            if self.path.exists() and any(self.path.iterdir()):
                raise Refusal(f"{self.path} is there but is not a git tree that make tree made. "
                              "Move it away.")
            self.path.mkdir(exist_ok=True)
        # Again where it was interrupted: the last line says that it is done.
        if self.git.dir.is_dir() and self.git.find_config("spf.ready"):
            self._recover()
            return
        self.git("init", "-q", "-b", "spf", "--template=")
        name, email = self.git.committer
        for key, value in (("gc.auto", "0"), ("maintenance.auto", "false"),
                           ("user.name", name), ("user.email", email),
                           ("commit.gpgSign", "false"), ("core.autocrlf", "false"),
                           ("spf.ready", "true")):
            self.git("config", key, value)

    def _recover(self):
        if self.busy_file.exists():
            print(f"{self.path}: finishing what was interrupted", flush=True)
            (self.git.dir / "index.lock").unlink(missing_ok=True)
            self._reset(json.loads(self.busy_file.read_text()))

    def _reset(self, state):
        self.git("symbolic-ref", "HEAD", BRANCH)
        self.git("update-ref", BRANCH, state["tip"])
        self.git("update-ref", "refs/tags/base", state["base"])
        self.git("reset", "--hard", "-q", state["tip"])
        self.busy_file.replace(self.state_file)

    def head(self):
        """The branch's last commit; None before the first make tree."""
        return self.git.find(BRANCH)

    def switch(self, state):
        """Go to its commit. Only files that differ are written, so builds stay incremental."""
        self.remember(state, self.busy_file)
        self._reset(state)

    def remember(self, state, file=None):
        new = self.git.dir / "spf.new"
        new.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")
        new.replace(file or self.state_file)

    def dirty(self):
        """The files that are not as committed, those git has not been told of too."""
        changed = self.git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no")
        # Debian's .gitignore hides everything at the top; undo that.
        new = self.git("ls-files", "-z", "-o", "-x", "!/*", "--exclude-per-directory=.gitignore")
        return [line[3:] for line in changed.split("\0") if line] + \
               [path for path in new.split("\0") if path]

    def refuse_elsewhere(self):
        """The branch must be checked out, with nothing under way."""
        at = self.git("symbolic-ref", "-q", "HEAD") if self._on_branch() else "no branch"
        if at != BRANCH:
            raise Refusal(f"{self.path} is on {at.removeprefix('refs/heads/')}, not on spf: finish "
                          "what is under way there (git status says what), then git checkout spf.")

    def _on_branch(self):
        try:
            return bool(self.git("symbolic-ref", "-q", "HEAD"))
        except Refusal:
            return False

    def refuse_dirty(self, hint):
        dirty = self.dirty()
        if dirty:
            names = ", ".join(dirty[:10]) + (", ..." if len(dirty) > 10 else "")
            raise Refusal(f"{self.path} has uncommitted changes: {names}. {hint}")

    def refuse_work(self):
        """Nothing may be there that an export has not put into the repository."""
        if not self.head():
            return
        self.refuse_elsewhere()
        tip = self.state.get("tip")
        if not tip:
            raise Refusal(f"{self.path} has commits that make tree did not make. Move it away.")
        if self.head() != tip:
            work = self.git("log", "--format=%h %s", "-10", f"{tip}..spf").replace("\n", "; ")
            what = f"has commits that are not exported: {work}" if work else \
                "has lost commits that are in patches/"
            raise Refusal(f"{self.path} {what}. Run make export first, or go back to what is "
                          f"exported: git -C {self.path} reset --hard {tip[:12]}")
        self.refuse_dirty("Commit them (git add -f for new files, git commit) and run make export, "
                          "or drop them (git reset --hard, git clean).")
