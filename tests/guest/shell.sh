#!/bin/sh
# The guest of the tests that do one thing after the other: executes each line
# that the host sends and says "SHELL-DONE STATUS" when it is done.
stty -echo </dev/console
dmesg -n 1
echo "SHELL-READY"
while read -r line && [ "$line" != bye ]; do
  eval "$line"
  echo "SHELL-DONE $?"
done </dev/console
