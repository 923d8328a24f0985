# SPDX-License-Identifier: GPL-2.0
"""The kernel that the series goes on top of, brought into out/linux as a commit."""

import hashlib
import os
import stat
import subprocess
import tarfile

from git import Refusal, environment


class Source:
    """A kernel tree that can be imported. Its id changes when its content does."""

    def __init__(self, repository, version, identity, name):
        self.repository = repository
        self.version = version
        self.id = identity
        self.name = name

    def base(self, git):
        """Its commit in out/linux, the same for the same content; imported where it is not there."""
        commit = self.known_base(git)
        if not commit:
            print(f"{self.name}: reading it into {self.repository.linux}", flush=True)
            commit = git.commit(self.tree(git), [], f"Linux {self.version}\n")
            git("update-ref", self.ref(), commit)
        return commit

    def known_base(self, git):
        """The same, or None where it is not there."""
        return git.find(self.ref())

    def ref(self):
        return "refs/bases/" + hashlib.sha256(self.id.encode()).hexdigest()[:16]

    def tree(self, git):
        raise NotImplementedError


class Package(Source):
    """The pinned Debian package."""

    def __init__(self, repository):
        pin = repository.base
        name = f"{pin['BASE_PACKAGE']} {pin['BASE_PACKAGE_VERSION']}"
        super().__init__(repository, pin["BASE_VERSION"], f"package {pin['BASE_SHA256']}", name)

    def tree(self, git):
        pin = self.repository.base
        if subprocess.run([self.repository.top / "scripts/fetch"], check=False).returncode:
            raise Refusal("the base kernel could not be fetched: see above.")
        package = self.repository.out / "download" / os.path.basename(pin["BASE_POOL"])
        commands = (["dpkg-deb", "--fsys-tarfile", package],
                    ["tar", "-xO", "./" + pin["BASE_TARBALL"]],
                    ["xz", "-dc"])
        pipe, running = subprocess.DEVNULL, []
        for command in commands:
            running.append(subprocess.Popen(command, stdin=pipe, stdout=subprocess.PIPE))
            pipe = running[-1].stdout
        with tarfile.open(fileobj=pipe, mode="r|") as tar:
            tree = fast_import(git, tar_files(tar))
        pipe.read()
        if any([process.wait() for process in running]):
            raise Refusal(f"{package} could not be unpacked: see above. Delete it and run again.")
        return tree


class GitTree(Source):
    """The last commit of a user's git tree, which is only read."""

    def __init__(self, repository, path, version):
        self.path = path
        changed = self.run("status", "--porcelain", "--untracked-files=no").rstrip("\n")
        if changed:
            names = ", ".join(line[3:] for line in changed.split("\n")[:10])
            raise Refusal(f"KERNEL_TREE={path} has uncommitted changes: {names}. Commit or stash "
                          "them: what is built is its last commit.")
        self.head = self.run("rev-parse", "HEAD^{tree}").strip()
        super().__init__(repository, version, f"git {version} {self.head}", f"KERNEL_TREE={path}")

    def environment(self):
        # The user's configuration says whether git may read the tree; no lock
        # may be taken, so that even its index stays as it is.
        env = environment(GIT_OPTIONAL_LOCKS="0", GIT_NO_LAZY_FETCH="1")
        for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"):
            del env[name]
        return env

    def run(self, *args):
        done = subprocess.run(["git", "-C", self.path, *args], capture_output=True, text=True,
                              env=self.environment(), check=False)
        if done.returncode:
            raise Refusal(f"KERNEL_TREE={self.path} cannot be read as a git tree: "
                          f"{done.stderr.strip()}")
        return done.stdout

    def tree(self, git):
        env = self.environment()
        listing = subprocess.Popen(["git", "-C", self.path, "rev-list", "--objects",
                                    "--no-object-names", self.head],
                                   stdout=subprocess.PIPE, env=env)
        packing = subprocess.Popen(["git", "-C", self.path, "pack-objects", "--stdout", "-q",
                                    "--window=0"], stdin=listing.stdout,
                                   stdout=subprocess.PIPE, env=env)
        subprocess.run(git.command("index-pack", "--stdin"), stdin=packing.stdout,
                       stdout=subprocess.DEVNULL, env=git.environment(), check=False)
        if listing.wait() or packing.wait() or not git.find(self.head + "^{tree}"):
            raise Refusal(f"KERNEL_TREE={self.path} could not be copied: see git's message above.")
        return self.head


class PlainTree(Source):
    """A user's tree without git, which is only read."""

    def __init__(self, repository, path, version):
        self.path = path
        for built in (".config", "include/config", "include/generated"):
            if os.path.exists(os.path.join(path, built)):
                raise Refusal(f"KERNEL_TREE={path} has been built in ({built} is there). Give a "
                              "tree without build results: git, or make mrproper in a copy of it.")
        digest = hashlib.sha256()
        for name, file, info in self.files():
            digest.update(f"{name}\0{info.st_mode}\0{info.st_size}\0{info.st_mtime_ns}\n".encode(
                errors="surrogateescape"))
        super().__init__(repository, version, f"plain {version} {digest.hexdigest()}",
                         f"KERNEL_TREE={path}")

    def files(self):
        for at, folders, names in os.walk(self.path):
            folders.sort()
            links = [name for name in folders if os.path.islink(os.path.join(at, name))]
            for name in sorted(names + links):
                file = os.path.join(at, name)
                yield os.path.relpath(file, self.path), file, os.lstat(file)

    def tree(self, git):
        return fast_import(git, self.contents())

    def contents(self):
        for name, file, info in self.files():
            if stat.S_ISLNK(info.st_mode):
                yield name, "120000", os.fsencode(os.readlink(file))
            elif stat.S_ISREG(info.st_mode):
                with open(file, "rb") as content:
                    yield name, file_mode(info.st_mode), content.read()


def file_mode(mode):
    return "100755" if mode & 0o100 else "100644"


def tar_files(tar):
    """What a tarball holds below its one folder."""
    for member in tar:
        name = member.name.removeprefix("./").partition("/")[2]
        if member.issym():
            yield name, "120000", member.linkname.encode()
        elif member.isfile():
            yield name, file_mode(member.mode), tar.extractfile(member).read()


def fast_import(git, files):
    """Files, as (name, mode, content), into one pack; the id of their tree."""
    with subprocess.Popen(git.command("-c", "core.compression=1", "fast-import", "--quiet",
                                      "--depth=0", "--force"),
                          stdin=subprocess.PIPE, env=git.environment()) as importer:
        write = importer.stdin.write
        try:
            write(b"commit refs/import\ncommitter import <> 0 +0000\ndata 0\ndeleteall\n")
            for name, mode, content in files:
                write(f"M {mode} inline {name}\ndata {len(content)}\n".encode(
                    errors="surrogateescape"))
                write(content)
                write(b"\n")
            write(b"done\n")
            importer.stdin.close()
        except BrokenPipeError:
            pass
    if importer.returncode:
        raise Refusal("git fast-import failed: see its message above. Is the disk full?")
    tree = git("rev-parse", "refs/import^{tree}")
    git("update-ref", "-d", "refs/import")
    return tree


def find(repository):
    """KERNEL_TREE where it is given (scripts/lib.sh has looked at it), else the package."""
    path = os.environ.get("KERNEL_TREE")
    if not path:
        return Package(repository)
    version = subprocess.run(["bash", "-c", '. "$0"; kernel_version "$KERNEL_TREE"',
                              repository.top / "scripts/lib.sh"],
                             capture_output=True, text=True, check=True).stdout.strip()
    kind = GitTree if os.path.exists(os.path.join(path, ".git")) else PlainTree
    return kind(repository, path, version)
