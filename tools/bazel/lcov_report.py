#!/usr/bin/python3
"""Adds up the lcov files of all tests (Bazel's coverage report generator)."""
import argparse
import collections


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--reports_file", required=True)
    p.add_argument("--output_file", required=True)
    args, _ = p.parse_known_args()
    lines = collections.defaultdict(collections.Counter)
    with open(args.reports_file) as f:
        reports = [r.strip() for r in f if r.strip().endswith(".dat")]
    for path in reports:
        name = None
        with open(path) as f:
            for row in f:
                row = row.strip()
                if row.startswith("SF:"):
                    name = row[3:]
                elif row.startswith("DA:"):
                    number, count = row[3:].split(",")[:2]
                    lines[name][int(number)] += int(count)
    with open(args.output_file, "w") as out:
        for name in sorted(lines):
            out.write("SF:%s\n" % name)
            for number in sorted(lines[name]):
                out.write("DA:%d,%d\n" % (number, lines[name][number]))
            hit = sum(1 for c in lines[name].values() if c)
            out.write("LH:%d\nLF:%d\nend_of_record\n" % (hit, len(lines[name])))


main()
