#!/bin/bash
# Bazel starts a benchmark as a shell script; this one hands over to Python.
exec python3 -B -m "$1" "${@:2}"
