# SPDX-License-Identifier: GPL-2.0
#
# For bash scripts that run a storm in an x86-64 guest, most of them under a plugin of
# QEMU; they have scripts/lib.sh already.

# shellcheck disable=SC2034
accelerator=(-accel tcg,thread=multi)
emulator=(qemu-system-x86_64 -cpu max -smp 4 -m 512M
	-nographic -nodefaults -net none -serial stdio -no-reboot)
# It says little, and its entry code has no trampoline.
# shellcheck disable=SC2034
guest_words="console=ttyS0 no_timer_check quiet oops=panic panic=-1 nopti"
compiling=(-std=c++17 -O2 -Wall -Wextra -Werror -I "$top/host/plugin")

# needs tool...
needs()
{
	local tool

	for tool; do
		command -v "$tool" >/dev/null ||
			die "$tool is missing: install qemu-system-x86, gdb, g++, cpio and binutils."
	done
}

# What a table maker is told to compare with.
compare=()

# compare_with OPTION FILE: --record, or --expect, which needs a file that there is.
compare_with()
{
	[ "$1" = --record ] || [ -f "$2" ] || die "$1 $2: there is no such file; --record writes one."
	compare+=("$1" "$2")
}

# has_kernel BUILD: refuse a directory without what the plugin needs.
has_kernel()
{
	local file

	for file in "$1/arch/x86/boot/bzImage" "$1/vmlinux" "$1/.config"; do
		[ -f "$file" ] || die "$file is not there; build the kernel first (scripts/build)."
	done
	! grep -q '^CONFIG_RANDOMIZE_BASE=y' "$1/.config" ||
		die "$1/.config has CONFIG_RANDOMIZE_BASE; symbols are only found without it."
}

# has_debug_info BUILD: refuse a kernel of which fields cannot be named.
has_debug_info()
{
	grep -q '^CONFIG_DEBUG_INFO=y' "$1/.config" ||
		die "$1/.config has no CONFIG_DEBUG_INFO; fields can only be named with it."
}

# The guest that stop_guest is to end, if any.
pid=

# start_guest DIR WORK BUILD WORDS ARGUMENT...: boot the kernel with the storm and the plugin
# of WORK, and wait until the storm is over; leave what it said in DIR/storm. The guest
# stays alive, as "pid", for gdb to read its memory at DIR/gdb; stop_guest ends it.
start_guest()
{
	local dir=$1 work=$2 build=$3 words=$4 line=

	shift 4
	rm -f "$dir"/{trace,gdb,console}
	coproc guest { exec timeout 1200 "${emulator[@]}" "${accelerator[@]}" "$@" \
		-chardev socket,id=gdb,path="$dir/gdb",server=on,wait=off -gdb chardev:gdb \
		-kernel "$build/arch/x86/boot/bzImage" -initrd "$work/initramfs" \
		-append "$guest_words $words" \
		-plugin "$work/plugin.so,sites=$dir/sites,out=$dir/trace" 2>&1; }
	pid=$guest_PID
	exec {console}<&"${guest[0]}"
	: >"$dir/storm"
	while [[ $line != "STORM READY" ]]; do
		IFS= read -r line <&"$console" ||
			die "the guest ended before its storm was over; $dir/console has what it said."
		line=${line%$'\r'}
		printf '%s\n' "$line" >>"$dir/console"
		# The firmware's last words may be in front of it.
		[[ $line != *STORM* ]] || printf 'STORM%s\n' "${line##*STORM}" >>"$dir/storm"
	done
}

stop_guest()
{
	[ -n "$pid" ] || return 0
	kill "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	pid=
	exec {console}<&-
}

# compile_storm STORM WORK: as the only program of WORK's guest.
compile_storm()
{
	g++ "${compiling[@]}" -static -o "$2/init" "$1"
	(cd "$2" && echo init | cpio --quiet -o -H newc >initramfs)
}

# compile PLUGIN STORM WORK: both.
compile()
{
	g++ "${compiling[@]}" -shared -fPIC -fvisibility=hidden -o "$3/plugin.so" "$1"
	compile_storm "$2" "$3"
}

# Until when a guest of run_guest has ended, in seconds.
guest_limit=300

# run_guest DIR WORK BUILD WORDS ARGUMENT...: boot the kernel with the storm of WORK, until
# the guest ends; leave what it said in DIR/storm.
run_guest()
{
	local dir=$1 work=$2 build=$3 words=$4 start=$SECONDS status try

	shift 4
	# QEMU 7.2 may translate an instruction while the kernel replaces it, and keep the
	# breakpoint that was there meanwhile. Then the kernel dies, or never goes on.
	for try in 1 2 3; do
		timeout --foreground "$guest_limit" "${emulator[@]}" "${accelerator[@]}" "$@" \
			-kernel "$build/arch/x86/boot/bzImage" -initrd "$work/initramfs" \
			-append "$guest_words $words" </dev/null >"$dir/console" 2>&1 &&
			status=0 || status=$?
		[ "$status" -eq 124 ] || grep -q 'Oops: int3:' "$dir/console" || break
		watched "... no end after $guest_limit s, or a breakpoint that is gone, in try $try of 3"
	done
	# The firmware's last words may be in front of a line.
	sed -n 's/\r$//; s/^.*STORM /STORM /p' "$dir/console" >"$dir/storm"
	grep -q '^STORM READY' "$dir/storm" ||
		die "the guest ended before its storm was over; $dir/console has what it said."
	watched "... $((SECONDS - start)) s"
}

# sites BUILD DIR: the kernel's symbols, and the functions that the plugin must know, each
# with its first address and that of the next symbol. A fault that enters a "lock" one is
# not lockless.
sites()
{
	nm -n "$1/vmlinux" >"$2/symbols"
	awk '
		role && $1 != start { print role, start, $1; role = "" }
		$3 ~ /^asm_(exc|sysvec)_|^asm_(common|spurious)_interrupt$/ { role = "other" }
		$3 == "entry_SYSCALL_64" { role = "call" }
		$3 == "asm_exc_page_fault" { role = "fault" }
		$3 == "__schedule" { role = "schedule" }
		$3 == "__switch_to_asm" { role = "switch" }
		$3 == "ret_from_fork_asm" { role = "task" }
		$3 ~ /^lock_(vma_under_rcu|found_vma|mm_and_find_vma)$/ { role = "lock" }
		role && $1 != start { start = $1 }
		$3 == "__entry_text_start" { entry = $1 }
		$3 == "__entry_text_end" { print "entry", entry, $1 }
	' "$2/symbols" >"$2/sites"
}

# columns_of COLUMN...: kernels by label, LABEL=BUILD_DIR or LABEL=BUILD_DIR,off; without
# one, the patched kernel switched off and on. Gives the labels, and by label the build
# directory and what its command line says; and the columns.
columns_of()
{
	local column label off

	columns=("$@")
	[ $# -gt 0 ] || columns=("off=$out/build/x86_64,off" "on=$out/build/x86_64")
	declare -gA build=() words=()
	labels=()
	for column in "${columns[@]}"; do
		[[ $column =~ ^([a-zA-Z0-9_-]+)=([^,]+)(,off)?$ ]] ||
			die "$column is not LABEL=BUILD_DIR or LABEL=BUILD_DIR,off; a label is letters," \
			    "digits, dashes and underscores."
		label=${BASH_REMATCH[1]} off=${BASH_REMATCH[3]}
		[ -z "${build[$label]:-}" ] ||
			die "two kernels are called $label; give each its own label."
		build[$label]=${BASH_REMATCH[2]}
		words[$label]=${off:+speculative_page_fault=0}
		labels+=("$label")
		has_kernel "${build[$label]}"
		[ -z "$off" ] ||
			grep -q '^CONFIG_SPECULATIVE_PAGE_FAULT=y' "${build[$label]}/.config" ||
			die "${build[$label]} has no CONFIG_SPECULATIVE_PAGE_FAULT to be switched off: leave" \
			    "away \",off\"."
	done
}
