"""What the harness reads from a guest's console."""

import io
import os
import threading
import time
import unittest

from tests.harness import console


def clean_lines():
    block = ('{"clean":true,"operations":5,"checked_blocks":3,"errors":0}')
    return [(float(i), text) for i, text in enumerate([
        "[    0.1] Linux version",
        "VMTEST-INIT 6.1",
        "SYNC 10.000000",
        "BLK-START 10.5",
        "BLK-RESULT " + block,
        "FS-RESULT " + block,
        "DMESG-CHECKED 300",
        "VMTEST-EXIT 0",
        "[    3.3] reboot: Power down",
    ])]


def with_line(text, at=5):
    lines = clean_lines()
    return lines[:at] + [(0.0, text)] + lines[at:]


def without(prefix):
    return [line for line in clean_lines() if not line[1].startswith(prefix)]


class Lines(unittest.TestCase):

    def test_are_split_stamped_and_kept_when_unfinished(self):
        before = time.monotonic()
        lines = console.Console(io.BufferedReader(io.BytesIO(
            b"one\r\ntwo\n\xffthree")))
        lines.join()
        self.assertEqual([text for _, text in lines.lines()],
                         ["one", "two", "\N{REPLACEMENT CHARACTER}three"])
        for when, _ in lines.lines():
            self.assertLessEqual(before, when)

    def test_wait_finds_lines_before_and_after_the_call(self):
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as stream:
            lines = console.Console(stream)
            os.write(writer, b"first 1\n")
            self.assertEqual(lines.wait(r"first (\d)", 10)[1][1], "1")
            threading.Timer(0.05, os.write, (writer, b"second\n")).start()
            self.assertIsNotNone(lines.wait("second", 10))
            self.assertIsNone(lines.wait("third", 0.01))
            os.close(writer)
            lines.join()

    def test_wait_ends_with_the_console(self):
        lines = console.Console(io.BufferedReader(io.BytesIO(b"x\n")))
        self.assertIsNone(lines.wait("never", 60))

    def test_wait_can_start_behind_earlier_lines(self):
        lines = console.Console(io.BufferedReader(io.BytesIO(b"a\nb\n")))
        lines.join()
        self.assertIsNotNone(lines.wait("a", 0))
        self.assertIsNone(lines.wait("a", 0, start=1))


class Clocks(unittest.TestCase):

    def test_the_smallest_difference_is_the_offset(self):
        lines = [(105.0, "SYNC 4.000000"), (105.1, "SYNC 5.000000"),
                 (109.0, "SYNC 6.000000")]
        self.assertAlmostEqual(console.clock_offset(lines), 100.1)

    def test_without_sync_lines_there_is_none(self):
        with self.assertRaises(ValueError):
            console.clock_offset([(1.0, "SYNC x")])

    def test_stalls_come_out_in_host_time(self):
        lines = [(100.0, "SYNC 10.000000"), (200.0, "BLK-STALL 20.5 12.5")]
        self.assertEqual(console.stalls(lines), [(110.5, 0.0125)])


class VerdictProblems(unittest.TestCase):

    def problems(self, lines, files=True):
        return console.Verdict(lines).problems(files)

    def test_a_clean_run_has_none(self):
        self.assertEqual(self.problems(clean_lines()), [])

    def test_every_kind_of_damage_is_one(self):
        for text in (
                "BLK-FINDING stale: block 1 must hold write 2",
                "BLK-LOST write of block 7",
                "FS-FINDING read of file 3: block 1 is torn",
                "DMESG-NEW [  3.1] I/O error, dev vda, sector 1",
                "[    9.9] EXT4-fs error (device vda2)",
                "VMTEST-FAILED no disk vda",
        ):
            with self.subTest(text):
                self.assertEqual(len(self.problems(with_line(text))), 1)

    def test_a_flood_is_cut_short(self):
        lines = clean_lines()
        lines[5:5] = [(0.0, "BLK-FINDING %d" % i) for i in range(100)]
        self.assertEqual(self.problems(lines)[4:],
                         ["BLK-FINDING 4", "... and 95 more like these"])

    def test_what_is_missing_is_one(self):
        for prefix in ("BLK-RESULT", "FS-RESULT", "DMESG-CHECKED",
                       "VMTEST-EXIT"):
            with self.subTest(prefix):
                self.assertNotEqual(self.problems(without(prefix)), [])

    def test_an_unclean_result_or_exit_is_one(self):
        lines = [(t, s.replace("true", "false")) for t, s in clean_lines()]
        self.assertEqual(len(self.problems(lines)), 2)
        lines = [(t, s.replace("EXIT 0", "EXIT 1")) for t, s in clean_lines()]
        self.assertEqual(len(self.problems(lines)), 1)

    def test_a_load_that_checked_nothing_is_one(self):
        lines = [(t, s.replace('"checked_blocks":3', '"checked_blocks":0'))
                 for t, s in clean_lines()]
        self.assertEqual(len(self.problems(lines)), 2)

    def test_the_busy_host_is_none(self):
        self.assertEqual(self.problems(with_line(
            "DMESG-NEW [  3.1] clocksource: timekeeping watchdog")), [])

    def test_a_guest_without_files_needs_no_result_of_them(self):
        self.assertEqual(self.problems(without("FS-RESULT"), files=False), [])
