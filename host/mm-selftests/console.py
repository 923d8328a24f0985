# SPDX-License-Identifier: GPL-2.0
"""What the guest's console says about the tests that ran, as outcomes by name."""
import dataclasses
import importlib.machinery
import importlib.util
import pathlib
import re

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"

# Not names of subtests, which have no such brackets.
STATUS = "(status)"
CONSOLE = "(console)"

MARK = re.compile(r"MM-(BEGIN|END|TEST|DONE|KERNEL\|)(?: (.*))?$|MM\| ?(.*)$")
COLOUR = re.compile(r"\x1b\[[0-9;]*m|\x1b")
TAP = re.compile(r"[\s#]*(ok|not ok)\b\s*\d*\s*-?\s*(.*)$")
DIRECTIVE = re.compile(r"(.*?)\s*#\s*(SKIP|XFAIL|XPASS|TODO)\b\s*(.*)$", re.IGNORECASE)
# khugepaged says "Run test: case (context:memory)", then "what is done.... OK".
CASE = re.compile(r"[\s#]*Run test: (.*)$")
PLAIN = re.compile(r"[\s#]*(\S.*?)[. ]*\s(OK|Fail|Skip|Timeout)\s*$")
PLAIN_OUTCOMES = {"OK": "ok", "Fail": "not ok", "Skip": "skip", "Timeout": "not ok"}
# What differs between two runs of one kernel.
ADDRESS = re.compile(r"\b0x[0-9a-f]+|\b[0-9a-f]{12,16}\b")
# In names of results: pages that were written to meanwhile, the size that a process had.
MEASURED = re.compile(r"Extra pages .*|\d+MB of memory allocations")
TIMESTAMP = re.compile(r"^\[ *\d+\.\d+\]\s*")


def load_splat():
	loader = importlib.machinery.SourceFileLoader("splat", str(SCRIPTS / "splat"))
	module = importlib.util.module_from_spec(importlib.util.spec_from_loader("splat", loader))
	loader.exec_module(module)
	return module


is_splat = load_splat().is_splat


@dataclasses.dataclass
class Test:
	number: int
	category: str
	command: str

	def __str__(self):
		return f"{self.category}: {self.command}"


@dataclasses.dataclass
class Ended:
	"""A test that ran to its end, or with status None took the guest down."""
	number: int
	status: int
	seconds: int
	output: list
	kernel: list


def marks(text):
	"""(mark, rest) of each line; lines without a mark are the kernel's own."""
	for line in text.splitlines():
		line = line.rstrip("\r")
		found = MARK.search(line)
		if not found:
			yield "KERNEL|", line
		elif found[1]:
			yield found[1], found[2] or ""
		else:
			yield "|", COLOUR.sub("", found[3])


def listed(text):
	"""The tests that "guest list" named; an empty list if it did not end well."""
	tests = []
	for mark, rest in marks(text):
		if mark == "TEST":
			number, category, command = rest.split(" ", 2)
			tests.append(Test(int(number), category, command.rstrip()))
		if mark == "DONE":
			return tests
	return []


def ended(text, guest_ended):
	"""The tests that ran; guest_ended says that nobody interrupted the guest."""
	number = None
	for mark, rest in marks(text):
		if mark == "BEGIN":
			number, output, kernel = int(rest), [], []
		elif number is None:
			continue
		elif mark == "|":
			output.append(rest)
		elif mark == "KERNEL|":
			kernel.append(rest)
		elif mark == "END":
			_, status, seconds = rest.split()
			yield Ended(number, int(status), int(seconds), output, kernel)
			number = None
	if number is not None and guest_ended:
		yield Ended(number, None, 0, output, kernel)


def status_outcome(status):
	if status is None:
		return "the guest ended"
	names = {0: "ok", 4: "skip", 124: "timeout"}
	return names.get(status, f"not ok, status {status}")


def subtests(output):
	"""(name, outcome, reason) of each line that is a result."""
	case = ""
	for line in output:
		if found := CASE.match(line):
			case = found[1].strip() + ": "
		elif found := TAP.match(line):
			name, reason = found[2], ""
			outcome = found[1]
			if directive := DIRECTIVE.match(name):
				outcome = directive[2].lower()
				# "ok 1 # SKIP name", or "ok 1 name # SKIP reason"
				name, reason = directive[1], directive[3]
				if not name:
					name, reason = reason, ""
			yield name.strip(), outcome, reason.strip()
		elif case and (found := PLAIN.match(line)):
			yield case + found[1], PLAIN_OUTCOMES[found[2]], ""


def outcomes(test):
	"""({name: outcome}, {name: reason for a skip}) of a test that ended."""
	results, reasons = {}, {}
	for name, outcome, reason in subtests(test.output):
		name = ADDRESS.sub("0x", name)
		name = MEASURED.sub(lambda found: re.sub(r"\d[\d.]*", "N", found[0]), name)
		unique, count = name, 1
		while unique in results:
			count += 1
			unique = f"{name} ({count})"
		results[unique] = outcome
		if outcome == "skip":
			reasons[unique] = reason
	results[STATUS] = status_outcome(test.status)
	said = [line.strip(" #\t") for line in test.output if line.strip(" #\t")]
	if test.status == 4:
		skips = [line for line in said if re.search("skip", line, re.IGNORECASE)]
		reasons[STATUS] = (skips or said or ["it says nothing"])[-1]
	splats = [line for line in test.kernel if is_splat(line)]
	first = ADDRESS.sub("0x", TIMESTAMP.sub("", splats[0])) if splats else ""
	results[CONSOLE] = re.sub(r"\d+", "N", first) if first else "clean"
	return results, reasons
