#!/usr/bin/env bash
# Part of esphome.sh: what goes wrong between the Bluetooth proxy of ESPHome and a battery, and what the program
# publishes about it.
. "$(dirname "$0")/../common.sh"
# shellcheck source=tests/lab/esphome/rig.sh
. "$LAB/esphome/rig.sh"

JBD=faults-jbd
ID=$JBD
CLIENT=$(dirname "$NEW")/venv-2026.10.0/bin/python

# No fault any more: the next read is good.
recovers() {
  rm -f "$WORK/faults"
  mark
  read_now "$ID"
  check "$1 is over: read again" wait_for 90 is_good "$ID"
}

# occupied: another client uses all connections of the proxy.
occupied() {
  start client "$CLIENT" "$LAB/esphome/client.py" "$PORT" "$KEY" occupy A4:C1:37:00:56:0{1,2,3}
  wait_for 90 grep -q occupied "$WORK/client.log" || die "no other client: $(tail -n 3 "$WORK/client.log")"
}

start_proxy
read_through_proxy $JBD faults-jk
for id in $JBD faults-jk; do
  check "$id is read" wait_for 90 is_good "$id"
done

# ESPHome reports a connection when it has read the services. Title, faults, error.type, words of the message, words of the hint.
while IFS='|' read -r title fault type text hint; do
  mark
  faults "{\"jbd\": {$fault}}"
  check "$title: $type" wait_for 90 has_failed $JBD "$type" "$text" "$hint"
  recovers "$title"
done <<'TABLE'
a weak signal|"connect": 133|connect_failed|signal is too weak .reason 133.|closer
a connect that never ends|"connect": "hang"|connect_failed|connecting took too long|closer
services that never end|"services": "hang"|connect_failed|connecting took too long|closer
a refused subscription|"notify": 14|connect_failed|subscribing failed: GATT error .error 14.|closer
a descriptor that is never written|"descriptor": "hang"|connect_failed|subscribing took too long|closer
outdated services|"descriptor": 1|connect_failed|outdated list of its services|closer
a failed write|"write": 133|disconnected|writing failed: GATT error .error 133.|closer
a write that is never confirmed|"write": "hang"|disconnected|accepts no data|closer
a battery that wants a PIN|"write": 5|auth_failed|wants a PIN|adapter
lost notifications|"lose": 1|timeout|no answer|.
TABLE

mark
faults '{"all": {"mtu": 23, "lose": 31}}'
kill -USR1 "$RADIO"
for ID in $JBD faults-jk; do
  check "$ID is read with an MTU of 23 and one of 31 notifications lost" wait_for 90 is_good "$ID"
done
ID=$JBD
rm "$WORK/faults"

mark
occupied
check "no free connection: connect_failed" wait_for 60 has_failed $JBD connect_failed \
  "all 3 connections of the Bluetooth proxy are in use" connection_slots
end_child "$STARTED"
recovers "no free connection"

mark
faults '{"jbd": {"hidden": true}}'
check "a battery out of reach: device_not_found" wait_for 120 has_failed $JBD device_not_found \
  "lab-host does not see A4:C1:37:00:12:34" .
faults '{"all": {"hidden": true}}'
kill -USR1 "$RADIO"
check "nothing in reach: adapter_not_found" wait_for 150 has_failed $JBD adapter_not_found \
  "receives no Bluetooth device at all" restart
recovers "nothing in reach"
check "the reader stops cleanly" stops_cleanly "$READING" 5
check "no key in a log" keeps_key
finish
