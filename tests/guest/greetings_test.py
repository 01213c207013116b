"""What the guest thinks of a stream of greetings."""

import subprocess
import unittest

from tests.harness import parts


def greetings(*numbers):
    return "".join("hello #%d\n" % n for n in numbers)


def judge(stream):
    """The exit status and the words of the guest's own awk."""
    done = subprocess.run(
        [parts.installed("busybox"), "awk", "-f",
         parts.built("tests/guest/greetings.awk")],
        input=stream, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


class Greetings(unittest.TestCase):

    def test_in_order_they_are_right_wherever_they_start(self):
        self.assertEqual(judge("lo #7\n" + greetings(*range(8, 600)) + "hell"),
                         (0, "RNG-CHECKED 256\nRNG-CHECKED 512\n"
                          "RNG-RESULT 594 599 0\n"))

    def test_a_missing_one_is_found(self):
        status, words = judge(greetings(1, 2, 3, 4, 6, 7, 8))
        self.assertEqual(status, 1)
        self.assertIn("RNG-FINDING after 4 comes hello #6\n", words)

    def test_a_doubled_one_is_found(self):
        status, words = judge(greetings(1, 2, 3, 4, 4, 5, 6))
        self.assertEqual(status, 1)
        self.assertIn("RNG-FINDING after 4 comes hello #4\n", words)

    def test_a_torn_one_is_found(self):
        status, words = judge(greetings(1, 2, 3) + "hello #\n" +
                              greetings(5, 6, 7))
        self.assertEqual(status, 1)
        self.assertIn("RNG-FINDING after 3 comes hello #\n", words)

    def test_a_counter_that_starts_again_is_found(self):
        status, _ = judge(greetings(*range(100, 120), *range(1, 20)))
        self.assertEqual(status, 1)

    def test_what_the_kernel_takes_is_no_loss(self):
        whole = greetings(*range(990, 1030))
        for start in range(30, 60):
            with self.subTest(start):
                self.assertEqual(
                    judge(whole[:start] + whole[start + 64:]),
                    (0, "RNG-RESULT %d 1028 1\n" % (
                        whole[:start] + whole[start + 64:]).count("\n")))

    def test_one_byte_more_or_less_than_the_kernel_takes_is_a_loss(self):
        whole = greetings(*range(990, 1030))
        for size in (63, 65):
            self.assertEqual(judge(whole[:33] + whole[33 + size:])[0], 1)
