"""How large things may be, how much of them is tested, and what is there twice."""

import collections
import re
import unittest

from tests.house import sources

HEADER_LINES = 250
SOURCE_LINES = 500
# Files that are longer, and how long: a number may only shrink.
LONGER = {
}
FUNCTION_LINES = 80
# Most functions are much shorter.
USUAL_FUNCTION_LINES = 40
LONGER_THAN_USUAL = 0.01

ROOMS = [
    "base", "statestore", "statestore/store", "sandbox", "launcher",
    "launcher/api", "launcher/cli",
] + sorted({"/".join(path.split("/")[:2])
            for path in sources.tracked("BUILD.bazel")
            if path.startswith("devices/") and path.count("/") > 1})

# Where the tests of a room are that need more than the room.
TESTED_BY = {
    "devices/keeper": ["tests/interop/wrapped_blkio_test.py"],
    "devices/pci_nvme": ["tests/qemu/pci_nvme_test.py"],
    "devices/runtime": ["tests/recovery/", "tests/confinement/"],
    "devices/virtio_blk": ["tests/qemu/virtio_blk_test.py",
                           "tests/qemu/holdfast_test.py"],
    "devices/virtio_rng": ["tests/qemu/hello_test.py"],
}

TEST_RATIO = 0.8
# Rooms that have less, and how much they have. A number may only grow, and a
# room that has reached TEST_RATIO leaves the list.
BELOW = {
}

# So many equal lines in a row, of those that say something, are a copy.
COPY_LINES = 8


def room_of(path):
    for room, tests in TESTED_BY.items():
        if path.startswith(tuple(tests)):
            return room
    inside = [room for room in ROOMS if path.startswith(room + "/")]
    return max(inside, key=len) if inside else None


def ratios():
    """Room -> lines of tests for each line of source, blank ones not counted."""
    counts = {room: [0, 0] for room in ROOMS}
    for path in sources.tracked(".h", ".cc", ".py", ".sh"):
        room = room_of(path)
        if room and not path.endswith("_bench.cc"):
            is_test = bool(sources.TEST_CODE.search(path))
            counts[room][is_test] += sum(
                1 for line in sources.lines(path) if line.strip())
    return {room: tests / source
            for room, (source, tests) in counts.items() if source}


def copies(files):
    """Pairs of places that share COPY_LINES lines. `files`: path -> text."""
    seen = collections.defaultdict(list)
    for path, text in files.items():
        telling = [(i + 1, line.strip())
                   for i, line in enumerate(text.split("\n"))
                   if len(re.sub(r"\W", "", line)) >= 3
                   and not re.match(r"\s*(//|#|using |import |from )", line)]
        for k in range(len(telling) - COPY_LINES + 1):
            piece = telling[k:k + COPY_LINES]
            seen["\n".join(line for _, line in piece)].append(
                "%s:%d" % (path, piece[0][0]))
    return sorted(" and ".join(places) for places in seen.values()
                  if len(places) > 1)


def listing(functions, limit):
    return ["%s:%d: %d lines: %s" % (path, line, size, heading[:60])
            for path, line, size, heading in functions if size > limit]


class Size(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.functions = [
            (path, line, size, heading)
            for path in sources.tracked(".h", ".cc")
            for line, size, heading in sources.functions(sources.text(path))]

    def test_of_headers_and_sources(self):
        too_long = []
        for path in sources.tracked(".h", ".cc"):
            limit = LONGER.get(path, HEADER_LINES if path.endswith(".h")
                               else SOURCE_LINES)
            size = len(sources.lines(path))
            if size > limit and not sources.TEST_CODE.search(path):
                too_long.append("%s: %d lines" % (path, size))
        self.assertEqual(too_long, [], "split by concept")
        self.assertEqual([path for path in LONGER
                          if len(sources.lines(path)) < LONGER[path]], [],
                         "take it out of LONGER, or write the number down")

    def test_of_functions(self):
        self.assertEqual(listing(self.functions, FUNCTION_LINES), [])
        longer = listing(self.functions, USUAL_FUNCTION_LINES)
        self.assertLessEqual(len(longer),
                             LONGER_THAN_USUAL * len(self.functions), longer)

    def test_finds_functions_and_their_ends(self):
        self.assertGreater(len(self.functions), 1000)
        found = sources.functions(
            "namespace a {\n"
            "class B : public C {\n"
            " public:\n"
            "  int D() const { return '}' + 1'000; }\n"
            "  void E(\n"
            "      int f) override {\n"
            "    // }\n"
            "    auto g = [&](int h) {\n"
            "      return \"{\";\n"
            "    };\n"
            "  }\n"
            "};\n"
            "constexpr int kI[] = {1, (2), 3};\n"
            "TEST(B, Works) {\n"
            "}\n"
            "}  // namespace a\n")
        self.assertEqual([f[:2] for f in found], [(4, 1), (5, 7), (14, 2)])

    def test_of_tests_compared_with_sources(self):
        wrong = []
        for room, ratio in ratios().items():
            print("%-22s %.2f" % (room, ratio))
            if ratio < BELOW.get(room, TEST_RATIO):
                wrong.append("%s has %.2f lines of tests a line of source, "
                             "wanted %.2f" % (room, ratio,
                                              BELOW.get(room, TEST_RATIO)))
        self.assertEqual(wrong, [])

    def test_the_exceptions_are_needed(self):
        now = ratios()
        self.assertEqual([room for room in BELOW if room not in now], [])
        reached = ["%s has %.2f" % (room, now[room]) for room in BELOW
                   if now[room] >= TEST_RATIO]
        self.assertEqual(reached, [], "take it out of BELOW")

    def test_nothing_is_there_twice(self):
        files = {path: sources.text(path)
                 for path in sources.tracked(".cc", ".py", ".sh")}
        self.assertEqual(copies(files), [], "let one piece serve both")

    def test_finds_what_is_there_twice(self):
        body = "".join("  Call%d(argument);\n" % i for i in range(COPY_LINES))
        files = {"a.cc": "// A.\n" + body, "b.cc": body.replace("\n", "\n\n")}
        self.assertEqual(copies(files), ["a.cc:2 and b.cc:1"])
        self.assertEqual(copies({"a.cc": body, "c.cc": body[:-30]}), [])


if __name__ == "__main__":
    unittest.main()
