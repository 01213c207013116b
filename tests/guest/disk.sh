#!/bin/sh
# The guest of the disk tests: verified load on the first partition of the disk
# and, if there is a second one, on the ext4 in it, until the time is over or
# the host sends a line. Before that the first 64 KiB of a second disk, if there
# is one to be, are copied behind themselves. From the kernel's command line:
# depth= seconds= span_mib= max_kib= lost_s= gap_ms= disk= second=
second=
disk=vda depth=32 seconds=10 span_mib=64 max_kib=256 lost_s=30 gap_ms=5
for word in $(cat /proc/cmdline); do
  case $word in
    disk=* | depth=* | seconds=* | span_mib=* | max_kib=* | lost_s=* | gap_ms=* | second=*)
      eval "$word" ;;
  esac
done

fail() {
  echo "VMTEST-FAILED $*"
  exit 1
}

[ -b "/dev/$disk" ] || fail "no disk $disk"
if [ -n "$second" ]; then
  dd if="/dev/$second" of="/dev/$second" bs=64k count=1 seek=1 conv=fsync \
    2>/dev/null || fail "cannot copy on $second"
fi
raw=/dev/$disk
files=
# A name that ends with a digit has a letter before the partition's number.
case $disk in
  *[0-9]) part=${disk}p ;;
  *) part=$disk ;;
esac
if [ -b "/dev/${part}2" ]; then
  raw=/dev/${part}1
  mount -t ext4 "/dev/${part}2" /mnt || fail "cannot mount ${part}2"
  mkdir -p /mnt/load
  files=yes
fi
# shellcheck disable=SC2012
echo "BLK-QUEUES $(ls "/sys/block/$disk/mq" | wc -l)"
{
  grep -E 'nvme|virtio' /proc/interrupts
  cat /sys/bus/pci/devices/*/msi_irqs/* 2>/dev/null
} | sed 's/^/BLK-IRQ /'
# What went wrong while the driver found the disk.
dmesg -r | grep -iE '^<[0-4]>.*(nvme|virtio|I/O error|vd[a-z]|blk_|BAR )' |
  sed 's/^/DMESG-NEW /'
before=$(dmesg | wc -l)

blkverify --device "$raw" --depth "$depth" --seconds "$seconds" \
  --span_mib "$span_mib" --max_kib "$max_kib" --gap_ms "$gap_ms" \
  --lost_s "$lost_s" &
block_load=$!
file_load=
if [ -n "$files" ]; then
  fsload --directory /mnt/load --seconds "$seconds" &
  file_load=$!
fi
(read -r _ && kill -TERM $block_load $file_load) </dev/console &
listener=$!

result=0
wait $block_load || result=1
if [ -n "$file_load" ]; then
  wait $file_load || result=1
fi
kill $listener 2>/dev/null

dmesg | tail -n "+$((before + 1))" | sed 's/^/DMESG-NEW /'
echo "DMESG-CHECKED $before"
if [ -n "$files" ]; then
  umount /mnt || fail "cannot unmount ${part}2"
  echo "FS-UNMOUNTED"
fi
exit $result
