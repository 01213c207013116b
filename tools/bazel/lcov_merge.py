#!/usr/bin/python3
"""Turns the gcov JSON files of one test into lcov's format (Bazel's lcov_merger)."""
import argparse
import collections
import glob
import gzip
import json
import os
import re


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--coverage_dir", required=True)
    p.add_argument("--output_file", required=True)
    p.add_argument("--filter_sources", action="append", default=[])
    p.add_argument("--source_file_manifest")
    args, _ = p.parse_known_args()
    skip = [re.compile(f) for f in args.filter_sources]
    lines = collections.defaultdict(collections.Counter)
    for path in glob.glob(os.path.join(args.coverage_dir, "**", "*.gcov.json.gz"), recursive=True):
        with gzip.open(path) as f:
            data = json.load(f)
        for entry in data["files"]:
            name = re.sub(r"^/proc/self/cwd/", "", entry["file"])
            if any(s.fullmatch(name) for s in skip) or name.startswith("bazel-out/"):
                continue
            for line in entry["lines"]:
                lines[name][line["line_number"]] += line["count"]
    with open(args.output_file, "w") as out:
        for name in sorted(lines):
            out.write("SF:%s\n" % name)
            for number in sorted(lines[name]):
                out.write("DA:%d,%d\n" % (number, lines[name][number]))
            out.write("LH:%d\nLF:%d\nend_of_record\n" % (
                sum(1 for c in lines[name].values() if c), len(lines[name])))


main()
