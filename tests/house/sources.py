"""The checkout as the tests of the house see it: files, lines, functions.

They run on the checkout that they were built from (its CONTRIBUTING.md is a
link into it), so they see every file, also one that no target names.
"""

import os
import re
import subprocess

ROOT = os.path.dirname(os.path.realpath("CONTRIBUTING.md"))

# Test code: its size counts on the other side of the ratio.
TEST_CODE = re.compile(r"(_test|_fuzz)\.(cc|py|sh)$|/testing/|^tests/")


def tracked(*endings):
    """Files that git tracks and that are there."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "-c", "safe.directory=*", "ls-files"],
        capture_output=True, text=True, check=True).stdout.split("\n")
    return [f for f in listed if f.endswith(endings)
            and os.path.isfile(os.path.join(ROOT, f))]


def text(path):
    with open(os.path.join(ROOT, path), encoding="utf-8",
              errors="replace") as f:
        return f.read()


def lines(path):
    return text(path).rstrip("\n").split("\n")


def exists(path):
    return os.path.exists(os.path.join(ROOT, path))


def find(pattern, endings, why_not=lambda path, line: False):
    """Where `pattern` matches a line, as "path:number: line"."""
    pattern = re.compile(pattern)
    return ["%s:%d: %s" % (path, i + 1, line.strip())
            for path in tracked(*endings)
            for i, line in enumerate(lines(path))
            if pattern.search(line) and not why_not(path, line)]


def without_comments(cpp):
    """C++ with comments, literals and preprocessor lines blank, lines kept."""
    digits = re.compile(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])")
    token = re.compile(
        r"//[^\n]*|/\*.*?\*/|R\"([^(]*)\(.*?\)\1\""
        r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", re.S)
    directive = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.M)

    def blank(match):
        found = match.group(0)
        rest = "\n" * found.count("\n")
        return rest if found[0] in "/ \t#" else '""' + rest
    return directive.sub(blank, token.sub(blank, digits.sub("", cpp)))


_NO_FUNCTION = re.compile(
    r"(namespace|class|struct|enum|union|extern|typedef"
    r"|if|else|for|while|switch|do|try|catch|return|case|default)\b")


def functions(cpp):
    """The functions of formatted C++ as (first line, lines, heading).

    A lambda or a local class counts as part of the function around it.
    """
    found = []
    blocks = []  # (is a function, first line, heading, parentheses outside)
    line, parentheses, heading, first = 1, 0, "", 0
    for c in without_comments(cpp):
        if c == "\n":
            line += 1
        parentheses += {"(": 1, ")": -1}.get(c, 0)
        if c == "{":
            words = re.sub(r"^template\s*<.*?>\s*", "", heading.strip())
            blocks.append((
                parentheses == 0 and "(" in words
                and not _NO_FUNCTION.match(words)
                and not words.endswith("=")
                and not any(block[0] for block in blocks),
                first or line, words, parentheses))
            parentheses, heading, first = 0, "", 0
        elif c == "}" and blocks:
            is_function, begin, words, parentheses = blocks.pop()
            if is_function:
                found.append((begin, line - begin + 1, words))
            heading, first = "", 0
        elif (c == ";" and parentheses == 0) or (
                c == ":" and heading in ("public", "private", "protected")):
            heading, first = "", 0
        else:
            if not first and not c.isspace():
                first = line
            if first:
                heading += c
    return found
