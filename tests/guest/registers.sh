#!/bin/sh
# The guest of the tests of registers: finds the function whose device number is
# device= on the kernel's command line, and has regverify use its BAR 0 until
# the host sends a line.
device=0x00fe
for word in $(cat /proc/cmdline); do
  case $word in
    device=*) eval "$word" ;;
  esac
done
before=$(dmesg | wc -l)
function=$(dirname "$(grep -l "$device" /sys/bus/pci/devices/*/device)")
echo 1 >"$function/enable"
regverify "$function/resource0" &
checker=$!
read -r _ </dev/console
echo stop >/tmp/stop
wait $checker
result=$?
dmesg | tail -n "+$((before + 1))" | sed 's/^/DMESG-NEW /'
echo "DMESG-CHECKED $before"
exit $result
