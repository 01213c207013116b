#!/usr/bin/python3
"""Reads Bazel's build event file and ends with 'N passed, N failed, N skipped' (test cases)."""
import json
import sys
import urllib.parse
import xml.etree.ElementTree as ET

SLOWEST = 10


def count(path):
    passed = failed = skipped = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main():
    total = [0, 0, 0]
    with open(sys.argv[1]) as f:
        events = [json.loads(line) for line in f]
    targets, seconds = {}, {}
    for e in events:
        kind = e["id"]
        if "testResult" in kind and "testResult" in e:
            label = kind["testResult"]["label"]
            t = targets.setdefault(label, {"xml": {}, "status": ""})
            seconds[label] = seconds.get(label, 0) + float(
                e["testResult"].get("testAttemptDurationMillis", 0)) / 1000
            key = (kind["testResult"].get("run", 0), kind["testResult"].get("shard", 0))
            for out in e["testResult"].get("testActionOutput", []):
                if out["name"] == "test.xml":
                    t["xml"][key] = urllib.parse.urlparse(out["uri"]).path
        if "testSummary" in kind and "testSummary" in e:
            label = kind["testSummary"]["label"]
            targets.setdefault(label, {"xml": {}, "status": ""})["status"] = e["testSummary"]["overallStatus"]
        if "targetCompleted" in kind and "completed" in e and not e["completed"].get("success"):
            targets.setdefault(kind["targetCompleted"]["label"], {"xml": {}, "status": "BUILD_FAILED"})
    for label, t in sorted(targets.items()):
        n = [0, 0, 0]
        for path in t["xml"].values():
            try:
                n = [a + b for a, b in zip(n, count(path))]
            except (OSError, ET.ParseError):
                n[1] += 1
        if t["status"] not in ("PASSED", "FLAKY") and n[1] == 0:
            n[1] = 1  # crashed, timed out, did not build, or a sanitizer's exit code
        print("%-44s %-12s %d passed, %d failed, %d skipped" % (label, t["status"], *n))
        total = [a + b for a, b in zip(total, n)]
    slowest = sorted(seconds, key=seconds.get, reverse=True)[:SLOWEST]
    print("tests took %.0f s one after the other; the slowest:" % sum(seconds.values()))
    for label in slowest:
        print("%7.1f s  %s" % (seconds[label], label))
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] or not total[0] else 0


sys.exit(main())
