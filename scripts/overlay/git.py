# SPDX-License-Identifier: GPL-2.0
"""Git, as plumbing: nothing of the user's own configuration has a say here."""

import os
import subprocess
import tempfile

# One date for every commit and mail, so that ids and files are reproducible.
DATE = "Sun, 1 Nov 2026 00:00:00 +0000"


class Refusal(Exception):
    """What was wrong and what to do, in a sentence."""


def environment(author=None, **more):
    """The environment of a git that sees only what it is given."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env.update(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1",
               GIT_LITERAL_PATHSPECS="1", LC_ALL="C.UTF-8", TZ="UTC")
    if author:
        name, email = author
        env.update(GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=email, GIT_AUTHOR_DATE=DATE,
                   GIT_COMMITTER_DATE=DATE)
    env.update(more)
    return env


class Git:
    """A repository, with an index of our own where one is named."""

    def __init__(self, tree, committer, index=None):
        self.tree = tree
        self.dir = tree / ".git"
        self.committer = committer
        self.index = index

    def command(self, *args):
        return ["git", f"--git-dir={self.dir}", f"--work-tree={self.tree}", *map(str, args)]

    def environment(self, author=None):
        name, email = self.committer
        more = {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email}
        if self.index:
            more["GIT_INDEX_FILE"] = str(self.index)
        return environment(author or self.committer, **more)

    def bytes(self, *args, stdin=None, author=None):
        done = subprocess.run(self.command(*args), input=stdin, capture_output=True,
                              cwd=self.tree, env=self.environment(author), check=False)
        if done.returncode:
            raise Refusal(f"git {args[0]} failed in {self.tree}: "
                          f"{done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def __call__(self, *args, stdin=None, author=None):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        return self.bytes(*args, stdin=stdin, author=author).decode(errors="replace").rstrip("\n")

    def find(self, revision):
        """The id of a revision, or None."""
        try:
            return self("rev-parse", "--quiet", "--verify", revision)
        except Refusal:
            return None

    def find_config(self, key):
        """A setting of the repository, or None."""
        try:
            return self("config", "--local", key)
        except Refusal:
            return None

    def with_index(self):
        """The same repository with an empty index, gone after the block."""
        return _TemporaryIndex(self)

    def commit(self, tree, parents, message, author=None):
        args = [arg for parent in parents for arg in ("-p", parent)]
        return self("commit-tree", tree, *args, stdin=message.rstrip("\n") + "\n", author=author)


class _TemporaryIndex:
    def __init__(self, git):
        self.git = git

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory(dir=self.git.dir)
        return Git(self.git.tree, self.git.committer, os.path.join(self.dir.name, "index"))

    def __exit__(self, *_):
        self.dir.cleanup()
