#!/usr/bin/env bash
# The image for both platforms, run as documented: unprivileged, with a broker in a container, and with a
# pseudo-terminal as serial port. Then the shipped compose files.
#
#   BMS_READER, BMS_READER_ARM64   the static binaries (default: dist/amd64 and dist/arm64)
. "$(dirname "$0")/common.sh"
. "$LAB/engine.sh"
. "$LAB/compose.sh"

[ "$(uname -m)" = x86_64 ] || skip "arm64 can only be emulated on x86_64"
[ "$(id -u)" = 0 ] || skip "the serial port and the arm64 emulation need root"
AMD64=$(binary BMS_READER dist/amd64/bms-reader)
ARM64=$(binary BMS_READER_ARM64 dist/arm64/bms-reader)
# The engine may run in a namespace without a network, where nothing can be installed.
packages mosquitto mosquitto-clients busybox-static docker-compose qemu-user-static ||
  skip "packages cannot be installed"
need_engine

NAME=bms-lab-$$
LOGIN=lab
PASSWORD=lab-secret
UNPRIVILEGED=(--user 65534:65534 --group-add 20 --read-only --cap-drop ALL
  --security-opt no-new-privileges)
at_exit "docker images -q $NAME | xargs -r docker rmi -f"
at_exit "docker network rm $NAME"
at_exit "docker ps -aq --filter name=$NAME | xargs -r docker rm -fv"

# Builds the image like a release, from a folder with the binaries.
build_image() {
  local context=$WORK/context
  if [ ! -d "$context" ]; then
    mkdir -p "$context/dist/amd64" "$context/dist/arm64"
    cp "$AMD64" "$context/dist/amd64/bms-reader"
    cp "$ARM64" "$context/dist/arm64/bms-reader"
    cp "$REPOSITORY/Dockerfile" "$REPOSITORY/.dockerignore" "$context"
  fi
  DOCKER_BUILDKIT=1 docker build --platform "linux/$1" --build-arg BIN=prebuilt \
    -t "$NAME:$1" "$context"
}

is_hardly_larger() {
  local image binary
  image=$(docker image inspect -f '{{.Size}}' "$NAME:$1")
  binary=$(stat -c %s "$2")
  echo "image $image bytes, binary $binary bytes"
  note "$1: image $image bytes, binary $binary bytes" >&3
  [ "$image" -le $((binary + 50000)) ]
}

has_architecture() { [ "$(docker image inspect -f '{{.Architecture}}' "$NAME:$1")" = "$1" ]; }

# start_battery NAME: simulates a pack and sets TTY to its pseudo-terminal, owned by the group dialout.
start_battery() {
  start "$1" "$AMD64" simulate --type daren --port-link "$WORK/$1.tty"
  wait_for 20 test -e "$WORK/$1.tty" || die "no simulated battery: $(tail -n 3 "$WORK/$1.log")"
  TTY=$(readlink -f "$WORK/$1.tty")
  chgrp 20 "$TTY"
  chmod 660 "$TTY"
}

start_broker() {
  mosquitto_image "$NAME:mosquitto"
  docker network create "$NAME" >/dev/null
  mkdir "$WORK/broker"
  printf 'listener 1883\nallow_anonymous false\npassword_file /mosquitto/config/passwords\n' \
    >"$WORK/broker/mosquitto.conf"
  mosquitto_passwd -b -c "$WORK/broker/passwords" "$LOGIN" "$PASSWORD"
  chmod 755 "$WORK" "$WORK/broker"
  chmod 644 "$WORK/broker"/*
  docker run -d --name "$NAME-broker" --network "$NAME" --network-alias broker \
    -v "$WORK/broker:/mosquitto/config" "$NAME:mosquitto" >/dev/null
}

# retained CONTAINER TOPIC: prints retained messages. mosquitto_sub always ends with the status of a timeout.
retained() {
  docker exec "$1" mosquitto_sub -u "$LOGIN" -P "$PASSWORD" -v -W 1 --retained-only -t "$2" || true
}

# With exactly the variables of the container that users migrate from.
start_reader() {
  docker run -d --name "$NAME-reader" --network "$NAME" "${UNPRIVILEGED[@]}" --health-interval 1s \
    -v "$TTY:/dev/ttyUSB0" \
    -e BMS_PORT=/dev/ttyUSB0 -e BMS_SLAVE_ID=1 -e READ_INTERVAL=5 \
    -e MQTT_HOST=broker -e MQTT_PORT=1883 -e MQTT_USER="$LOGIN" -e MQTT_PASSWORD="$PASSWORD" \
    -e MQTT_TOPIC_PREFIX=homeassistant -e DEVICE_ID=bms_lifepo4_01 -e DEBUG_MODE=true \
    "$NAME:amd64"
}

has_values() {
  retained "$1" "bms/$2/#" >"$WORK/values"
  has_numbers "$WORK/values" "bms/$2" "${STATE_KEYS[@]}"
}

# eventually CONTAINER COMMAND...: waits for the command and prints the log of the container when it fails.
eventually() {
  local container=$1
  shift
  wait_for 60 "$@" && return
  "$@"
  docker logs --tail 5 "$container"
  return 1
}

has_discovery() {
  local key
  retained "$NAME-broker" 'homeassistant/sensor/bms_lifepo4_01/#' >"$WORK/discovery"
  for key in "${STATE_KEYS[@]}"; do
    grep -q "^homeassistant/sensor/bms_lifepo4_01/$key/config {" "$WORK/discovery" || return 1
  done
}

is_healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; }

# After 2 s the engine kills the container, and the status is not 0.
stops_in_time() {
  docker stop -t 2 "$1" && [ "$(docker inspect -f '{{.State.ExitCode}}' "$1")" = 0 ]
}

retains_offline() {
  retained "$NAME-broker" 'bms/bms_lifepo4_01/online' | grep -qx 'bms/bms_lifepo4_01/online false' &&
    retained "$NAME-broker" 'bms/bridge/+/online' | grep -q ' false$'
}

log_has_no_password() { ! docker logs "$1" 2>&1 | grep -F "$PASSWORD"; }

prints_version() {
  timeout 60 docker run --rm --platform linux/arm64 "${UNPRIVILEGED[@]}" "$NAME:arm64" --version |
    grep -E '^bms-reader [0-9]'
}

arm64_reads() {
  docker run -d --name "$NAME-battery" --network "$NAME" --network-alias battery "${UNPRIVILEGED[@]}" \
    "$NAME:amd64" simulate --type daren --tcp 0.0.0.0:9000 || return 1
  timeout 60 docker run --rm --platform linux/arm64 --network "$NAME" "${UNPRIVILEGED[@]}" \
    -e BMS_PORT=tcp://battery:9000 -e BMS_TIMEOUT=5 "$NAME:arm64" read >"$WORK/arm64.json"
  is_good_reading "$WORK/arm64.json"
}

# A battery and a reader of a brand that exists only as a file, in a folder that both mount.
start_profile() {
  local mount=(-v "$WORK/profiles:/data/profiles:ro" -e BMS_PROFILES=/data/profiles)
  mkdir "$WORK/profiles"
  python3 "$LAB/nova.py" profile >"$WORK/profiles/nova.yaml"
  chmod -R a+rX "$WORK/profiles"
  docker run -d --name "$NAME-nova" --network "$NAME" --network-alias nova "${UNPRIVILEGED[@]}" \
    "${mount[@]}" "$NAME:amd64" simulate --type nova --tcp 0.0.0.0:9000 --speed 0 &&
    docker run -d --name "$NAME-boat" --network "$NAME" "${UNPRIVILEGED[@]}" "${mount[@]}" \
      -e BMS_TYPE=nova -e BMS_PORT=tcp://nova:9000 -e DEVICE_ID=boat -e READ_INTERVAL=1 \
      -e MQTT_HOST=broker -e MQTT_USER="$LOGIN" -e MQTT_PASSWORD="$PASSWORD" "$NAME:amd64"
}

# The values on the broker are those that the battery sends, and each has a discovery message.
has_profile_values() {
  local address key
  address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$NAME-nova")
  retained "$NAME-broker" 'bms/boat/#' | sed -n 's|^bms/boat/||p' |
    python3 "$LAB/nova.py" compare "$address" 9000 || return 1
  retained "$NAME-broker" 'homeassistant/+/boat/+/config' >"$WORK/discovery"
  for key in pack_voltage soc temp_1 cell_1_voltage charging_enabled alarm_cell_overvoltage; do
    grep -q "^homeassistant/[a-z_]*/boat/$key/config {" "$WORK/discovery" || {
      echo "$key has no discovery message"
      return 1
    }
  done
}

exec 3>&1
for platform in "amd64 $AMD64" "arm64 $ARM64"; do
  arch=${platform%% *}
  check "$arch: the image is built from the Dockerfile" build_image "$arch"
  check "$arch: it has that architecture" has_architecture "$arch"
  check "$arch: it is at most 50 kB larger than the binary" is_hardly_larger "$arch" "${platform#* }"
done

start_broker
start_battery battery
check "the container starts unprivileged with the variables of its predecessor" start_reader
check "the eleven values are published" \
  eventually "$NAME-reader" has_values "$NAME-broker" bms_lifepo4_01
check "the eleven values have discovery messages" eventually "$NAME-reader" has_discovery
check "it becomes healthy" eventually "$NAME-reader" is_healthy "$NAME-reader"
check "docker stop ends it within 2 s with status 0" stops_in_time "$NAME-reader"
check "the broker retains its offline messages" retains_offline
check "the password is not in the log" log_has_no_password "$NAME-reader"

check "a brand from a file in a mounted folder starts" start_profile
check "its values and discovery messages are published" \
  eventually "$NAME-boat" has_profile_values
check "docker stop ends it within 2 s with status 0" stops_in_time "$NAME-boat"

compose_checks

if need_arm64; then
  check "arm64: --version" prints_version
  check "arm64: read from another container by name" arm64_reads
else
  fail "arm64: this machine cannot emulate it"
fi
finish
