#!/bin/busybox sh
# In the guest: runs bluetoothd and the program under test. The host makes a request by a file in
# /job/requests, which is moved to /job/done when it is carried out.
bb=/bin/busybox
system_bus=unix:path=/run/dbus/system_bus_socket
export DBUS_SYSTEM_BUS_ADDRESS=$system_bus

start_bluetoothd() {
  bluetoothd -n >>/job/bluetoothd.log 2>&1 &
  bluetoothd=$!
}

powered() {
  dbus-send --system --print-reply --dest=org.bluez /org/bluez/hci0 \
    org.freedesktop.DBus.Properties.Set string:org.bluez.Adapter1 string:Powered "variant:boolean:$1"
}

uptime() { $bb cut -d' ' -f1 /proc/uptime; }

carry_out() {
  echo "$(uptime) $1"
  case $1 in
    kill-bluetoothd) kill -9 $bluetoothd ;;
    start-bluetoothd) start_bluetoothd ;;
    adapter-off) powered false ;;
    adapter-on) powered true ;;
    stop)
      kill -TERM $reader
      wait $reader
      echo $? >/job/status
      ;;
  esac
  echo "$(uptime) done"
}

cd /job || exit 1
start_bluetoothd
. ./environment
./bms-reader >reader.log 2>&1 &
reader=$!
until [ -e done/end ]; do
  for request in requests/*; do
    [ -e "$request" ] || continue
    carry_out "${request#requests/}"
    $bb mv "$request" done/
  done
  $bb usleep 200000
done
