#!/bin/sh
# The guest of the tests of entropy devices: reads /dev/hwrng and checks what it
# reads until the host sends a line. From the kernel's command line: check=
#   greetings   lines "hello #N": see greetings.awk
#   random      64 bytes at a time, none of them twice
# Says RNG-CHECKED every 256 checks. What was read and is not checked yet fits
# into a pipe.
check=random
for word in $(cat /proc/cmdline); do
  case $word in
    check=*) eval "$word" ;;
  esac
done
export STOP=/tmp/stop
before=$(dmesg | wc -l)

if [ "$check" = greetings ]; then
  # In pieces of the kernel's own buffer: of a smaller one it gives the end
  # first.
  dd if=/dev/hwrng bs=64 2>/dev/null | awk -f /bin/greetings.awk &
else
  hexdump -v -e '64/1 "%02x" "\n"' /dev/hwrng | awk '
    $0 in seen { print "RNG-FINDING twice: " $0; bad = 1 }
    { seen[$0] = 1 }
    NR % 256 == 0 {
      print "RNG-CHECKED " NR
      if ((getline line < ENVIRON["STOP"]) > 0) exit
    }
    END { print "RNG-RESULT " NR; exit bad }' &
fi
checker=$!
read -r _ </dev/console
echo stop >$STOP
wait $checker
result=$?
dmesg | tail -n "+$((before + 1))" | sed 's/^/DMESG-NEW /'
echo "DMESG-CHECKED $before"
exit $result
