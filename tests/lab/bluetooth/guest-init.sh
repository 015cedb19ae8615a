#!/bin/busybox sh
# Runs twice in the guest: as /init of the initramfs, then as process 1 of the root folder, where it
# starts D-Bus, attaches the Bluetooth controller and runs guest-main.sh. Everything but busybox comes
# from the packages in the root folder.
bb=/bin/busybox
if [ "$1" != inside ]; then
  $bb mount -t proc proc /proc
  $bb mount -t sysfs sys /sys
  $bb mount -t devtmpfs dev /dev
  for module in /mod/*.ko; do $bb insmod "$module" || echo "insmod $module failed"; done
  shared=trans=virtio,version=9p2000.L,msize=262144
  $bb mount -t 9p -o $shared,ro,cache=loose root /new || $bb poweroff -f
  $bb mount -t 9p -o $shared,cache=none job /new/job || $bb poweroff -f
  for folder in proc sys dev; do $bb mount -o move /$folder /new/$folder; done
  exec $bb switch_root /new /bin/busybox sh /job/guest-init.sh inside
fi
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec/bluetooth HOME=/tmp
for folder in run tmp var/lib/bluetooth; do $bb mount -t tmpfs tmpfs /$folder; done
$bb mkdir -p /run/dbus
$bb hostname guest
$bb ip link set lo up
# The network has the broker's port on the host and nothing else.
$bb ip link set eth0 up
$bb ip addr add 10.0.2.15/24 dev eth0
dbus-daemon --system --nofork --nopidfile --nosyslog >/job/dbus.log 2>&1 &
btattach -B /dev/ttyS1 -P h4 >/job/btattach.log 2>&1 &
while [ ! -S /run/dbus/system_bus_socket ]; do $bb usleep 50000; done
$bb sh /job/guest-main.sh >/job/guest-main.log 2>&1
$bb dmesg >/job/dmesg.log
$bb sync
$bb poweroff -f
