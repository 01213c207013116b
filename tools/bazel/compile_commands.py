#!/usr/bin/python3
"""Writes compile_commands.json for editors and clang-tidy.

Reads what `bazel aquery --output=jsonproto` says of the compile actions on standard input;
the arguments are the sources that must be in it.
"""
import json
import os
import sys

GCC_ONLY = {"-fno-canonical-system-headers", "-Wunused-but-set-parameter", "-Wno-free-nonheap-object"}


def portable(arguments):
    """What clang takes too, and what writes nothing: -MF names a directory of the build."""
    files = iter(arguments)
    return [a for a in files
            if a not in GCC_ONLY and a != "-MD" and not a.startswith("-frandom-seed=")
            and not (a == "-MF" and next(files))]


def commands(aquery, root):
    """One entry a source of the tree, by its path."""
    found = {}
    for action in aquery.get("actions", []):
        arguments = action["arguments"]
        if "-c" not in arguments:
            continue
        source = arguments[arguments.index("-c") + 1]
        if not source.startswith(("bazel-out/", "external/")):
            found.setdefault(source, {"directory": root, "file": source, "arguments": portable(arguments)})
    return found


def main():
    found = commands(json.load(sys.stdin), os.getcwd())
    with open("compile_commands.json", "w") as f:
        json.dump(list(found.values()), f, indent=1)
    missing = sorted(set(sys.argv[1:]) - set(found))
    for source in missing:
        print("in no target:", source)
    print("%d sources, %d missing" % (len(found), len(missing)))
    return 1 if missing or not found else 0


if __name__ == "__main__":
    sys.exit(main())
