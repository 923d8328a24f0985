# SPDX-License-Identifier: GPL-2.0
"""Patches and overlay into commits, in the object database alone: no file of a tree is touched."""

from dataclasses import dataclass, field

from git import Refusal


@dataclass
class Composition:
    """The last commit, and the patches that did not apply with git's words."""
    tip: str
    commits: list = field(default_factory=list)
    failed: dict = field(default_factory=dict)


def first_versions(git, patches, overlay):
    """
    The files that each patch adds, as they were when it added them: {patch: {path: (mode, blob)}}.

    The overlay has their final form, so later patches' changes to them are taken out in reverse.
    """
    added = {}
    with git.with_index() as index:
        set_entries(index, overlay)
        for patch in reversed(patches):
            for path in sorted(touched(index, patch) & overlay.keys()):
                try:
                    index("apply", "-R", "--cached", f"--include={path}", "-", stdin=patch.diff)
                except Refusal as why:
                    raise Refusal(
                        f"{path}: its first version cannot be had, since {patch.name} does not "
                        "come out of the overlay's version: change the patch with the file, or "
                        f"change both in out/linux. {why}") from None
            added[patch.name] = entries(index, patch.adds)
            if patch.adds:
                index("update-index", "--force-remove", "--", *patch.adds)
    return added


def touched(git, patch):
    """The paths that a patch's diff changes."""
    try:
        stats = git("apply", "--numstat", "-z", "--allow-empty", "-", stdin=patch.diff)
    except Refusal as why:
        raise Refusal(f"{patch.name} is not a patch that git can read; in its message no line may "
                      f"start with ---, diff or From. {why}") from None
    return {stat.split("\t", 2)[2] for stat in stats.split("\0") if stat}


def entries(git, paths):
    if not paths:
        return {}
    found = {}
    for line in git("ls-files", "-s", "-z", "--", *paths).split("\0"):
        if line:
            meta, path = line.split("\t", 1)
            mode, blob, _ = meta.split()
            found[path] = (mode, blob)
    return found


def set_entries(git, files):
    lines = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in files.items())
    git("update-index", "-z", "--add", "--index-info", stdin=lines)


def from_disk(git, repository, patches):
    """The overlay's files as blobs: {path: (mode, blob)}."""
    paths = [path for patch in patches for path in patch.adds]
    blobs = git("hash-object", "-w", "--no-filters", "--stdin-paths",
                stdin="".join(f"{repository.top / path}\n" for path in paths)).split()
    return {path: (repository.overlay_entry(path), blob) for path, blob in zip(paths, blobs)}


def compose(git, base, patches, overlay, author=None):
    """A commit for each patch on top of base. One that does not apply is left out and named."""
    added = first_versions(git, patches, overlay)
    result = Composition(base)
    with git.with_index() as index:
        index("read-tree", base)
        for patch in patches:
            try:
                index("apply", "--cached", "--allow-empty", "-", stdin=patch.diff)
            except Refusal as why:
                result.failed[patch.name] = str(why).split(": ", 1)[1]
                continue
            new = added[patch.name]
            there = entries(index, list(new))
            if there:
                result.failed[patch.name] = f"the tree already has {', '.join(there)}"
                index("read-tree", result.tip)
                continue
            set_entries(index, new)
            message = patch.message
            if author:
                message = git("interpret-trailers", "--if-exists", "addIfDifferent", "--trailer",
                              "Signed-off-by: {} <{}>".format(*author), stdin=message)
            result.tip = index.commit(index("write-tree"), [result.tip], message,
                                      author or patch.author)
            result.commits.append(result.tip)
    return result
