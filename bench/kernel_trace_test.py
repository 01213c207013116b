import unittest

from bench import kernel_trace

TRACE = """\
# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
 holdfast-keeper-4711    [001] .....    12.500123: sys_enter: NR 46 (5, 7ffd, 40, 0, 0, 0)
 holdfast-keeper-4711    [001] .....    12.500140: sys_exit: NR 46 = 20
       qemu-stor-5 x-815     [000] d..2.    12.499000: sched_process_exit: comm=qemu pid=815 prio=120
           a b-c-900     [000] .....    12.600000: sys_exit: NR 271 = -4
"""


class KernelTrace(unittest.TestCase):

    def test_lines_become_events(self):
        events = [kernel_trace.parse(line) for line in TRACE.splitlines()]
        self.assertEqual(events, [
            None, None, None,
            (12.500123, 4711, "sys_enter", 46, 0),
            (12.500140, 4711, "sys_exit", 46, 20),
            (12.499, 815, "sched_process_exit", -1, 0),
            (12.6, 900, "sys_exit", 271, -4)])

    def test_what_is_no_line_of_it_is_none(self):
        for line in ("", "x", "CPU:0 [LOST 12 EVENTS]", "-1 [0] 2.0: x"):
            self.assertIsNone(kernel_trace.parse(line))


if __name__ == "__main__":
    unittest.main()
