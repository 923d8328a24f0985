# SPDX-License-Identifier: GPL-2.0
"""This repository: patches/ and the overlay, the new kernel files at their in-tree path."""

import hashlib
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass, field

from git import Refusal, environment

# The kernel's folders. Its scripts/ is not among them: that name is ours here.
FOLDERS = ("Documentation arch block crypto drivers fs include init io_uring ipc kernel lib mm "
           "net rust samples security sound tools usr virt").split()

# What is in them and not for the kernel.
OWN = "Documentation/results.rst",

ADDS = re.compile(r"^Adds: (\S.*)$")


@dataclass
class Patch:
    """A mail of patches/: its message without the Adds trailers, and its diff."""
    name: str
    author: tuple
    message: str
    diff: bytes
    adds: list = field(default_factory=list)

    @property
    def subject(self):
        return self.message.split("\n", 1)[0]


def split_adds(message):
    """A message's text without the Adds lines of its last paragraph, and the paths they name."""
    head, mark, last = message.rstrip("\n").rpartition("\n\n")
    lines = last.split("\n")
    adds = [found[1] for found in map(ADDS.match, lines) if found] if mark else []
    if adds:
        last = "\n".join(line for line in lines if not ADDS.match(line))
    return (head + mark + last).rstrip("\n") + "\n", adds


def parse(name, text):
    """The Patch in a mail. git reads the mail, so that am and we agree on it."""
    with tempfile.TemporaryDirectory() as scratch:
        body, diff = pathlib.Path(scratch, "body"), pathlib.Path(scratch, "diff")
        done = subprocess.run(["git", "mailinfo", "-b", "--encoding=UTF-8", body, diff], input=text,
                              capture_output=True, cwd=scratch, env=environment(), check=False)
        if done.returncode:
            raise Refusal(f"patches/{name} is not a mail that git can read: "
                          f"{done.stderr.decode(errors='replace').strip()}")
        headers = dict(line.split(": ", 1) for line in done.stdout.decode().splitlines()
                       if ": " in line)
        body, diff = body.read_text(), diff.read_bytes()
    for header in ("Author", "Email", "Subject"):
        if not headers.get(header):
            raise Refusal(f"patches/{name} has no {header.lower()}: write it as git format-patch "
                          "would, or let make export write it.")
    message, adds = split_adds(f"{headers['Subject']}\n\n{body.strip()}\n")
    return Patch(name, (headers["Author"], headers["Email"]), message, diff, adds)


class Repository:
    """What make tree reads and make export writes."""

    def __init__(self, top):
        self.top = top
        self.out = top / "out"
        self.linux = self.out / "linux"
        self.base = dict(word.split("=", 1) for word in
                         shlex.split((top / "scripts/base.env").read_text(), comments=True))
        name, email = self.base["SERIES_AUTHOR"].rsplit(" <", 1)
        self.author = (name, email.rstrip(">"))

    def patch_files(self):
        return sorted((self.top / "patches").glob("*.patch"))

    def patches(self):
        return [parse(path.name, path.read_bytes()) for path in self.patch_files()]

    def check_adds(self, patches):
        """Every Adds names a file that is here, and no two name the same."""
        by = {}
        for patch in patches:
            for path in patch.adds:
                if path in by:
                    raise Refusal(f"{path} is named by the Adds of both {by[path]} and "
                                  f"{patch.name}: one patch only adds a file.")
                by[path] = patch.name
                if path.split("/")[0] not in FOLDERS or ".." in path.split("/"):
                    raise Refusal(f"{patch.name}: Adds: {path} is not in a folder of the kernel "
                                  f"that the overlay has ({' '.join(FOLDERS)}).")
                if not self.overlay_entry(path):
                    raise Refusal(f"{patch.name}: Adds: {path} names a file that is not here. "
                                  "Put it there, or take the line out.")
        return by

    def overlay_entry(self, path):
        """The mode git would give the overlay's file, or None."""
        file = self.top / path
        if not file.is_file() or file.is_symlink():
            return None
        return "100755" if os.access(file, os.X_OK) else "100644"

    def unnamed(self, patches):
        """Files of the overlay's folders that no Adds names, but for what git ignores."""
        named = {path for patch in patches for path in patch.adds}
        extra = sorted(os.path.relpath(os.path.join(at, file), self.top)
                       for folder in FOLDERS for at, _, files in os.walk(self.top / folder)
                       for file in files)
        extra = [path for path in extra if path not in named and path not in OWN]
        if not extra:
            return []
        # Outside a git repository this fails, and nothing is ignored.
        ignored = subprocess.run(["git", "check-ignore", "-z", "--stdin"], cwd=self.top,
                                 input="\0".join(extra).encode(), capture_output=True,
                                 env=environment(), check=False).stdout.decode().split("\0")
        return [path for path in extra if path not in ignored]

    def entry(self, path):
        """What identifies a file's present content and mode, or None where there is none."""
        mode = self.overlay_entry(path)
        return mode and entry(mode, (self.top / path).read_bytes())

    def manifest(self, patches):
        """Every file that the series is made of."""
        paths = [f"patches/{patch.name}" for patch in patches]
        paths += [path for patch in patches for path in patch.adds]
        return {path: self.entry(path) for path in paths}


def entry(mode, content):
    return f"{mode} {hashlib.sha256(content).hexdigest()}"
