# SPDX-License-Identifier: GPL-2.0
"""What the programs that make tables of measurements have in common."""
import argparse
import json
import pathlib


def parser(description):
	"""Arguments that each of them has: where things are, and what was measured by what."""
	made = argparse.ArgumentParser(description=description)
	for name in ("dir", "json"):
		made.add_argument("--" + name, type=pathlib.Path, required=True)
	for name in ("commit", "emulator"):
		made.add_argument("--" + name, required=True)
	return made


def add_expectations(made):
	"""Arguments to compare with what was measured before."""
	for name in ("record", "expect"):
		made.add_argument("--" + name, type=pathlib.Path)


def record(path, head, measured):
	"""Write a line for each (key, number, share, slack), which more_than_expected() reads."""
	with open(path, "w") as file:
		file.write("# SPDX-License-Identifier: GPL-2.0\n")
		for line in head:
			file.write(f"# {line}\n")
		for key, number, _, _ in measured:
			file.write(f"{' '.join(key)} {number}\n")


def more_than_expected(path, measured, unit):
	"""Sentences on what is more than when it was recorded, by its share and its slack."""
	expected = {}
	with open(path) as file:
		for line in file:
			if not line.startswith("#"):
				*key, number = line.split()
				expected[tuple(key)] = float(number)
	for key, number, share, slack in measured:
		least = expected.get(key)
		name = ", ".join(key)
		if least is None:
			yield f"{name}: {path.name} does not know it; record it again"
		elif number > least * (1 + share) + slack:
			yield (f"{name}: {number} {unit}; {least:g} are expected, and {share:.0%}"
				f"{f' and {slack:g}' if slack else ''} more allowed")


def write(args, schema, **result):
	with open(args.json, "w") as file:
		json.dump({"schema": schema, "commit": args.commit, "emulator": args.emulator, **result},
			file, indent="\t")
		file.write("\n")


def judge(wrong):
	"""Say what is wrong. The program's exit status."""
	for sentence in wrong:
		print(f"FAIL: {sentence}.")
	return bool(wrong)
