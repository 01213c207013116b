#!/bin/sh
# /init of the test guest: mounts the usual, loads the modules, runs /run.sh and
# powers off. Only the VMTEST-EXIT line says that it came to its end: after a
# panic QEMU exits with status 0 as well.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "VMTEST-INIT $(uname -r)"
while read -r module; do
  insmod "/lib/modules/$module" || echo "VMTEST-INSMOD-FAILED $module"
done </lib/modules/order
/run.sh
echo "VMTEST-EXIT $?"
sync
poweroff -f
