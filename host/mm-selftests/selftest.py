# SPDX-License-Identifier: GPL-2.0
"""Samples of a console and of results, and what must be made of them."""
import compare
import console

LOG = """\
[    0.000000] Linux version 7.3.4\r
MM-BEGIN 3\r
MM| TAP version 13\r
MM| # ok 1 nested at 0x7f1200345000\r
MM| ok 2 # SKIP name first\r
MM| ok 3 name.last # SKIP a reason\r
MM| not ok 4 - name\r
MM| not ok 5 name\r
MM| ok 6 expected # XFAIL\r
MM| ok 7 transact_test Extra pages 25 (0.1%), extra thread faults 25.\r
MM| # oklahoma is no result\r
MM-KERNEL| [    3.141592] BUG: Bad page state in process cow pfn:1234\r
MM-END 3 1 12\r
MM-BEGIN 4\r
MM| # Run test: collapse_full (khugepaged:anon)\r
MM| Collapse fully populated PTE table.... \x1b[32mOK\x1b[0m\r
MM| Check for huge page.... \x1b[31mFail\x1b[0m\r
MM| 1..0 # SKIP needs two nodes\r
MM-END 4 4 1\r
MM-BEGIN 5\r
[    4.141592] Kernel panic - not syncing: Fatal exception\r
"""
OUTCOMES = {
	3: {
		"nested at 0x": "ok", "name first": "skip", "name.last": "skip", "name": "not ok",
		"name (2)": "not ok", "expected": "xfail",
		"transact_test Extra pages N (N%), extra thread faults N": "ok",
		"(status)": "not ok, status 1",
		"(console)": "BUG: Bad page state in process cow pfn:N",
	},
	4: {
		"collapse_full (khugepaged:anon): Collapse fully populated PTE table": "ok",
		"collapse_full (khugepaged:anon): Check for huge page": "not ok",
		"(status)": "skip", "(console)": "clean",
	},
	5: {
		"(status)": "the guest ended",
		"(console)": "Kernel panic - not syncing: Fatal exception",
	},
}
REASONS = {3: {"name first": "", "name.last": "a reason"},
	   4: {"(status)": "1..0 # SKIP needs two nodes"}, 5: {}}

# Outcomes on the unpatched kernel, on patched ones, and the verdict.
VERDICTS = (
	(("ok", "ok", "ok"), ("ok", "ok", "ok"), "same"),
	(("not ok", "not ok", "not ok"), ("not ok", "not ok", "not ok"), "same"),
	(("ok", "ok", "ok"), ("ok", "ok", "not ok"), "differs"),
	(("ok", "ok", "ok"), ("skip", "skip", "skip"), "differs"),
	(("absent", "absent", "absent"), ("ok", "absent", "absent"), "differs"),
	(("skip", "skip", "skip"), ("skip", "skip", "ok"), "differs"),
	(("skip", "skip", "skip"), ("skip", "skip", "skip"), "cannot run"),
	(("timeout", "timeout", "timeout"), ("timeout", "timeout", "timeout"), "cannot run"),
	(("ok", "not ok", "ok"), ("not ok", "not ok", "not ok"), "varies"),
)


def wrong():
	"""A sentence for each sample that was judged wrong."""
	ran = {test.number: test for test in console.ended(LOG, guest_ended=True)}
	for number, want in OUTCOMES.items():
		got, reasons = console.outcomes(ran[number])
		if got != want:
			yield f"test {number}: {got} instead of {want}"
		if reasons != REASONS[number]:
			yield f"test {number}: the reasons {reasons} instead of {REASONS[number]}"
	if [test.number for test in console.ended(LOG, guest_ended=False)] != [3, 4]:
		yield "a test that was interrupted has a result"
	for base, others, want in VERDICTS:
		got = compare.verdict(base, others)
		if got != want:
			yield f"{base} and then {others}: {got} instead of {want}"
	runs = {"base": [{"a": "ok"}] * 3, "on": [{"a": "ok"}] * 2 + [{"a": "ok", "b": "ok"}]}
	if compare.judge(runs) != {"a": "same", "b": "differs"}:
		yield f"a result that only one run has: {compare.judge(runs)}"
