# SPDX-License-Identifier: GPL-2.0
"""scripts/report --self-test: made-up samples, good ones and every kind of bad one."""
import copy
import json
import os
import tempfile
import unittest

from storm_report import ReportError, picture, samples, summary, table

META = {"schema": 2, "kernel": "7.3.4", "machine": "x86_64", "mmu": "", "page_size": 4096,
	"cpus": 4, "size_mib": 64, "rounds": 5, "mode": "both",
	"workloads": [{"name": "refault", "threads": 1}, {"name": "refault", "threads": 4},
		{"name": "churn_same", "threads": 4}]}


def sample(workload, mode, number, threads=4):
	on = mode == "on"
	return {"workload": workload, "threads": threads, "round": number, "mode": mode,
		"faults": 1000, "seconds": (0.5 if on else 1.0) * number, "pgfault": 1010,
		"pgmajfault": 0, "spf_attempt": 1000 if on else 0,
		"spf_success": 990 if on else 0,
		"spf_abort": {"pmd_none": 8 if on else 0, "pte_lock": 2 if on else 0},
		"vma_lock": {"success": 10}, "blocked": 3, "tables": 8,
		"writes": 7 if workload == "churn_same" else 0}


def good():
	return [{"meta": copy.deepcopy(META)}] + [
		sample(workload["name"], mode, number, workload["threads"])
		for workload in META["workloads"] for number in range(1, 6)
		for mode in samples.MODES]


def lines(items):
	return [json.dumps(item) + "\n" for item in items]


def made():
	run = samples.parse(lines(good()))
	return run, summary.make(run, "x86_64", "tcg", "0123456789ab")


class Report(unittest.TestCase):
	def test_summary(self):
		_, result = made()
		self.assertEqual(list(result), ["schema", "commit", "kernel", "arch", "mmu",
			"page_size", "accelerator", "cpus", "rounds", "workloads"])
		self.assertEqual((result["arch"], result["mmu"], result["page_size"]),
			("x86_64", None, 4096))
		first = result["workloads"][0]
		self.assertEqual(list(first), ["name", "threads", "ratio", "modes"])
		self.assertEqual(first["ratio"], 2.0)
		self.assertEqual(list(first["modes"]), ["off", "on"])
		self.assertEqual(first["modes"]["on"], {
			"faults_per_s": {"median": 1000 / 1.5, "min": 400.0, "max": 2000.0},
			"pgfault": 5050, "spf_attempt": 5000, "spf_success": 4950,
			"spf_abort": {"pmd_none": 40, "pte_lock": 10},
			"spf_share": 0.99, "spf_hit": 0.99, "blocked": 15})
		self.assertEqual(first["modes"]["off"]["spf_hit"], 0.0)

	def test_targets(self):
		run, _ = made()
		for target in ("arm64", "x86_64-64k", "vax", ""):
			with self.subTest(target), self.assertRaises(ReportError):
				summary.make(run, target, "tcg", "0123456789ab")
		power = run._replace(meta=dict(run.meta, machine="ppc64le", mmu="hash",
			page_size=65536))
		self.assertEqual(summary.make(power, "powerpc-hash-64k", "tcg", "abcdef0")["mmu"],
			"hash")
		with self.assertRaises(ReportError):
			summary.make(power, "powerpc-radix-64k", "tcg", "abcdef0")

	def test_commits(self):
		run, _ = made()
		summary.make(run, "x86_64", "tcg", "0123456-dirty")
		for commit in ("", "HEAD", "0123", "0123456 "):
			with self.subTest(commit), self.assertRaises(ReportError):
				summary.make(run, "x86_64", "tcg", commit)

	def test_table(self):
		text = table.render(*made(), "make run CPUS=4")
		for expected in ("1 thread     4 threads", "make run CPUS=4",
				"refault, 4 threads", "0.9900", "0.9980", "2.00",
				"aborted, pmd_none", "not real", "address space changes/s"):
			self.assertIn(expected, text)

	def test_picture_is_always_the_same(self):
		_, result = made()
		drawing = picture.draw(result)
		self.assertEqual(drawing, picture.draw(copy.deepcopy(result)))
		self.assertIn("<svg", drawing)


class Refusals(unittest.TestCase):
	def refuse(self, text, change):
		"""@change spoils good items in place, or returns the lines to read instead."""
		items = good()
		spoilt = change(items)
		with self.assertRaises(ReportError) as caught:
			samples.parse(lines(items) if spoilt is None else spoilt)
		self.assertIn(text, str(caught.exception))

	def test_no_file(self):
		with self.assertRaises(OSError):
			samples.read("/nonexistent/storm.jsonl")

	def test_file(self):
		with tempfile.TemporaryDirectory() as folder:
			path = os.path.join(folder, "storm.jsonl")
			for content, text in ((b"\xff\n", "not text"), (b"", "empty")):
				with open(path, "wb") as out:
					out.write(content)
				with self.assertRaises(ReportError) as caught:
					samples.read(path)
				self.assertIn(text, str(caught.exception))
				self.assertIn(path, str(caught.exception))

	def test_empty(self):
		self.refuse("no samples at all", lambda items: [])

	def test_no_meta(self):
		self.refuse("begin with the meta line", lambda items: lines(items[1:]))

	def test_truncated_line(self):
		self.refuse("middle of a line", lambda items: lines(items[:-1]) + ['{"workl'])

	def test_missing_last_newline(self):
		def cut(items):
			whole = lines(items)
			return whole[:-1] + [whole[-1][:-1]]
		self.refuse("middle of a line", cut)

	def test_missing_sample(self):
		self.refuse("is missing", lambda items: items.__delitem__(-1))

	def test_unbalanced_modes(self):
		self.refuse("refault with 4 threads, speculation on, round 3 is missing",
			lambda items: items.remove(
			sample("refault", "on", 3)))

	def test_damaged_line(self):
		self.refuse("not JSON", lambda items: lines(items[:3]) +
			["{\"work[    1.5] console\n"] + lines(items[3:]))

	def test_not_an_object(self):
		self.refuse("not a JSON object", lambda items: items.append(7))

	def test_repeated_sample(self):
		self.refuse("second sample", lambda items: items.append(items[1]))

	def test_key_twice(self):
		self.refuse("twice", lambda items: lines(items[:1]) +
			['{"faults":1,"faults":2}\n'])

	def test_not_a_number(self):
		self.refuse("not JSON", lambda items: items[1].update(seconds=float("nan")))

	def test_missing_key(self):
		self.refuse("blocked", lambda items: items[1].__delitem__("blocked"))

	def test_unknown_key(self):
		self.refuse("extra", lambda items: items[1].update(extra=1))

	def test_wrong_type(self):
		self.refuse("wrong type", lambda items: items[1].update(faults="many"))
		self.refuse("wrong type", lambda items: items[1].update(faults=True))

	def test_negative(self):
		self.refuse("negative", lambda items: items[1].update(pgfault=-1))

	def test_bad_abort_count(self):
		self.refuse("whole number", lambda items: items[1].update(
			spf_abort={"pmd_none": "8"}))

	def test_unannounced(self):
		for change in ({"workload": "other"}, {"mode": "current"}, {"round": 6},
				{"round": 0}, {"threads": 8}):
			with self.subTest(change):
				self.refuse("did not announce",
					lambda items: items[1].update(change))

	def test_nothing_measured(self):
		self.refuse("without faults", lambda items: items[1].update(faults=0))
		self.refuse("without time", lambda items: items[1].update(seconds=0))

	def test_counters_do_not_add_up(self):
		self.refuse("do not add up", lambda items: items[2].update(spf_attempt=1001))
		self.refuse("do not add up", lambda items: items[2].update(pgfault=900))

	def test_speculation_while_off(self):
		self.refuse("was off", lambda items: items[1].update(spf_attempt=1,
			spf_success=1))

	def test_no_speculation_while_on(self):
		def silence(items):
			for item in items[1:]:
				item.update(spf_attempt=0, spf_success=0, spf_abort={})
		self.refuse("nothing was speculated", silence)

	def test_meta(self):
		for text, change in (("schema 1", {"schema": 1}), ("--mode current",
				{"mode": "current"}), ("only 4 rounds", {"rounds": 4}),
				("different ones", {"workloads": []}),
				("different ones", {"workloads": META["workloads"] * 2}),
				("no threads", {"workloads": [{"name": "refault", "threads": 0}]}),
				("keys missing", {"workloads": [{"name": "refault"}]}),
				("not a JSON object", {"workloads": ["refault"]}),
				("no pages", {"cpus": 0})):
			with self.subTest(text):
				self.refuse(text, lambda items: items[0]["meta"].update(change))


def run():
	tests = unittest.TestSuite()
	for case in (Report, Refusals):
		tests.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
	return 0 if unittest.TextTestRunner().run(tests).wasSuccessful() else 1
