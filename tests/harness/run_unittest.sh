#!/bin/bash
# Bazel starts a test as a shell script; this one hands over to Python.
exec python3 -B "$(dirname "$0")/run_unittest.py" "$@"
