#!/usr/bin/env bash
# The two static binaries, each in a folder that holds nothing else: version, one read through
# tcp://, and the service with MQTT over TLS. The foreign one runs under qemu.
#
#   BMS_READER, BMS_READER_ARM64   the binaries (default: dist/amd64 and dist/arm64)
#
# A refusal by D-Bus belongs here as well, once the program speaks it.
. "$(dirname "$0")/common.sh"

[ "$(uname -m)" = x86_64 ] || skip "this bed emulates arm64 on x86_64 only"
[ "$(id -u)" = 0 ] || skip "an empty root folder needs root"
AMD64=$(binary BMS_READER dist/amd64/bms-reader)
ARM64=$(binary BMS_READER_ARM64 dist/arm64/bms-reader)
packages mosquitto mosquitto-clients openssl qemu-user-static || skip "packages cannot be installed"
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
done

furnish bundled "$AMD64"
serve stranger
check "a broker of an unknown authority gets nothing, and the program goes on" \
  gets_nothing stranger "$STARTED"
finish
