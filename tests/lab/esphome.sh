#!/usr/bin/env bash
# The program with the real ESPHome and a real broker: wired batteries on its serial proxies, and others on its
# Bluetooth proxy.
#
#   BMS_READER   the program under test (default: the debug build)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
packages mosquitto mosquitto-clients || skip "Mosquitto cannot be installed"
PATH=$PATH:/usr/sbin:/sbin
export KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
OTHER_KEY=BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
BROKER=$(free_port)
# shellcheck source=tests/lab/esphome/rig.sh
. "$LAB/esphome/rig.sh"
export BROKER READER
export BMS_OPTIONS_FILE=$WORK/none HTTP_LISTEN=off MQTT_HOST=127.0.0.1 MQTT_PORT=$BROKER READ_INTERVAL=1

# The first generation answers no request of a port, the second one reports a port that is in use.
OLD=$("$LAB/esphome/build.sh" 2026.6.5 python3 | tail -n 1) || skip "ESPHome cannot be installed"
HOME_ASSISTANT=$("$LAB/home-assistant/install.sh" | tail -n 1) || skip "there is no Python for the newer ESPHome"
NEW=$("$LAB/esphome/build.sh" 2026.10.0 "$HOME_ASSISTANT/bin/python" | tail -n 1) || skip "ESPHome cannot be installed"

# What concerns Bluetooth mostly waits, so these run at the same time.
PARTS=(bluetooth faults second-client outage)
RUNNING=()

# simulate NAME OPTION...: a battery on the pseudo-terminal $WORK/NAME.
simulate() {
  start "simulator-$1" "$READER" simulate --port-link "$WORK/$1" "${@:2}"
  wait_for 20 test -e "$WORK/$1" || die "the simulator does not start"
}

# reader ID|TYPE|PORT[|SETTINGS]...: starts the program with these batteries and waits for the first.
reader() {
  local battery id type port more devices=()
  for battery in "$@"; do
    IFS='|' read -r id type port more <<<"$battery"
    devices+=("{\"id\": \"$id\", \"type\": \"$type\", \"port\": \"esphome://127.0.0.1:$PORT/$port\"${more:+, $more}}")
  done
  start reader env MQTT_CLIENT_ID=lab DEVICES="[$(IFS=,; echo "${devices[*]}")]" "$READER"
  IFS='|' read -r id _ <<<"$1"
  wait_for 60 is_published "$id/online" true || die "$id is not read: $(tail -n 5 "$WORK/reader.log")"
}

# refused TEXT URL: `read` fails with a message that contains the text and does not show a key.
refused() {
  local output
  output=$(env BMS_TYPE=daren BMS_PORT="$2" MQTT_HOST= timeout 60 "$READER" read 2>&1) && return 1
  grep -F "$1" <<<"$output" >/dev/null || { printf 'unexpected: %s\n' "$output"; return 1; }
  ! grep -F -e "$KEY" -e "$OTHER_KEY" <<<"$output"
}

stop() { end_child "$1"; }

printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n' "$BROKER" >"$WORK/mosquitto.conf"
start mosquitto mosquitto -c "$WORK/mosquitto.conf"
wait_for 20 port_answers "$BROKER" || die "no broker: $(tail -n 3 "$WORK/mosquitto.log")"

# generation NAME PROGRAM KEY: a rack and a JBD battery, then a console, on the two ports of one device.
generation() {
  local name=$1 program=$2 key=$3 query=${3:+?key=$3} id
  PORT=$(free_port)
  rm -f "$WORK/bus" "$WORK/other"
  simulate bus --type daren --address 1,2
  local rack=$STARTED
  simulate other --type jbd
  local jbd=$STARTED
  device "$program" "$key"
  reader "$name-1|daren|BMS%20bus$query|\"slave_id\": 1" "$name-2|daren|BMS%20bus$query|\"slave_id\": 2" \
    "$name-jbd|jbd|Other%20bus$query"
  local reader=$STARTED
  for id in "$name-1" "$name-2" "$name-jbd"; do
    check "$name: $id is read" wait_for 60 is_published "$id/online" true
    check "$name: $id has values" wait_for 20 has_number "$id/soc"
  done
  end_child "$DEVICE" KILL
  for id in "$name-1" "$name-jbd"; do
    check "$name: device killed: $id is offline" wait_for 90 is_published "$id/online" false
  done
  device "$program" "$key"
  for id in "$name-1" "$name-2" "$name-jbd"; do
    check "$name: device back: $id is read again" wait_for 90 is_published "$id/online" true
  done
  check "$name: an unknown port is named with those that exist" refused "BMS bus" \
    "esphome://127.0.0.1:$PORT/Roof$query"
  if [ "$name" = new ]; then
    check "$name: a port in use is reported" refused "in use" "esphome://127.0.0.1:$PORT/BMS%20bus$query"
  fi
  check "$name: the reader stops cleanly" stops_cleanly "$reader" 5
  if [ -n "$key" ]; then
    check "$name: a wrong key is reported" refused "the encryption key is wrong" \
      "esphome://127.0.0.1:$PORT/BMS%20bus?key=$OTHER_KEY"
    check "$name: a missing key is reported" refused "requires encryption" "esphome://127.0.0.1:$PORT/BMS%20bus"
  else
    check "$name: a key without encryption is reported" refused "does not encrypt" \
      "esphome://127.0.0.1:$PORT/BMS%20bus?key=$OTHER_KEY"
  fi
  stop "$jbd"
  stop "$rack"
  stop "$DEVICE"
}

# A console at 115200 baud, whose replies are long.
console() {
  local name=$1 query="?key=$KEY"
  PORT=$(free_port)
  rm -f "$WORK/bus"
  simulate bus --type pylontech-sc0500
  device "$2" "$KEY"
  reader "$name-stack|pylontech-sc0500|BMS%20bus$query|\"barcode\": \"PPTAP02218C10427\""
  local reader=$STARTED
  check "$name: a stack with a console is read" wait_for 90 is_published "$name-stack/online" true
  check "$name: its modules have values" wait_for 20 has_number "$name-stack/module_5_min_cell_voltage"
  check "$name: the reader stops cleanly" stops_cleanly "$reader" 5
  stop "$DEVICE"
}

# The configurations in docs/remote.md, as both generations read them.
recipes() {
  local version file
  mkdir "$WORK/recipes"
  printf 'wifi_ssid: lab\nwifi_password: password\napi_key: %s\n' "$KEY" >"$WORK/recipes/secrets.yaml"
  awk -v folder="$WORK/recipes" '/^```yaml/ { file = folder "/recipe-" ++count ".yaml"; next } /^```/ { file = "" }
    file { print > file }' "$REPOSITORY/docs/remote.md"
  for file in "$WORK"/recipes/recipe-*.yaml; do
    for version in 2026.6.5 2026.10.0; do
      check "$(basename "$file") of docs/remote.md is valid for ESPHome $version" \
        "$(dirname "$NEW")/venv-$version/bin/esphome" config "$file"
    done
  done
}

export NEW
for part in "${PARTS[@]}"; do
  start "$part" bash "$LAB/esphome/$part.sh"
  RUNNING+=("$STARTED")
done
recipes
generation old "$OLD" "$KEY"
generation new "$NEW" "$KEY"
generation plain "$OLD" ""
console old "$OLD"
console new "$NEW"
for part in "${PARTS[@]}"; do
  wait "${RUNNING[0]}" || fail "$part ended with status $?"
  RUNNING=("${RUNNING[@]:1}")
  cat "$WORK/$part.log"
  PASSED=$((PASSED + $(grep -c '^ok ' "$WORK/$part.log" || true)))
  FAILED=$((FAILED + $(grep -c '^FAIL ' "$WORK/$part.log" || true)))
done
check "no key in a log of the program" bash -c "! grep -F -e '$KEY' -e '$OTHER_KEY' '$WORK/reader.log'"
finish
