#!/usr/bin/env bash
# Part of esphome.sh: another client of the Bluetooth proxy of ESPHome. It is ESPHome's own client library, and it makes the
# calls that Home Assistant makes. ESPHome 2026.10 serves the newest client, so the program could take the proxy away.
. "$(dirname "$0")/../common.sh"
# shellcheck source=tests/lab/esphome/rig.sh
. "$LAB/esphome/rig.sh"

ID=second-jbd
PYTHON=$(dirname "$NEW")/venv-2026.10.0/bin/python
SPARE=A4:C1:37:00:56:01

other_client() {
  start client "$PYTHON" "$LAB/esphome/client.py" "$PORT" "$KEY" serve $SPARE
  OTHER=$STARTED
  wait_for 90 is_served 1 || die "no other client: $(tail -n 3 "$WORK/client.log")"
}

# is_served COUNT: the other client has received so many notifications.
is_served() { [ "$(grep -c ^notification "$WORK/client.log")" -ge "$1" ]; }

# stays_served: for ten seconds it receives what it asks for every half a second, although the program makes attempts.
stays_served() {
  local before
  before=$(grep -c ^notification "$WORK/client.log")
  sleep 10
  is_served $((before + 15)) || { tail -n 5 "$WORK/client.log"; return 1; }
}

start_proxy
other_client
read_through_proxy $ID
USED='used by another program, probably Home Assistant'
check "used by another client: port_busy" wait_for 60 has_failed $ID port_busy "$USED" "do not add it to Home Assistant"
check "used by another client: it is served on" stays_served
check "used by another client: nothing is read" bash -c "! grep '^bms/$ID/raw .*\"error\":null' '$WORK/raw.log'"
end_child "$OTHER"
check "the other client has gone: read" wait_for 120 is_good $ID

mark
other_client
check "taken by another client: port_busy" wait_for 180 has_failed $ID port_busy "$USED" "do not add it to Home Assistant"
check "taken by another client: it is served on" stays_served
end_child "$OTHER"
mark
check "the other client has gone: read again" wait_for 120 is_good $ID
check "the reader stops cleanly" stops_cleanly "$READING" 5
check "no key in a log" keeps_key
finish
