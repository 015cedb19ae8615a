#!/usr/bin/env bash
# The two static binaries, each alone in a root folder: version, one read through tcp://, the service with MQTT
# over TLS, and Bluetooth without D-Bus or without permission. The arm64 binary runs under qemu. Of the amd64 one,
# the memory after crowds of HTTP clients, too.
#
#   BMS_READER, BMS_READER_ARM64   the binaries (default: dist/amd64 and dist/arm64)
. "$(dirname "$0")/common.sh"

[ "$(uname -m)" = x86_64 ] || skip "arm64 can only be emulated on x86_64"
[ "$(id -u)" = 0 ] || skip "chroot needs root"
AMD64=$(binary BMS_READER dist/amd64/bms-reader)
ARM64=$(binary BMS_READER_ARM64 dist/arm64/bms-reader)
packages mosquitto mosquitto-clients openssl qemu-user-static dbus-daemon ||
  skip "packages cannot be installed"
PATH=$PATH:/usr/sbin:/sbin
CHROOT=$(command -v chroot)

# A private certificate authority and the certificate of the broker.
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

# make_root NAME BINARY: a folder with the binary, and with the emulator for arm64. Sets RUN to the command that
# runs the binary in it.
make_root() {
  local folder=$WORK/$1
  mkdir "$folder"
  cp "$2" "$folder/bms-reader"
  RUN=("$CHROOT" "$folder" /bms-reader)
  if [ "$1" = arm64 ]; then
    cp "$(command -v qemu-aarch64-static)" "$folder/qemu"
    RUN=("$CHROOT" "$folder" /qemu /bms-reader)
  fi
}

prints_version() { "${RUN[@]}" --version | grep -E '^bms-reader [0-9]+\.[0-9]+\.[0-9]+'; }

reads() {
  local output=$WORK/$1.json
  env -i BMS_PORT="tcp://127.0.0.1:$BATTERY" BMS_TIMEOUT=5 "${RUN[@]}" read >"$output"
  is_good_reading "$output"
}

# serve ID VARIABLE...: starts the service.
serve() {
  local id=$1
  shift
  start "$id" env -i DEVICE_ID="$id" BMS_PORT="tcp://127.0.0.1:$BATTERY" BMS_TIMEOUT=5 \
    READ_INTERVAL=1 MQTT_HOST=127.0.0.1 MQTT_PORT="$BROKER" MQTT_TLS=true HTTP_LISTEN=off \
    "$@" "${RUN[@]}"
}

has_values() {
  mosquitto_sub -h 127.0.0.1 -p "$BROKER" --cafile "$WORK/authority.pem" -v -W 1 \
    --retained-only -t "bms/$1/#" >"$WORK/$1.values"
  has_numbers "$WORK/$1.values" "bms/$1" "${STATE_KEYS[@]}"
}

publishes_over_tls() {
  wait_for 30 has_values "$1" && return
  has_values "$1"
  tail -n 3 "$WORK/$1.log"
  return 1
}

refuses_broker() {
  wait_for 20 grep -qiE 'certificate|issuer' "$WORK/$1.log" || {
    echo "no log line about the certificate"
    tail -n 3 "$WORK/$1.log"
    return 1
  }
  ! has_values "$1" && is_running "$2"
}

# start_bus SOCKET RULE: a system bus that allows everything except for the rule, and that knows how to start
# bluetoothd.
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

# fails_with BUS TYPE MESSAGE HINT: `read` prints an error of this type, with these parts of message and hint.
fails_with() {
  local status=0
  env -i BMS_TYPE=jbd BMS_ADDRESS=A4:C1:37:00:12:34 DBUS_SYSTEM_BUS_ADDRESS="$1" \
    "${RUN[@]}" read >"$WORK/refused.json" || status=$?
  [ "$status" = 1 ] || {
    echo "status $status"
    return 1
  }
  python3 - "$WORK/refused.json" "$2" "$3" "$4" <<'PY'
import json, sys

reading, (kind, message, hint) = json.load(open(sys.argv[1])), sys.argv[2:]
error = reading["error"]
assert error["type"] == kind and message in error["message"] and hint in error["hint"], error
assert reading["connected"] is False and reading["status"] is None, reading
PY
}

make_certificates >"$WORK/openssl.log" 2>&1 || die "no certificates: $(tail -n 2 "$WORK/openssl.log")"
start_broker
start_battery
# Seconds to stop. An emulated program is slower.
declare -A PROGRAM=([amd64]=$AMD64 [arm64]=$ARM64) STOP_LIMIT=([amd64]=2 [arm64]=5)
for arch in amd64 arm64; do
  make_root "$arch" "${PROGRAM[$arch]}"
  check "$arch: --version in an empty root" prints_version
  check "$arch: read through tcp://" reads "$arch"
  cp "$WORK/authority.pem" "$WORK/$arch/authority.pem"
  serve "tls_$arch" MQTT_CA_FILE=/authority.pem
  check "$arch: the service publishes over TLS with a private authority" \
    publishes_over_tls "tls_$arch"
  check "$arch: SIGTERM ends it with status 0" stops_cleanly "$STARTED" "${STOP_LIMIT[$arch]}"
  start_bus "$WORK/$arch/forbidding" '<deny send_destination="org.bluez"/>'
  start_bus "$WORK/$arch/closing" '<deny user="*"/>'
  check "$arch: no D-Bus socket" \
    fails_with unix:path=/none adapter_not_found "socket is missing" "install and start dbus"
  check "$arch: D-Bus forbids Bluetooth" \
    fails_with unix:path=/forbidding permission_denied "refuses access" "group bluetooth"
  check "$arch: D-Bus closes the connection" \
    fails_with unix:path=/closing permission_denied "D-Bus closed the connection" "as a user of this machine"
done

check "memory returns after crowds of HTTP clients" python3 "$LAB/crowd.py" "$AMD64"

make_root without_authority "$AMD64"
serve untrusted
check "a broker with an unknown authority gets no value, and the program goes on" \
  refuses_broker untrusted "$STARTED"
finish
