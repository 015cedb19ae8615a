# shellcheck shell=bash
# Sourced by esphome.sh and its parts: ESPHome devices, and what the program publishes about the batteries behind them.
# $BROKER is the port of Mosquitto, $READER the program, $NEW the ESPHome that has a Bluetooth proxy.
# shellcheck disable=SC2034  # the parts use what is set here

# device PROGRAM KEY: starts ESPHome on $PORT with the batteries `bus` and `other`.
device() {
  mkdir -p "$WORK/state"
  start device env ESPHOME_PORT="$PORT" ESPHOME_KEY="$2" ESPHOME_PREFDIR="$WORK/state" \
    ESPHOME_UART="$(readlink -f "$WORK/bus")" ESPHOME_UART2="$(readlink -f "$WORK/other")" "$1"
  DEVICE=$STARTED
  wait_for 20 port_answers "$PORT" || die "ESPHome does not start: $(tail -n 3 "$WORK/device.log")"
}

published() { mosquitto_sub -h 127.0.0.1 -p "$BROKER" -C 1 -W 2 -t "bms/$1" 2>/dev/null || true; }
is_published() { published "$1" | grep -qx "$2"; }
has_number() { published "$1" | grep -qE '^-?[0-9.]+$'; }

# start_proxy: ESPHome as a Bluetooth proxy on $PORT, and the batteries in its reach. `faults` steers them.
start_proxy() {
  PORT=$(free_port)
  start radio python3 "$LAB/esphome/radio.py" "$WORK/radio" "$REPOSITORY/tests/vectors" "$WORK/faults"
  RADIO=$STARTED
  wait_for 60 test -S "$WORK/radio" || die "radio.py does not start: $(tail -n 3 "$WORK/radio.log")"
  export ESPHOME_RADIO=$WORK/radio
  device "$NEW" "$KEY"
}

# faults JSON: see radio.py.
faults() {
  printf '%s' "$1" >"$WORK/faults.new"
  mv "$WORK/faults.new" "$WORK/faults"
}

# read_through_proxy TYPE ID...: reads the battery of this type, with what the program publishes in $WORK/raw.log.
read_through_proxy() {
  local id address devices=()
  start raw mosquitto_sub -h 127.0.0.1 -p "$BROKER" -v -t 'bms/+/raw'
  for id in "$@"; do
    case $id in *jk) address=C8:47:80:00:12:34 ;; *) address=A4:C1:37:00:12:34 ;; esac
    devices+=("{\"id\": \"$id\", \"type\": \"${id##*-}\", \"address\": \"$address\", \"adapter\": \"proxies\"}")
  done
  start reader env MQTT_CLIENT_ID="$STEP" BLE_PROXIES="127.0.0.1:$PORT?key=$KEY" \
    DEVICES="[$(IFS=,; echo "${devices[*]}")]" "$READER"
  READING=$STARTED
  mark
}

# What is published from now on is new.
mark() { MARK=$(stat -c %s "$WORK/raw.log"); }
new_reads() { tail -c "+$((MARK + 1))" "$WORK/raw.log" | grep "^bms/$1/raw "; }
is_good() { new_reads "$1" | grep -F '"error":null' >/dev/null; }

# has_failed ID TYPE TEXT HINT: with this `error.type`, and these words in the message and in the hint.
has_failed() {
  new_reads "$1" | grep -F "\"error\":{\"type\":\"$2\"" | grep -E "\"message\":\"[^\"]*$3" |
    grep -E "\"hint\":\"[^\"]*$4" >/dev/null
}

# read_now ID: instead of after the pause that a failure is followed by.
read_now() { mosquitto_pub -h 127.0.0.1 -p "$BROKER" -t "bms/$1/cmd/read" -m now; }
keeps_key() { ! grep -F -e "$KEY" "$WORK"/*.log; }
