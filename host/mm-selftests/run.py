#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Run the kernel's mm selftests on the unpatched kernel, and on the patched one
with speculation on and off, and compare the results.

scripts/mm-selftests builds what is booted here and says where it is. Each result is
kept in a file of its own, with the commit and the digest of what was booted, and is
not made again while that stays the same; a command that was interrupted continues.
"""
import argparse
import dataclasses
import datetime
import fnmatch
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

# The repository is the working directory of this script: leave no cache in it.
sys.dont_write_bytecode = True

import compare  # noqa: E402
import console  # noqa: E402
import selftest  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
# Mode: the kernel's directory in out/build, and words for its command line.
MODES = {
	compare.BASE: ("x86_64-mm-base", ()),
	"on": ("x86_64-mm", ("speculative_page_fault=1",)),
	"off": ("x86_64-mm", ("speculative_page_fault=0",)),
}
# Between two readings of it, the kernel's log must not run over. And where a page that
# is pinned had to leave movable memory, chance would say which huge pages are left.
WORDS = ("log_buf_len=4M", "memhp_default_state=online_kernel")
TEST_SECONDS = 300
# The guest is silent for longer than a test may take: it hangs.
SILENT_SECONDS = TEST_SECONDS + 120


class Failure(Exception):
	"""A sentence for the user."""


class Guests:
	"""Boots the kernels, and keeps what their consoles said as results."""

	def __init__(self, out, commit):
		self.out = out
		self.work = out / "mm-selftests"
		self.commit = commit
		self.machine = f"{os.environ['CPUS']} CPUs, {os.environ['MEM']}"
		self.digests = {name: self.digest(name) for name, _ in MODES.values()}
		self.flight = self.work / "in-flight.json"

	def digest(self, name):
		found = hashlib.sha256(repr((self.machine, WORDS)).encode())
		for file in (self.out / "build" / name / "arch/x86/boot/bzImage",
			     self.out / "initramfs" / f"{name}.cpio.gz"):
			if not file.exists():
				raise Failure(f"{file} is not there: \"make mm-selftests\" makes it.")
			found.update(file.read_bytes())
		return found.hexdigest()[:16]

	def console_log(self, name):
		return self.out / "run" / name / "console-run.log"

	def boot(self, name, words, arguments):
		"""Boot, and return when the guest has ended or was ended for its silence."""
		log = self.console_log(name)
		log.unlink(missing_ok=True)
		command = [TOP / "scripts/boot", "--name", name, "--limit", "86400"]
		for word in WORDS + words:
			command += ["--append", word]
		command += ["run", "/mm/guest", *map(str, arguments)]
		with open(self.work / "boot.log", "w") as said:
			guest = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
		size, changed, shown = 0, time.monotonic(), 0
		try:
			while guest.poll() is None:
				time.sleep(0.2)
				text = log.read_text(errors="replace") if log.exists() else ""
				if len(text) != size:
					size, changed = len(text), time.monotonic()
				shown = self.progress(text, shown)
				if time.monotonic() - changed > SILENT_SECONDS:
					print(f"mm-selftests: the guest says nothing since {SILENT_SECONDS} s: "
						"ending it", flush=True)
					break
		finally:
			if guest.poll() is None:
				os.killpg(guest.pid, signal.SIGKILL)
				guest.wait()
		text = log.read_text(errors="replace") if log.exists() else ""
		if "Linux version" not in text:
			raise Failure(f"the guest did not start: {self.work}/boot.log says why.")
		return text

	def progress(self, text, shown):
		done = [line for line in text.splitlines() if line.startswith("MM-END ")]
		for line in done[shown:]:
			_, number, status, seconds = line.split()
			print(f"    {self.tests[int(number)]}: "
				f"{console.status_outcome(int(status))}, {seconds} s", flush=True)
		return len(done)

	def list_tests(self):
		"""What run_vmtests.sh would run in the guest, from the guest."""
		name, words = MODES[compare.BASE]
		kept = self.work / "tests.json"
		if kept.exists():
			tests = json.loads(kept.read_text())
			if tests["digest"] == self.digests[name]:
				tests = [console.Test(**test) for test in tests["tests"]]
				self.tests = {test.number: test for test in tests}
				return
		print("mm-selftests: asking the guest which tests there are", flush=True)
		tests = console.listed(self.boot(name, words, ["list"]))
		if not tests:
			raise Failure(f"the guest named no test: see {self.console_log(name)}.")
		replace(kept, json.dumps({"digest": self.digests[name],
			"tests": [dataclasses.asdict(test) for test in tests]}, indent=1))
		self.tests = {test.number: test for test in tests}

	def result_file(self, mode, run, number):
		return self.work / "results" / f"{mode}-{run}" / f"{number:03}.json"

	def result(self, mode, run, number):
		"""A result of what would be booted now, or None."""
		file = self.result_file(mode, run, number)
		if not file.exists():
			return None
		result = json.loads(file.read_text())
		same = result["digest"] == self.digests[MODES[mode][0]] and \
			result["command"] == self.tests[number].command
		return result if same else None

	def harvest(self, interrupted):
		"""Results from the console log of the guest that is or was in flight."""
		if not self.flight.exists():
			return
		flight = json.loads(self.flight.read_text())
		mode, run = flight["mode"], flight["run"]
		name = MODES[mode][0]
		log = self.console_log(name)
		if log.exists() and flight["digest"] == self.digests[name]:
			text = log.read_text(errors="replace")
			for test in console.ended(text, not interrupted):
				self.keep(mode, run, flight, test)
		self.flight.unlink()

	def keep(self, mode, run, flight, test):
		outcomes, reasons = console.outcomes(test)
		file = self.result_file(mode, run, test.number)
		file.parent.mkdir(parents=True, exist_ok=True)
		replace(file, json.dumps({
			"command": self.tests[test.number].command,
			"commit": flight["commit"],
			"date": flight["date"],
			"digest": flight["digest"],
			"seconds": test.seconds,
			"outcomes": outcomes,
			"reasons": reasons,
		}, indent=1))
		replace(file.with_suffix(".log"), "\n".join(test.output + test.kernel) + "\n")

	def run(self, mode, run, wanted):
		"""Boot until each wanted test of this run has a result."""
		name, words = MODES[mode]
		missing = None
		while pending := [number for number in wanted if not self.result(mode, run, number)]:
			if pending == missing:
				raise Failure(f"the guest ended and had run none of its tests: see "
					f"{self.console_log(name)}.")
			missing = pending
			print(f"mm-selftests: {mode}, run {run}: {len(pending)} tests", flush=True)
			self.console_log(name).unlink(missing_ok=True)
			replace(self.flight, json.dumps({"mode": mode, "run": run, "commit": self.commit,
				"digest": self.digests[name],
				"date": datetime.date.today().isoformat()}))
			interrupted = True
			try:
				# The kernel passes few words on.
				self.boot(name, words, [TEST_SECONDS, ",".join(map(str, pending))])
				interrupted = False
			finally:
				self.harvest(interrupted)


def replace(path, text):
	new = path.with_suffix(path.suffix + ".new")
	new.write_text(text)
	new.replace(path)


def left_out():
	"""[(pattern, reason)] of host/mm-selftests/left-out."""
	lines = (HERE / "left-out").read_text().splitlines()
	return [tuple(line.split("\t", 1)) for line in lines if line and line[0] != "#"]


def choose(tests, category, substring):
	"""The wanted tests, and {pattern and reason: tests} of those left out. A test
	that the guest does not have at all has a reason too, and no test."""
	known = list(dict.fromkeys(test.category for test in tests))
	for name in category.split():
		if name not in known:
			raise Failure(f"CATEGORY={name} is not known. Known: {' '.join(known)}.")
	chosen = [test for test in tests if not category or test.category in category.split()]
	chosen = [test for test in chosen if substring in test.command]
	if not chosen:
		raise Failure(f"TEST={substring} is in no command" +
			(f" of {category}." if category else "."))
	if category or substring:
		return chosen, {}
	out = {}
	for pattern, why in left_out():
		out[f"{pattern}: {why}"] = [test for test in chosen
			if fnmatch.fnmatchcase(f"{test.category} {test.command}", pattern)]
	gone = [test for some in out.values() for test in some]
	return [test for test in chosen if test not in gone], out


def summarise(guests, tests, out, runs):
	"""(text, is it complete, does anything differ) from the results that are kept."""
	summary = compare.Summary()
	unfinished = []
	for test in tests:
		results = {mode: [guests.result(mode, run, test.number) for run in range(1, runs + 1)]
			for mode in MODES}
		missing = [f"{mode} {run}" for mode, of in results.items()
			for run, result in enumerate(of, 1) if not result]
		if missing:
			unfinished.append(f"{test}: {', '.join(missing)}")
			continue
		summary.add(test,
			{mode: [result["outcomes"] for result in of] for mode, of in results.items()},
			{mode: [result["reasons"] for result in of] for mode, of in results.items()},
			max(result["seconds"] for of in results.values() for result in of))
	text = "tools/testing/selftests/mm: the unpatched kernel, and the patched one with " \
		"speculation on and off\n" \
		f"commit {guests.commit}, {runs} runs of each, {guests.machine}, {TEST_SECONDS} s a test; " \
		"a test's time is its longest\n\n" + summary.text()
	text += f"\nleft out: {sum(map(len, out.values()))} tests\n"
	text += "".join(f"  {why}\n" for why in out)
	text += f"\nnot run yet: {len(unfinished)} tests\n"
	text += "".join(f"  {line}\n" for line in unfinished)
	return text, not unfinished, summary.counts["differs"] > 0


def self_test():
	wrong = list(selftest.wrong())
	for sentence in wrong:
		print(f"mm-selftests: self test: {sentence}", file=sys.stderr)
	print(f"mm-selftests: self test: {len(wrong)} wrong")
	return 1 if wrong else 0


def main():
	parser = argparse.ArgumentParser(prog="mm-selftests", description=__doc__,
		formatter_class=argparse.RawDescriptionHelpFormatter)
	parser.add_argument("--out", type=pathlib.Path, help="the directory out/")
	parser.add_argument("--commit", help="of this repository")
	parser.add_argument("--runs", type=int, default=3, help="of each kernel (default 3)")
	parser.add_argument("--summary", action="store_true", help="only compare what was run")
	parser.add_argument("--self-test", action="store_true",
		help="judge samples whose verdict is known and stop")
	args = parser.parse_args()
	if args.self_test:
		return self_test()
	if not args.out or not args.commit:
		parser.error("these are needed: --out, --commit")

	signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
	guests = Guests(args.out, args.commit)
	guests.list_tests()
	guests.harvest(interrupted=True)
	tests, out = choose(list(guests.tests.values()), os.environ.get("CATEGORY", ""),
		os.environ.get("TEST", ""))
	if not args.summary:
		for run in range(1, args.runs + 1):
			for mode in MODES:
				guests.run(mode, run, [test.number for test in tests])
	text, complete, differs = summarise(guests, tests, out, args.runs)
	replace(guests.work / "summary.txt", text)
	print(text, end="")
	return 1 if differs or not complete else 0


if __name__ == "__main__":
	try:
		sys.exit(main())
	except Failure as failure:
		print(f"mm-selftests: {failure}", file=sys.stderr)
		sys.exit(1)
	except KeyboardInterrupt:
		print("mm-selftests: interrupted. The same command continues.", file=sys.stderr)
		sys.exit(130)
