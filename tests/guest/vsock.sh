#!/bin/sh
# The guest of the tests of sockets between guest and host: talks to the host's
# port 1234 (vsock_talk_sys.cc) until the host sends a line.
before=$(dmesg | wc -l)
/bin/vsock_talk 1234 &
talker=$!
read -r _ </dev/console
kill $talker
dmesg | tail -n "+$((before + 1))" | sed 's/^/DMESG-NEW /'
echo "DMESG-CHECKED $before"
