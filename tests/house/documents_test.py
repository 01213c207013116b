"""What the documents say is there: files, targets, commands and their options."""

import os
import re
import shlex
import subprocess
import unittest

from tests.house import sources

NAMED = re.compile(r"`((?:base|statestore|sandbox|devices|launcher|protos|"
                   r"tests|examples|tools|docs(?!/interop)|bench)/[\w./-]*\w/?)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
LABEL = re.compile(r"//[\w/]*[\w.]*(?::[\w.-]+)?")
# Programs that a document may call, beside those that the tree builds.
FOREIGN = {"bazel", "git", "python3", "cd", "source", "realpath"}


def is_there(name):
    return any(sources.exists(name + ending)
               for ending in ("", ".h", ".cc", "_sys.h", ".py"))


def commands(markdown):
    """The commands of the blocks of a document: (line, text), joined by \\."""
    found, inside, fence, pending = [], False, "", ""
    for number, line in enumerate(markdown.split("\n"), 1):
        if line.startswith("```"):
            inside, fence, pending = not inside, line[3:].strip(), ""
        elif inside and fence in ("", "sh", "bash"):
            text = pending + line.strip()
            if text.endswith("\\"):
                pending = text[:-1]
                continue
            pending = ""
            first = text.split(" ")[0]
            if re.match(r"(tools|bazel-bin)/[\w/-]+$", first) \
                    or first in FOREIGN or first.startswith("holdfast"):
                found.append((number, text))
    return found


def target_is_there(label):
    """Whether a label is named in its BUILD file (a macro may complete it)."""
    package, _, name = label[2:].partition(":")
    if package.endswith("..."):
        return sources.exists(package[:-3].rstrip("/") or ".")
    build = package + "/BUILD.bazel"
    if not sources.exists(build):
        return False
    name = name or package.split("/")[-1]
    text = sources.text(build)
    return '"%s"' % name in text or '"%s"' % re.sub(
        r"_(test|bench|fuzz|libfuzzer)$", "", name) in text


def options(words):
    return [word.split("=")[0] for word in words if word.startswith("--")]


class Documents(unittest.TestCase):

    def test_what_they_name_is_there(self):
        wrong = []
        for document in sources.tracked(".md"):
            for i, line in enumerate(sources.lines(document)):
                where = "%s:%d: " % (document, i + 1)
                wrong += [where + name for name in NAMED.findall(line)
                          if not is_there(name)]
                wrong += [where + link for link in LINK.findall(line)
                          if not sources.exists(os.path.normpath(os.path.join(
                              os.path.dirname(document), link)))]
        self.assertEqual(wrong, [])

    def test_targets_of_their_commands_are_there(self):
        wrong, seen = [], 0
        for document in sources.tracked(".md"):
            inline = [(i + 1, text) for i, line in
                      enumerate(sources.lines(document))
                      for text in re.findall(r"`((?:bazel|tools/)[^`]*)`", line)]
            for line, text in inline + commands(sources.text(document)):
                for label in LABEL.findall(text):
                    seen += 1
                    if not target_is_there(label):
                        wrong.append("%s:%d: %s" % (document, line, label))
        self.assertEqual(wrong, [])
        self.assertGreater(seen, 5)

    def test_programs_of_their_commands_are_built(self):
        wrong = []
        for document in sources.tracked(".md"):
            for line, text in commands(sources.text(document)):
                for path in re.findall(r"bazel-bin/([\w/-]+)", text):
                    label = "//%s:%s" % os.path.split(path)
                    if not target_is_there(label) and not sources.exists(path):
                        wrong.append("%s:%d: %s" % (document, line, path))
        self.assertEqual(wrong, [])

    def test_tools_know_the_options_that_are_named(self):
        wrong, helps = [], {}
        for document in sources.tracked(".md"):
            inline = [(0, text) for text in re.findall(
                r"`(tools/[\w-]+ [^`]*)`", sources.text(document))]
            for _, text in inline + commands(sources.text(document)):
                words = shlex.split(text.split(" #")[0])
                if not words or not words[0].startswith("tools/"):
                    continue
                tool = words[0]
                if tool not in helps:
                    helps[tool] = subprocess.run(
                        [os.path.join(sources.ROOT, tool), "--help"],
                        capture_output=True, text=True, check=True).stdout
                wrong += ["%s: %s %s" % (document, tool, option)
                          for option in options(words)
                          if option not in helps[tool] + "--help"]
        self.assertEqual(wrong, [])
        self.assertIn("tools/demo", helps)
        self.assertIn("tools/test", helps)

    def test_the_readme_begins_with_two_commands(self):
        text = sources.text("README.md")
        first = [command for line, command in commands(text) if line <= 15]
        self.assertEqual([c.split()[0] for c in first],
                         ["tools/demo", "tools/test"])
        for heading in ("## What it is not", "## Writing a device",
                        "## Limits"):
            self.assertIn(heading, text)

    def test_every_rule_says_what_checks_it(self):
        rules = [line for line in sources.lines("CONTRIBUTING.md")
                 if re.match(r"\d+\. ", line)]
        self.assertGreater(len(rules), 8)
        wrong = [rule for rule in rules
                 if not re.search(r" — .*(`|review)", rule)]
        self.assertEqual(wrong, [])

    def test_decisions_are_numbered_once(self):
        names = [os.path.basename(path) for path in sources.tracked(".md")
                 if path.startswith("docs/decisions/")]
        numbers = [name[:4] for name in names]
        self.assertEqual(len(numbers), len(set(numbers)), names)
        self.assertEqual([n for n in numbers if not n.isdigit()], [])

    def test_finds_what_is_not_there(self):
        self.assertFalse(target_is_there("//statestore:no_such_target"))
        self.assertFalse(target_is_there("//no/such/..."))
        self.assertTrue(target_is_there("//statestore:lane"))
        self.assertFalse(is_there("statestore/no_such_file"))
        self.assertEqual(
            commands("```\ntools/demo \\\n  --kills 3  # x\n```\ntools/a\n"),
            [(3, "tools/demo --kills 3  # x")])


if __name__ == "__main__":
    unittest.main()
