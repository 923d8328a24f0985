# SPDX-License-Identifier: GPL-2.0
"""Read what spf_storm wrote, and refuse whatever a report could not rest on.

The first line says what was planned; every planned sample must then be there
once. A console that lost or mixed up a line is thus found out here, not by
somebody who wonders about a number later.
"""
import json
from collections import namedtuple
from itertools import product

from storm_report import ReportError

SCHEMA = 2
MIN_ROUNDS = 5
MODES = ("off", "on")

# samples: {(workload, threads): {mode: [round 1, ...]}}
Run = namedtuple("Run", "meta samples")

META_KEYS = {"schema": int, "kernel": str, "machine": str, "mmu": str, "page_size": int,
	"cpus": int, "size_mib": int, "rounds": int, "mode": str, "workloads": list}
WORKLOAD_KEYS = {"name": str, "threads": int}
SAMPLE_KEYS = {"workload": str, "threads": int, "round": int, "mode": str, "faults": int,
	"seconds": float, "pgfault": int, "pgmajfault": int, "spf_attempt": int,
	"spf_success": int, "spf_abort": dict, "vma_lock": dict, "blocked": int, "tables": int,
	"writes": int}


def refuse_constant(name):
	raise ValueError(f"{name} is no number")


def unique_keys(pairs):
	keys = [key for key, _ in pairs]
	if len(set(keys)) != len(keys):
		raise ValueError("a key is there twice")
	return dict(pairs)


def check_keys(where, item, keys):
	if not isinstance(item, dict):
		raise ReportError(f"{where}: not a JSON object; was the console log damaged?")
	if set(item) != set(keys):
		odd = ", ".join(sorted(set(item) ^ set(keys)))
		raise ReportError(f"{where}: keys missing or unknown: {odd}; "
			"use a spf_storm and a report of one commit.")
	for key, kind in keys.items():
		value = item[key]
		# JSON has one kind of number, and Python takes true for one.
		good = isinstance(value, (int, float) if kind is float else kind)
		if not good or isinstance(value, bool):
			raise ReportError(f"{where}: \"{key}\" has the wrong type.")
		if kind in (int, float) and value < 0:
			raise ReportError(f"{where}: \"{key}\" is negative.")


def check_counts(where, counts):
	for name, count in counts.items():
		if isinstance(count, bool) or not isinstance(count, int) or count < 0:
			raise ReportError(f"{where}: the count of \"{name}\" "
				"is not a whole number.")


def check_meta(where, meta):
	check_keys(where, meta, META_KEYS)
	if meta["schema"] != SCHEMA:
		raise ReportError(f"{where}: the samples have schema {meta['schema']}, this report "
			f"reads schema {SCHEMA}; use a spf_storm and a report of one commit.")
	if meta["mode"] != "both":
		raise ReportError(f"{where}: the samples were taken with --mode {meta['mode']}; "
			"a comparison needs --mode both, on a kernel that has the series.")
	if meta["rounds"] < MIN_ROUNDS:
		raise ReportError(f"{where}: only {meta['rounds']} rounds were run; "
			f"run at least {MIN_ROUNDS}.")
	for workload in meta["workloads"]:
		check_keys(where, workload, WORKLOAD_KEYS)
	if not meta["workloads"] or len(set(planned(meta))) != len(planned(meta)):
		raise ReportError(f"{where}: \"workloads\" must be a list of different ones.")
	if 0 in (meta["page_size"], meta["cpus"], *(threads for _, threads in planned(meta))):
		raise ReportError(f"{where}: a machine with no pages or CPUs, or no threads.")


def planned(meta):
	return [(workload["name"], workload["threads"]) for workload in meta["workloads"]]


def check_sample(where, sample, meta):
	check_keys(where, sample, SAMPLE_KEYS)
	check_counts(where, sample["spf_abort"])
	check_counts(where, sample["vma_lock"])
	if (sample["workload"], sample["threads"]) not in planned(meta) or \
	   sample["mode"] not in MODES or not 1 <= sample["round"] <= meta["rounds"]:
		raise ReportError(f"{where}: a sample that the first line did not announce.")
	if not sample["faults"] or not sample["seconds"]:
		raise ReportError(f"{where}: a sample without faults or without time.")

	aborts = sum(sample["spf_abort"].values())
	if sample["spf_attempt"] != sample["spf_success"] + aborts:
		raise ReportError(f"{where}: the counters do not add up: {sample['spf_attempt']} "
			f"attempts, but {sample['spf_success']} successes and {aborts} aborts. "
			"The kernel miscounts, or the machine was not otherwise idle.")
	if sample["mode"] == "off" and sample["spf_attempt"]:
		raise ReportError(f"{where}: {sample['spf_attempt']} faults were speculated on "
			"while speculation was off.")
	if sample["spf_success"] > sample["pgfault"]:
		raise ReportError(f"{where}: the counters do not add up: {sample['spf_success']} "
			f"speculative successes among {sample['pgfault']} faults in all.")


def parse(lines):
	"""lines: as read from the file, each with the newline that proves it is whole."""
	meta = None
	found = {}
	for number, line in enumerate(lines, 1):
		where = f"line {number}"
		if not line.endswith("\n"):
			raise ReportError(f"{where}: the file ends in the middle of a line; "
				"run the storm again.")
		try:
			item = json.loads(line, parse_constant=refuse_constant,
				object_pairs_hook=unique_keys)
		except ValueError as error:
			raise ReportError(f"{where}: not JSON ({error}); "
				"was the console log damaged?") from error

		if meta is None:
			if not isinstance(item, dict) or set(item) != {"meta"}:
				raise ReportError(f"{where}: the file must begin "
					"with the meta line.")
			meta = item["meta"]
			check_meta(where, meta)
			continue
		check_sample(where, item, meta)
		key = (item["workload"], item["threads"], item["mode"], item["round"])
		if key in found:
			raise ReportError(f"{where}: a second sample of {described(*key)}.")
		found[key] = item

	if meta is None:
		raise ReportError("no samples at all: the file is empty. Did the storm run?")
	return Run(meta, arrange(meta, found))


def described(name, threads, mode, number):
	return f"{name} with {threads} threads, speculation {mode}, round {number}"


def arrange(meta, found):
	rounds = range(1, meta["rounds"] + 1)
	for workload, mode, number in product(planned(meta), MODES, rounds):
		if (*workload, mode, number) not in found:
			raise ReportError(f"the sample of {described(*workload, mode, number)} is "
				"missing: the storm did not finish, or its output was cut; "
				"run it again.")
	result = {workload: {mode: [found[*workload, mode, number] for number in rounds]
		for mode in MODES} for workload in planned(meta)}

	if not any(sample["spf_attempt"] for modes in result.values() for sample in modes["on"]):
		raise ReportError("speculation was on and yet nothing was speculated on: "
			"there is nothing to compare.")
	return result


def read(path):
	try:
		with open(path, encoding="utf-8") as lines:
			return parse(lines)
	except UnicodeDecodeError as error:
		raise ReportError(f"{path}: not text; was the console log damaged?") from error
	except ReportError as error:
		raise ReportError(f"{path}: {error}") from error
