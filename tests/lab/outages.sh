#!/usr/bin/env bash
# Counts readings after random outages of the broker, the network and the server for line protocol, and after stops and kills
# of the program: each is at the other end once, in order.
#
#   BMS_READER   the program under test (default: the debug build)
#   OUTAGES      how many (default: 7, one of each kind)
#   SEED         of the random schedule (default: 1)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
packages mosquitto mosquitto-clients || skip "packages cannot be installed"
PATH=$PATH:/usr/sbin:/sbin

# counts MODE: with this MQTT_BACKFILL.
counts() {
  mkdir "$WORK/$1"
  python3 "$LAB/outages/count.py" "$READER" "$WORK/$1" --mode "$1" --outages "${OUTAGES:-7}" --seed "${SEED:-1}"
}

# Each mode in a process of its own, because most of the time passes with waiting.
MODES=(true all)
PIDS=()
for mode in "${MODES[@]}"; do
  start "$mode" counts "$mode"
  PIDS+=("$STARTED")
done
for index in "${!MODES[@]}"; do
  mode=${MODES[index]}
  check "every reading is there once with MQTT_BACKFILL=$mode" wait "${PIDS[index]}"
  grep -v ' of .*: .* s$' "$WORK/$mode.log" | sed 's/^/      | /' || true
done
finish
