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

# Who watches a terminal is told where a long step is, a log only what became of it.
# Scripts that this one starts inherit the answer: what they say goes through a pipe.
if [ -z "${SPF_WATCHED:-}" ]; then
	SPF_WATCHED=$([ -t 1 ] && say yes || say no)
	export SPF_WATCHED
fi

# watched WORD...: say it, if somebody watches.
watched()
{
	[ "$SPF_WATCHED" = no ] || say "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# build_failed WHAT LOG: end the script, with the compiler's errors where there are some.
build_failed()
{
	grep -E -A3 '(error|Error|ERROR|undefined reference|\*\*\*)' "$2" | tail -n 25 >&2 || true
	die "building $1 failed: see the errors above, or all of $2."
}

# among WORD known...: whether it is one of them. Not with a pipe into grep -q: who writes
# to one that nobody reads any more has failed.
among()
{
	local word=$1 known

	shift
	for known; do
		[ "$word" != "$known" ] || return 0
	done
	return 1
}

# one_of NAME known...: the variable NAME must be one of the known values.
one_of()
{
	local name=$1

	shift
	among "${!name}" "$@" || die "$name=${!name} is not known. Known: $*."
}

# number NAME max: the variable NAME must be a whole number, 1 to max.
number()
{
	[[ ${!1} =~ ^[1-9][0-9]{0,5}$ ]] && [ "${!1}" -le "$2" ] ||
		die "$1=${!1} is not a whole number from 1 to $2."
}

# at_least LEAST VERSION: as sort orders versions.
at_least()
{
	printf '%s\n' "$1" "$2" | sort -C -V
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

# with_libraries DIRECTORY PROGRAM...: copies of programs, and of the libraries they need, in
# the guest's user space that "stage" names.
with_libraries()
{
	local to=$1 library

	shift
	mkdir -p "$stage/$to"
	cp -L "$@" "$stage/$to"
	for library in $(ldd "$@" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*' | sort -u); do
		[ -f "$stage$library" ] || install -D "$library" "$stage$library"
	done
}

# archives: those that this machine's apt uses. Debian's main one has the label
# Debian; apt knows labels only once it has lists, else any but security's will do.
archives()
{
	local main

	main=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian')
	[ -n "$main" ] ||
		main=$(apt-get indextargets --no-release-info --format '$(SITE)' \
			'Created-By: Packages' | grep -v -- '-security/*$') || true
	awk 'NF && !seen[$0]++' <<<"$main"
}

# run_of NAME: where a guest with the kernel NAME leaves what it said. A kernel may
# serve more than one target.
run_of()
{
	say "$out/run/${1/#"$build_name"/"$target"}"
}

# storm NAME DIR [ARG...]: the storms on the kernel NAME, and their report in DIR.
storm()
{
	local name=$1 to=$2 run variables command

	run=$(run_of "$name")
	shift 2
	variables="ARCH=$ARCH${MMU:+ MMU=$MMU}${PAGE_SIZE:+ PAGE_SIZE=$PAGE_SIZE} CPUS=$CPUS MEM=$MEM"
	command="make run $variables"
	[ $# -eq 0 ] || command="$variables scripts/boot --name $name storm $*"
	"$top/scripts/boot" --name "$name" storm "$@" || return
	mkdir -p "$to"
	sed -n 's/^SPF-JSON //p' "$run/console-storm.log" >"$to/storm.jsonl"
	"$top/scripts/report" --jsonl "$to/storm.jsonl" --out "$to" --target "$target" \
		--accelerator "$(cat "$run/accelerator")" --least-refault 0.99 --reproduce "$command" \
		--commit "$(git -C "$top" describe --always --dirty --abbrev=40 --exclude '*')"
}

# build_quietly NAME ARGUMENT...: build the kernel NAME without a warning of the compiler,
# of which base has none.
build_quietly()
{
	local name=$1

	shift
	"$top/scripts/build" "$@" --name "$name"
	! grep -E -A3 'warning: ' "$out/build/$name/build.log" ||
		die "base is built without these warnings."
}

# on TARGET command...: run the command for a target of that name.
on()
{
	local arch mmu size

	IFS=- read -r arch mmu size <<<"$1"
	shift
	ARCH=$arch MMU=$mmu PAGE_SIZE=$size "$@"
}

# logged LOG command...: run it with its output in LOG; of that, pass on what tells how far
# it is. Leaves its status in "status" and succeeds: a condition would mask its errexit.
logged()
{
	local log=$1

	shift
	set +e
	(set -e; "$@") 2>&1 </dev/null | tee "$log" |
		grep --line-buffered -E "^(build|boot|documentation)(:| [^ ]+:)$([ "$SPF_WATCHED" = no ] || say '|^ok [0-9]')"
	status=${PIPESTATUS[0]}
	set -e
}

# tested_by FILE...: names what there is to test, and the files that it is tested by. Of two
# commits that differ in documentation alone it is the same.
tested_by()
{
	{
		git -C "$linux" ls-tree -r HEAD | grep -v $'\tDocumentation/'
		git -C "$linux" diff HEAD
		(cd "$top" && sha1sum host/configs/* "$@")
	} | sha1sum | cut -c 1-12
}

# try_and_keep RESULT LOG TITLE command...: run it, keep in RESULT how it ended, with the
# commit, the date, and "tested" if that is set, and count it in passed or failed.
try_and_keep()
{
	local result=$1 log=$2 title=$3 status verdict=failed commit

	shift 3
	commit=$(commit_id)
	say "... $title"
	logged "$log" "$@"
	if [ "$status" -eq 0 ]; then
		verdict=passed
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		tail -n 25 "$log" | sed 's/^/    /'
	fi
	say "$verdict $commit $(date -I)${tested:+ $tested}" >"$result"
	say "$title: $(cat "$result")"
}

# all_of WHAT CHOICE... -- NAME...: refuse a NAME that is no CHOICE.
all_of()
{
	local what=$1 choices=() name

	shift
	while [ "$1" != -- ]; do
		choices+=("$1")
		shift
	done
	shift
	for name; do
		among "$name" "${choices[@]}" ||
			die "$name is not a $what. They are: ${choices[*]}."
	done
}

# sitting WORK CHOSEN NAME...: try each; where their number CHOSEN is 0, so that nobody has
# chosen them, only those that have not passed with the same source. command_of NAME sets
# "command" to what is to be run, and "tested" to what tested_by makes of it.
sitting()
{
	local work=$1 chosen=$2 name result tested command=()

	shift 2
	passed=0
	failed=0
	for name; do
		result=$work/$name.result
		command_of "$name"
		if [ "$chosen" -eq 0 ] &&
		   [ "$(cut -d ' ' -f 1,4 "$result" 2>/dev/null)" = "passed $tested" ]; then
			say "$name: $(cat "$result")"
			passed=$((passed + 1))
			continue
		fi
		try_and_keep "$result" "$work/$name.log" "$name" "${command[@]}"
	done
}

# complaints_of LOG: what the kernel complains of in a console log, without times.
complaints_of()
{
	{ "$top/scripts/splat" --all "$1" 2>&1 || true; } | sed -n 's/^[^:]*:[0-9]*: \[[^]]*\] *//p'
}

# compiler_of BUILD: what the kernel was built with.
compiler_of()
{
	sed -n 's/^CONFIG_CC_VERSION_TEXT="\(.*\)"$/\1/p' "$1/.config"
}

# fresh BASE SPF WHAT: fail if there is a line in the file SPF that is not in BASE.
fresh()
{
	local lines

	lines=$(comm -13 "$1" "$2")
	[ -n "$lines" ] || return 0
	say "$3 these are new:"
	say "$lines"
	return 1
}

# x86_64_only WHAT: refuse another target, which WHAT cannot do.
x86_64_only()
{
	[ "$ARCH" = x86_64 ] || die "$1 knows ARCH=x86_64 only, not ARCH=$ARCH."
}

# commit_id: what a result that is kept is of. To be asked for before it is found: others may
# commit meanwhile.
commit_id()
{
	local dirty

	dirty=$(git -C "$top" status --porcelain)
	say "$(git -C "$top" rev-parse --short HEAD)${dirty:+-dirty}"
}

. "$top/scripts/base.env"

: "${ARCH:=x86_64}" "${MMU:=}" "${PAGE_SIZE:=}" "${KERNEL_TREE:=}" "${FORCE:=0}" "${AUTHOR:=}"
: "${CPUS:=4}" "${MEM:=2G}" "${ACCEL:=auto}" "${JOBS:=$(nproc)}"
one_of ARCH x86_64 arm64 powerpc
if [ "$ARCH" = powerpc ]; then
	: "${MMU:=radix}" "${PAGE_SIZE:=64k}"
	one_of MMU radix hash
	one_of PAGE_SIZE 4k 64k
else
	[ -z "$MMU" ] || die "MMU=$MMU: there is no choice of MMU on $ARCH."
	[ -z "$PAGE_SIZE" ] || die "PAGE_SIZE=$PAGE_SIZE: there is no choice of page size on $ARCH."
fi
export ARCH MMU PAGE_SIZE KERNEL_TREE FORCE AUTHOR CPUS MEM ACCEL JOBS

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

# The target: all that the scripts know of it, but for its options in host/configs/.
#
#	target		names results
#	build_name	names its kernel's build and initramfs: both MMUs have one kernel
#	fragments	options of its kernels, and of those for --check and --debug besides
#	storm_size	MiB that the checks' storms are about: 4,096 pages
#	patience	how many times as long as x86-64 it may take
#	emulated	what QEMU has or lacks where it emulates the processor
#	qemu_least	the least version of it that will do, if not any
#
# shellcheck disable=SC2034
{
	target=$ARCH build_name=$ARCH
	fragments=(guest "$ARCH") check_fragments=(check) debug_fragments=(debug)
	storm_size=16 patience=1 emulated=() qemu_least=
	case $ARCH in
	x86_64)
		uname=x86_64 debian_arch=amd64 toolchain=x86_64-linux-gnu
		kernel_arch=x86 kernel_image=arch/x86/boot/bzImage
		qemu=qemu-system-x86_64 qemu_package=qemu-system-x86
		machine=(-machine pc -cpu max)
		check_fragments+=(x86_64-check)
		# The timer works, but a busy machine may be late for the test that it does.
		guest_words="console=ttyS0 no_timer_check memhp_default_state=online_movable"
		;;
	arm64)
		uname=aarch64 debian_arch=arm64 toolchain=aarch64-linux-gnu
		kernel_arch=arm64 kernel_image=arch/arm64/boot/Image
		qemu=qemu-system-aarch64 qemu_package=qemu-system-arm
		# The older interrupt controller ends at 8 CPUs.
		machine=(-machine "virt,gic-version=3" -cpu max)
		emulated=(-machine mte=on)
		# What was there at boot cannot be taken away, movable or not.
		guest_words=console=ttyAMA0
		patience=3
		;;
	powerpc)
		target=powerpc-$MMU-$PAGE_SIZE build_name=powerpc-$PAGE_SIZE
		fragments+=("powerpc-$PAGE_SIZE") debug_fragments+=(powerpc-debug)
		uname=ppc64le debian_arch=ppc64el toolchain=powerpc64le-linux-gnu
		kernel_arch=powerpc kernel_image=vmlinux
		qemu=qemu-system-ppc64 qemu_package=qemu-system-ppc
		# QEMU 7.2 does not wait for the other processors where one flushes the TLBs
		# of all: one of them may write to a page that has been copied. 10.0 does.
		qemu_least=10
		# Starts the kernel at once, with the huge pages of the hash MMU.
		machine=(-machine "pseries,x-vof=on,cap-hpt-max-page-size=16M")
		# A processor without radix, or one that the kernel uses with it.
		case $MMU in
		hash) machine+=(-cpu power8) ;;
		radix) machine+=(-cpu power9) ;;
		esac
		emulated=(-machine "cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off")
		guest_words="console=hvc0 movablecore=50%"
		# test_hmm puts its memory where this MMU's array of struct page does not reach.
		[ "$MMU-$PAGE_SIZE" != hash-4k ] || guest_words+=" initcall_blacklist=hmm_dmirror_init"
		[ "$PAGE_SIZE" = 4k ] || storm_size=256
		patience=4
		;;
	esac

	qemu_dir=$out/download/$qemu_package
	[ ! -x "$qemu_dir/usr/bin/$qemu" ] || qemu=$qemu_dir/usr/bin/$qemu

	# The test programs of all kernels of the architecture.
	programs=$out/build/$ARCH-selftests/kselftest/kselftest_install

	# On a machine of that kind, its own tools and user space will do.
	cross='' busybox=/bin/busybox
	if [ "$(uname -m)" != "$uname" ]; then
		cross=$toolchain- busybox=$out/download/busybox-$debian_arch
	fi
}

# The guest's memory in MiB. Half of it is each node's.
memory=${MEM%[MG]}
[[ $MEM != *G ]] || memory=$((memory * 1024))
[ "$ARCH" != powerpc ] || [ $((memory % 512)) -eq 0 ] ||
	die "MEM=$MEM: on powerpc it is a multiple of 512M, as each of two nodes has whole 256M."

# A quarter of each node's memory is a module that can be taken out, in blocks of
# 128 MiB, where the machine has such: it holds nothing that the kernel could not move.
module=0
[ "$ARCH" != x86_64 ] || module=$((memory / 8 / 128 * 128))
