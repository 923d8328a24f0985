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
