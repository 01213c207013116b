#!/usr/bin/python3
"""check_descriptor.py PROGRAM DESCRIPTOR

Fails when a device's file for QEMU's vhost-user directory breaks QEMU's schema
(docs/interop/vhost-user.json) or does not say what the program says of itself.
"""

import json
import os
import re
import subprocess
import sys

TYPES = ["9p", "balloon", "block", "caif", "console", "crypto", "gpu", "input",
         "net", "rng", "rpmsg", "rproc-serial", "scsi", "vsock", "fs"]
# VHostUserBackendBlockFeature and its relatives, by type.
FEATURES = {"block": ["read-only", "blk-file"],
            "input": ["evdev-path", "no-grab"],
            "gpu": ["render-node", "virgl"]}


def findings(name, text, capabilities):
    """What is wrong with the descriptor `text` in the file `name`."""
    wrong = []
    try:
        descriptor = json.loads(text)
        said = json.loads(capabilities)
    except ValueError as error:
        return ["no JSON: %s" % error]
    if not re.fullmatch(r"[0-9]{2}-[a-z0-9.-]+\.json", name):
        wrong.append("%s: name it 50-NAME.json, files are read in order" % name)
    for key in ("description", "type", "binary"):
        if not isinstance(descriptor.get(key), str) or not descriptor[key]:
            wrong.append("%s is missing or no text" % key)
    extra = set(descriptor) - {"description", "type", "binary", "tags"}
    if extra:
        wrong.append("QEMU's schema has no %s" % ", ".join(sorted(extra)))
    if descriptor.get("type") not in TYPES:
        wrong.append("QEMU has no type %r" % descriptor.get("type"))
    if said.get("type") != descriptor.get("type"):
        wrong.append("the program says it is of type %r, the file says %r" %
                     (said.get("type"), descriptor.get("type")))
    if not str(descriptor.get("binary")).startswith("/"):
        wrong.append("binary is no absolute path")
    for feature in said.get("features", []):
        if feature not in FEATURES.get(said.get("type"), []):
            wrong.append("QEMU's schema has no feature %r for %r" %
                         (feature, said.get("type")))
    return wrong


def main():
    program, path = sys.argv[1:]
    with open(path, encoding="utf-8") as f:
        text = f.read()
    said = subprocess.run([program, "--print-capabilities"], check=True,
                          capture_output=True, text=True).stdout
    wrong = findings(os.path.basename(path), text, said)
    binary = os.path.basename(json.loads(text).get("binary", ""))
    if binary != os.path.basename(program):
        wrong.append("binary is %s, the program is %s" % (binary, program))
    for finding in wrong:
        print("%s: %s" % (path, finding))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
