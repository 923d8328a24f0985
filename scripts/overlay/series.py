# SPDX-License-Identifier: GPL-2.0
"""make series: the mails to send, or what of them applies to another tree."""

import os
import re
import shutil

import compose
import source
import tree
from git import Git, Refusal
from worktree import Linux


def cover_text(repository):
    path = repository.top / "patches/cover-letter.txt"
    if not path.is_file():
        raise Refusal(f"{path} is missing: its first line is the cover letter's subject, the "
                      "rest its text.")
    subject, _, body = path.read_text().partition("\n")
    if not subject.strip() or not body.strip():
        raise Refusal(f"{path} has no subject or no text: the first line is the subject, the "
                      "rest the text.")
    return subject.strip(), body.strip()


def cover(text, subject, body, base):
    """git's cover letter, with its shortlog and diffstat, filled in."""
    body = f"{body}\n\n{base}"
    return text.replace("*** SUBJECT HERE ***", subject, 1).replace(
        "*** BLURB HERE ***", body, 1)


def verify(linux, base, mails, tip):
    """git am itself, in a tree of only the files that the mails touch."""
    scratch = linux.path.parent / "series.am"
    shutil.rmtree(scratch, ignore_errors=True)
    am = Git(scratch, linux.git.committer)
    scratch.mkdir()
    am("init", "-q", "--template=")
    (am.dir / "info").mkdir()
    (am.dir / "objects/info/alternates").write_text(f"{linux.git.dir}/objects\n")
    paths = linux.git("diff", "--name-only", "--no-renames", base, tip)
    (am.dir / "info/sparse-checkout").write_text("".join(f"/{path}\n" for path in
                                                         paths.split("\n")))
    am("config", "core.sparseCheckout", "true")
    am("config", "commit.gpgSign", "false")
    am("checkout", "-q", "--detach", base)
    try:
        am("am", "-q", *mails)
    except Refusal as why:
        raise Refusal(f"the series does not apply with git am: {why} See {scratch}.") from None
    ours = am("rev-parse", "HEAD^{tree}")
    shutil.rmtree(scratch)
    wanted = linux.git("rev-parse", tip + "^{tree}")
    if ours != wanted:
        raise Refusal(f"git am makes the tree {ours} of the series, and make tree {wanted}.")
    return ours


def try_elsewhere(repository, linux, patches):
    """Say what applies to a user's tree."""
    what = source.find(repository)
    base = what.base(linux.git)
    overlay = compose.from_disk(linux.git, repository, patches)
    composed = compose.compose(linux.git, base, patches, overlay)
    tree.report(patches, composed.failed, f"{what.name}, Linux {what.version}")
    if composed.failed:
        raise Refusal(f"{len(composed.failed)} patches do not apply: see above.")


def main(repository):
    patches = repository.patches()
    if not patches:
        raise Refusal("there are no patches in patches/ yet, so there is no series to write.")
    repository.check_adds(patches)
    extra = repository.unnamed(patches)
    if extra:
        raise Refusal(f"no patch's Adds names {', '.join(extra)}: commit each in out/linux and run "
                      "make export, or remove it.")

    linux = Linux(repository)
    if os.environ.get("KERNEL_TREE"):
        try_elsewhere(repository, linux, patches)
        return

    subject, body = cover_text(repository)
    author = re.fullmatch(r"(.*) <(.*)>", os.environ.get("AUTHOR", ""))
    author = author and author.groups()
    # The tree that is being worked on, where it is of the right version: on a
    # machine without Debian's package it is the only one.
    package = source.Package(repository)
    if linux.state.get("version") == repository.base["BASE_VERSION"]:
        base = linux.state["base"]
    else:
        base = package.base(linux.git)
    overlay = compose.from_disk(linux.git, repository, patches)
    composed = compose.compose(linux.git, base, patches, overlay, author)
    if composed.failed:
        tree.report(patches, composed.failed, f"Linux {repository.base['BASE_VERSION']}")
        raise Refusal("the series does not apply to its own base: see above.")

    new = repository.out / "series.new"
    shutil.rmtree(new, ignore_errors=True)
    sender = Git(linux.path, author or repository.author)
    mails = sender("-c", "format.coverFromDescription=message", "format-patch", "--cover-letter",
                   "--numbered", "--zero-commit", "--abbrev=12", "--no-renames", "--no-signature",
                   "--encode-email-headers", f"--base={base}", "-o", new, f"{base}..{composed.tip}",
                   author=author).split("\n")
    where = f"Linux {repository.base['BASE_VERSION']}"
    if base == package.known_base(linux.git):
        where += f" as in Debian's {package.name}"
    base_line = f"Base: {where},\ngit tree {linux.git('rev-parse', base + '^{tree}')}."
    letter = new / os.path.basename(mails[0])
    letter.write_text(cover(letter.read_text(), subject, body, base_line))
    result = verify(linux, base, mails[1:], composed.tip)

    final = repository.out / "series"
    shutil.rmtree(final, ignore_errors=True)
    new.rename(final)
    print(f"out/series: {len(mails) - 1} patches and a cover letter. git am of them on the base "
          f"makes the tree {result}.")
    if linux.state and linux.head() and \
       linux.git("rev-parse", "spf^{tree}") != result:
        print("note: out/linux is something else at present; make tree or make export brings "
              "the two together.")
