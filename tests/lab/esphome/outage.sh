#!/usr/bin/env bash
# Part of esphome.sh: a Bluetooth proxy of ESPHome that is lost in the middle of a reply, and one that is connected and
# answers nothing.
. "$(dirname "$0")/../common.sh"
# shellcheck source=tests/lab/esphome/rig.sh
. "$LAB/esphome/rig.sh"

ID=outage-jbd

start_proxy
read_through_proxy $ID
check "read" wait_for 90 is_good $ID

mark
faults '{"jbd": {"cut": true}}'
check "proxy lost in the middle of a reply: disconnected" wait_for 60 has_failed $ID disconnected \
  "the connection to the Bluetooth proxy was lost" .
check "proxy lost in the middle of a reply: adapter_not_found" wait_for 60 has_failed $ID adapter_not_found \
  "Bluetooth proxy cannot be reached" "power and the Wi-Fi"
rm "$WORK/faults"
mark
device "$NEW" "$KEY"
check "proxy back: read again" wait_for 90 is_good $ID

kill -STOP "$DEVICE"
sleep 2
mark
check "proxy frozen: offline" wait_for 120 is_published $ID/online false
check "proxy frozen: adapter_not_found" wait_for 200 has_failed $ID adapter_not_found "cannot be reached: it does not answer" \
  "power and the Wi-Fi"
mark
kill -CONT "$DEVICE"
check "proxy thawed: read again" wait_for 120 is_good $ID
check "the reader stops cleanly" stops_cleanly "$READING" 5
check "no key in a log" keeps_key
finish
