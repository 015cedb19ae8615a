#!/usr/bin/env bash
# Part of esphome.sh: a JBD and a JK battery through the Bluetooth proxy of ESPHome.
. "$(dirname "$0")/../common.sh"
# shellcheck source=tests/lab/esphome/rig.sh
. "$LAB/esphome/rig.sh"

# connections NAME: how often the proxy has connected to this battery.
connections() { grep -c "^connected $1" "$WORK/radio.log" || true; }
has_connections() { [ "$(connections "$1")" -ge "$2" ]; }

lists_batteries() {
  BLE_PROXIES="127.0.0.1:$PORT?key=$KEY" MQTT_HOST='' timeout 90 "$READER" scan >"$WORK/scan" 2>&1 || true
  cat "$WORK/scan"
  grep -q "A4:C1:37:00:12:34" "$WORK/scan" && grep -q "C8:47:80:00:12:34" "$WORK/scan" && ! grep -qF "$KEY" "$WORK/scan"
}

# Batteries with Bluetooth, on a machine without.
bluetooth() {
  local id jbd jk
  start_proxy
  read_through_proxy ble-jbd ble-jk
  for id in ble-jbd ble-jk; do
    check "Bluetooth: $id is read" wait_for 90 is_published "$id/online" true
    check "Bluetooth: $id has values" wait_for 20 has_number "$id/soc"
  done
  jbd=$(connections xiaoxiang)
  jk=$(connections JK_)
  kill -USR1 "$RADIO"
  check "Bluetooth: connections lost: JBD is connected again" wait_for 60 has_connections xiaoxiang $((jbd + 1))
  check "Bluetooth: connections lost: JK is connected again" wait_for 60 has_connections JK_ $((jk + 1))
  check "Bluetooth: connections lost: JBD is read again" wait_for 60 is_published ble-jbd/online true
  check "Bluetooth: connections lost: JK is read again" wait_for 60 is_published ble-jk/online true
  end_child "$DEVICE" KILL
  for id in ble-jbd ble-jk; do
    check "Bluetooth: proxy killed: $id is offline" wait_for 120 is_published "$id/online" false
  done
  device "$NEW" "$KEY"
  for id in ble-jbd ble-jk; do
    check "Bluetooth: proxy back: $id is read again" wait_for 120 is_published "$id/online" true
  done
  check "Bluetooth: the reader stops cleanly" stops_cleanly "$READING" 5
  check "Bluetooth: scan lists both batteries" lists_batteries
}

bluetooth
finish
