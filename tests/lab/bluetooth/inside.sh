#!/bin/busybox sh
# In the guest: bluetoothd, the program under test as a service, and a hand for the host, which asks
# for something by a file in /job/orders. The answer is the same name in /job/done.
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

obey() {
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
  for order in orders/*; do
    [ -e "$order" ] || continue
    obey "${order#orders/}"
    $bb mv "$order" done/
  done
  $bb usleep 200000
done
