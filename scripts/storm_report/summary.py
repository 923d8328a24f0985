# SPDX-License-Identifier: GPL-2.0
"""Samples to summary.json.

Times are given as median, minimum and maximum of the rounds; "ratio" is the
median with speculation on over the median with it off. Counts are sums over
the rounds, so that they still add up exactly.
"""
import re
from statistics import median

from storm_report import ReportError
from storm_report.samples import MODES

SCHEMA = 1
ACCELERATORS = ("kvm", "tcg", "native")
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64", "powerpc": "ppc64le"}


def check_target(target, meta):
	"""The target's name says what was asked for, the guest what really ran."""
	match = re.fullmatch(r"(x86_64|arm64|powerpc)(?:-(radix|hash))?(?:-(4|64)k)?", target)
	if not match:
		raise ReportError(f"\"{target}\" is no target; known are "
			"x86_64, arm64 and powerpc, the latter with -radix or -hash, "
			"each with -4k or -64k where it has a choice.")
	arch, mmu, kilobytes = match.groups()
	if meta["machine"] != MACHINES[arch]:
		raise ReportError(f"the target is {target}, but the samples come from a machine "
			f"of type {meta['machine']}.")
	if meta["mmu"] != (mmu or ""):
		raise ReportError(f"the target is {target}, but the samples come from a machine "
			f"whose MMU is {meta['mmu'] or 'the only one of its kind'}.")
	if kilobytes and meta["page_size"] != int(kilobytes) * 1024:
		raise ReportError(f"the target is {target}, but the samples come from a machine "
			f"with pages of {meta['page_size']} bytes.")
	return arch, mmu


def total(samples, key):
	return sum(sample[key] for sample in samples)


def add_counts(samples, key):
	result = {}
	for sample in samples:
		for name, count in sample[key].items():
			result[name] = result.get(name, 0) + count
	return result


def rates(samples):
	return [sample["faults"] / sample["seconds"] for sample in samples]


def share(part, whole):
	return part / whole if whole else 0.0


def make_mode(samples):
	speeds = rates(samples)
	attempts = total(samples, "spf_attempt")
	successes = total(samples, "spf_success")
	return {
		"faults_per_s": {"median": median(speeds), "min": min(speeds), "max": max(speeds)},
		"pgfault": total(samples, "pgfault"),
		"spf_attempt": attempts,
		"spf_success": successes,
		"spf_abort": add_counts(samples, "spf_abort"),
		"spf_share": share(successes, total(samples, "faults")),
		"spf_hit": share(successes, attempts),
		"blocked": total(samples, "blocked"),
	}


def make(run, target, accelerator, commit):
	if not re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", commit):
		raise ReportError(f"\"{commit}\" is no commit: give 7 to 40 hexadecimal digits, "
			"with -dirty behind them where the tree had changes.")
	arch, mmu = check_target(target, run.meta)
	workloads = []
	for (name, threads), modes in run.samples.items():
		made = {mode: make_mode(modes[mode]) for mode in MODES}
		workloads.append({
			"name": name,
			"threads": threads,
			"ratio": made["on"]["faults_per_s"]["median"] /
				made["off"]["faults_per_s"]["median"],
			"modes": made,
		})
	return {
		"schema": SCHEMA,
		"commit": commit,
		"kernel": run.meta["kernel"],
		"arch": arch,
		"mmu": mmu,
		"page_size": run.meta["page_size"],
		"accelerator": accelerator,
		"cpus": run.meta["cpus"],
		"rounds": run.meta["rounds"],
		"workloads": workloads,
	}
