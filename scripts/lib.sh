# SPDX-License-Identifier: GPL-2.0
#
# What every script here starts with: where things are, how to speak, and the
# variables that "make help" lists, checked before anything is done.
# Source it from bash: . "${BASH_SOURCE%/*}/lib.sh"

set -euo pipefail

# Names that the sourcing scripts use.
# shellcheck disable=SC2034
{
	top=$(realpath "${BASH_SOURCE[0]%/*}/..")
	out=$top/out
	linux=$out/linux
}

# Started by make or from a git hook, we inherit what was meant for their own
# children; the kernel's make and the git of out/linux must not see it.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL
unset "${!GIT_@}"

say()
{
	printf '%s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# one_of NAME known...: the variable NAME must be one of the known values.
one_of()
{
	local name=$1 known

	shift
	for known; do
		[ "${!name}" != "$known" ] || return 0
	done
	die "$name=${!name} is not known. Known: $*."
}

# number NAME max: the variable NAME must be a whole number, 1 to max.
number()
{
	[[ ${!1} =~ ^[1-9][0-9]{0,5}$ ]] && [ "${!1}" -le "$2" ] ||
		die "$1=${!1} is not a whole number from 1 to $2."
}

# kernel_version tree: what the top of the tree's Makefile says.
kernel_version()
{
	awk -F '[ \t]*=[ \t]*' '
		$1 == "VERSION" && !v { v = $2 }
		$1 == "PATCHLEVEL" && !p { p = $2 }
		$1 == "SUBLEVEL" && !s { s = $2 }
		$1 == "EXTRAVERSION" && !e { e = $2 }
		END { if (v == "" || p == "") exit 1
		      print v "." p (s == "" ? "" : "." s) e }' "$1/Makefile"
}

# kernel_tree_version: refuse a KERNEL_TREE of another version, unless FORCE=1.
# Commands that build the tree call it before they do anything else.
kernel_tree_version()
{
	local version

	[ -n "$KERNEL_TREE" ] || return 0
	version=$(kernel_version "$KERNEL_TREE")
	[ "$version" != "$BASE_VERSION" ] || return 0
	[ "$FORCE" = 1 ] ||
		die "KERNEL_TREE=$KERNEL_TREE is Linux $version; the series is made for" \
		    "Linux $BASE_VERSION. Give a tree of $BASE_VERSION, or add FORCE=1 to try this one."
	say "KERNEL_TREE=$KERNEL_TREE is Linux $version, not $BASE_VERSION: going on, as FORCE=1 says."
}

# worktree DIR REF: make DIR a worktree of out/linux that has REF checked out and
# nothing else.
worktree()
{
	if [ "$(git -C "$1" rev-parse --path-format=absolute --git-common-dir 2>/dev/null)" != \
	     "$linux/.git" ]; then
		rm -rf "$1"
		git -C "$linux" worktree prune
		git -C "$linux" worktree add -q --detach "$1" "$2"
	fi
	git -C "$1" am --abort 2>/dev/null || true
	git -C "$1" reset -q --hard
	git -C "$1" checkout -q --detach "$2"
	git -C "$1" clean -qfdx
}

# archive DIR IMAGE: pack DIR as a guest's user space. The same files give the same bytes.
archive()
{
	find "$1" -exec touch -h -d @0 {} +
	(cd "$1" && find . -print0 | sort -z |
		cpio --quiet -0 -o -H newc -R 0:0 --reproducible) | gzip -n >"$2.new"
	mv "$2.new" "$2"
}

# commit_id: what a result that is kept was found with.
commit_id()
{
	local dirty

	dirty=$(git -C "$top" status --porcelain)
	say "$(git -C "$top" rev-parse --short HEAD)${dirty:+-dirty}"
}

. "$top/scripts/base.env"

: "${ARCH:=x86_64}" "${KERNEL_TREE:=}" "${FORCE:=0}" "${AUTHOR:=}"
: "${CPUS:=4}" "${MEM:=2G}" "${ACCEL:=auto}" "${JOBS:=$(nproc)}"
export ARCH KERNEL_TREE FORCE AUTHOR CPUS MEM ACCEL JOBS

one_of ARCH x86_64
[ -z "${MMU:-}" ] || die "MMU=$MMU: there is no choice of MMU on $ARCH."
[ -z "${PAGE_SIZE:-}" ] || die "PAGE_SIZE=$PAGE_SIZE: there is no choice of page size on $ARCH."
one_of FORCE 0 1
one_of ACCEL auto kvm tcg
number CPUS 255
number JOBS 4096
[[ $MEM =~ ^[1-9][0-9]{0,7}[MG]$ ]] ||
	die "MEM=$MEM is not a memory size such as 512M or 2G."
[[ -z $AUTHOR || $AUTHOR =~ ^[^\<\>[:cntrl:]]*[^\<\>[:cntrl:][:space:]]\ \<[^\<\>@[:space:]]+@[^\<\>@[:space:]]+\>$ ]] ||
	die "AUTHOR=$AUTHOR is not of the form AUTHOR=\"Name <user@host>\"."

if [ -n "$KERNEL_TREE" ]; then
	KERNEL_TREE=${KERNEL_TREE/#'~/'/"$HOME/"}
	[ -d "$KERNEL_TREE" ] || die "KERNEL_TREE=$KERNEL_TREE is not a directory."
	KERNEL_TREE=$(realpath "$KERNEL_TREE")
	[ -f "$KERNEL_TREE/Makefile" ] && kernel_version "$KERNEL_TREE" >/dev/null ||
		die "KERNEL_TREE=$KERNEL_TREE is not the top of a kernel source tree:" \
		    "it has no Makefile that gives a VERSION and a PATCHLEVEL."
	case $KERNEL_TREE/ in
	"$out"/*) die "KERNEL_TREE=$KERNEL_TREE is inside $out, which the scripts write to." ;;
	esac
fi

# A kernel's build, initramfs and results are kept by target.
# shellcheck disable=SC2034
target=$ARCH
