#!/bin/bash
# Bazel starts a test as a shell script; this one hands over to Python. The
# working directory is the root of the runfiles.
exec python3 -B tests/harness/run_unittest.py "$@"
