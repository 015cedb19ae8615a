#!/usr/bin/env bash
# The two static binaries, each in a folder that holds nothing else: version, one read through
# tcp://, the service with MQTT over TLS, and Bluetooth where D-Bus is missing or refuses. The foreign
# one runs under qemu.
#
#   BMS_READER, BMS_READER_ARM64   the binaries (default: dist/amd64 and dist/arm64)
. "$(dirname "$0")/common.sh"

[ "$(uname -m)" = x86_64 ] || skip "this bed emulates arm64 on x86_64 only"
[ "$(id -u)" = 0 ] || skip "an empty root folder needs root"
AMD64=$(binary BMS_READER dist/amd64/bms-reader)
ARM64=$(binary BMS_READER_ARM64 dist/arm64/bms-reader)
packages mosquitto mosquitto-clients openssl qemu-user-static dbus-daemon || skip "packages cannot be installed"
PATH=$PATH:/usr/sbin:/sbin
CHROOT=$(command -v chroot)

# A private authority and the broker's certificate.
make_certificates() (
  set -e
  cd "$WORK"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=lab authority" \
    -keyout authority.key -out authority.pem
  openssl req -newkey rsa:2048 -nodes -subj "/CN=broker" -keyout broker.key -out broker.csr
  openssl x509 -req -in broker.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
    -days 2 -extfile <(echo "subjectAltName = IP:127.0.0.1") -out broker.pem
)

start_broker() {
  BROKER=$(free_port)
  cat >"$WORK/mosquitto.conf" <<CONF
user root
listener $BROKER 127.0.0.1
allow_anonymous true
persistence false
certfile $WORK/broker.pem
keyfile $WORK/broker.key
CONF
  start mosquitto mosquitto -c "$WORK/mosquitto.conf"
  wait_for 20 port_answers "$BROKER" || die "no broker: $(tail -n 3 "$WORK/mosquitto.log")"
}

start_battery() {
  BATTERY=$(free_port)
  start battery "$AMD64" simulate --type daren --tcp "127.0.0.1:$BATTERY"
  wait_for 20 port_answers "$BATTERY" ||
    die "no simulated battery: $(tail -n 3 "$WORK/battery.log")"
}

# furnish ROOM BINARY: an empty folder with the binary and, for the foreign one, its emulator.
# ENTER is the command that runs the binary in there.
furnish() {
  local folder=$WORK/$1
  mkdir "$folder"
  cp "$2" "$folder/bms-reader"
  ENTER=("$CHROOT" "$folder" /bms-reader)
  if [ "$1" = arm64 ]; then
    cp "$(command -v qemu-aarch64-static)" "$folder/qemu"
    ENTER=("$CHROOT" "$folder" /qemu /bms-reader)
  fi
}

says_version() { "${ENTER[@]}" --version | grep -E '^bms-reader [0-9]+\.[0-9]+\.[0-9]+'; }

reads() {
  local said=$WORK/$1.json
  env -i BMS_PORT="tcp://127.0.0.1:$BATTERY" BMS_TIMEOUT=5 "${ENTER[@]}" read >"$said"
  a_reading "$said"
}

# serve ID VARIABLE...: the service.
serve() {
  local id=$1
  shift
  start "$id" env -i DEVICE_ID="$id" BMS_PORT="tcp://127.0.0.1:$BATTERY" BMS_TIMEOUT=5 \
    READ_INTERVAL=1 MQTT_HOST=127.0.0.1 MQTT_PORT="$BROKER" MQTT_TLS=true HTTP_LISTEN=off \
    "$@" "${ENTER[@]}"
}

values_arrive() {
  mosquitto_sub -h 127.0.0.1 -p "$BROKER" --cafile "$WORK/authority.pem" -v -W 1 \
    --retained-only -t "bms/$1/#" >"$WORK/$1.values"
  numbers_for "$WORK/$1.values" "bms/$1" "${ELEVEN[@]}"
}

publishes_over_tls() {
  wait_for 30 values_arrive "$1" && return
  values_arrive "$1"
  tail -n 3 "$WORK/$1.log"
  return 1
}

gets_nothing() {
  wait_for 20 grep -qiE 'certificate|issuer' "$WORK/$1.log" || {
    echo "not a word about the certificate"
    tail -n 3 "$WORK/$1.log"
    return 1
  }
  ! values_arrive "$1" && is_running "$2"
}

# start_bus SOCKET RULE: a system bus where everybody may do everything but what the rule denies, and
# that could start bluetoothd on demand.
start_bus() {
  mkdir "$1.services"
  printf '[D-BUS Service]\nName=org.bluez\nExec=/bin/false\nUser=root\n' >"$1.services/org.bluez.service"
  cat >"$1.conf" <<CONF
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=$1</listen><auth>EXTERNAL</auth><servicedir>$1.services</servicedir>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
<allow user="*"/>$2</policy></busconfig>
CONF
  start dbus dbus-daemon --config-file="$1.conf" --nofork --nopidfile
  wait_for 20 test -S "$1" || die "no bus: $(tail -n 3 "$WORK/dbus.log")"
}

# without_bluetooth BUS TYPE WORDS HINT: one JSON object says why, and what to do.
without_bluetooth() {
  local status=0
  env -i BMS_TYPE=jbd BMS_ADDRESS=A4:C1:37:00:12:34 DBUS_SYSTEM_BUS_ADDRESS="$1" \
    "${ENTER[@]}" read >"$WORK/refused.json" || status=$?
  [ "$status" = 1 ] || {
    echo "status $status"
    return 1
  }
  python3 - "$WORK/refused.json" "$2" "$3" "$4" <<'PY'
import json, sys

reading, (kind, words, hint) = json.load(open(sys.argv[1])), sys.argv[2:]
error = reading["error"]
assert error["type"] == kind and words in error["message"] and hint in error["hint"], error
assert reading["connected"] is False and reading["status"] is None, reading
PY
}

make_certificates >"$WORK/openssl.log" 2>&1 || die "no certificates: $(tail -n 2 "$WORK/openssl.log")"
start_broker
start_battery
# An emulated program needs a moment longer for the same steps.
declare -A PROGRAM=([amd64]=$AMD64 [arm64]=$ARM64) PATIENCE=([amd64]=2 [arm64]=5)
for arch in amd64 arm64; do
  furnish "$arch" "${PROGRAM[$arch]}"
  check "$arch: --version in an empty folder" says_version
  check "$arch: read through tcp://" reads "$arch"
  cp "$WORK/authority.pem" "$WORK/$arch/authority.pem"
  serve "tls_$arch" MQTT_CA_FILE=/authority.pem
  check "$arch: the service publishes over TLS with a private authority" \
    publishes_over_tls "tls_$arch"
  check "$arch: SIGTERM ends it with status 0" stops "$STARTED" "${PATIENCE[$arch]}"
  start_bus "$WORK/$arch/forbidding" '<deny send_destination="org.bluez"/>'
  start_bus "$WORK/$arch/closing" '<deny user="*"/>'
  check "$arch: no D-Bus socket" without_bluetooth unix:path=/none adapter_not_found "socket is missing" "-v /run/dbus"
  check "$arch: D-Bus forbids Bluetooth" \
    without_bluetooth unix:path=/forbidding permission_denied "refuses access" "group bluetooth"
  check "$arch: D-Bus hangs up" without_bluetooth unix:path=/closing permission_denied "D-Bus hangs up" "run as root"
done

furnish bundled "$AMD64"
serve stranger
check "a broker of an unknown authority gets nothing, and the program goes on" \
  gets_nothing stranger "$STARTED"
finish
