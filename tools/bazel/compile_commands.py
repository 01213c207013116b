#!/usr/bin/python3
"""Writes compile_commands.json from `bazel aquery --output=jsonproto` on standard input."""
import json
import os
import sys

GCC_ONLY = {"-fno-canonical-system-headers", "-Wunused-but-set-parameter", "-Wno-free-nonheap-object"}


def main():
    root = os.getcwd()
    seen = {}
    for action in json.load(sys.stdin)["actions"]:
        args = action["arguments"]
        if "-c" not in args:
            continue
        src = args[args.index("-c") + 1]
        if src.startswith(("bazel-out/", "external/")) or src in seen:
            continue
        seen[src] = {"directory": root, "file": src,
                     "arguments": [a for a in args if a not in GCC_ONLY]}
    with open("compile_commands.json", "w") as f:
        json.dump(list(seen.values()), f, indent=1)
    print(len(seen), "files")


main()
