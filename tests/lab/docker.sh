#!/usr/bin/env bash
# The image for both platforms, run as people are told to run it: without rights, beside a broker
# in a container, with a pseudo-terminal as its serial port; and the shipped docker-compose.yml.
#
#   BMS_READER, BMS_READER_ARM64   the static binaries (default: dist/amd64 and dist/arm64)
. "$(dirname "$0")/common.sh"
. "$LAB/engine.sh"
. "$LAB/compose.sh"

[ "$(uname -m)" = x86_64 ] || skip "this bed emulates arm64 on x86_64 only"
[ "$(id -u)" = 0 ] || skip "a pseudo-terminal as serial port and the emulation of arm64 need root"
AMD64=$(binary BMS_READER dist/amd64/bms-reader)
ARM64=$(binary BMS_READER_ARM64 dist/arm64/bms-reader)
need_engine

NAME=bms-lab-$$
LOGIN=lab
PASSWORD=lab-secret
LOCKED=(--user 65534:65534 --group-add 20 --read-only --cap-drop ALL
  --security-opt no-new-privileges)
at_exit "docker images -q $NAME | xargs -r docker rmi -f"
at_exit "docker network rm $NAME"
at_exit "docker ps -aq --filter name=$NAME | xargs -r docker rm -fv"

# The folder that the Dockerfile is built from, with the binaries where a release has them.
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

holds_little_else() {
  local image binary
  image=$(docker image inspect -f '{{.Size}}' "$NAME:$1")
  binary=$(stat -c %s "$2")
  echo "image $image bytes, binary $binary bytes"
  note "$1: image $image bytes, binary $binary bytes" >&3
  [ "$image" -le $((binary + 50000)) ]
}

is_for() { [ "$(docker image inspect -f '{{.Architecture}}' "$NAME:$1")" = "$1" ]; }

# start_battery NAME: a simulated pack. TTY is its pseudo-terminal, for the group of serial ports.
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

# retained CONTAINER TOPIC: what the broker keeps, asked in its own container. That always ends with
# the status of a time-out.
retained() {
  docker exec "$1" mosquitto_sub -u "$LOGIN" -P "$PASSWORD" -v -W 1 --retained-only -t "$2" || true
}

# Exactly the variables of the containers that people come from.
start_reader() {
  docker run -d --name "$NAME-reader" --network "$NAME" "${LOCKED[@]}" --health-interval 1s \
    -v "$TTY:/dev/ttyUSB0" \
    -e BMS_PORT=/dev/ttyUSB0 -e BMS_SLAVE_ID=1 -e READ_INTERVAL=5 \
    -e MQTT_HOST=broker -e MQTT_PORT=1883 -e MQTT_USER="$LOGIN" -e MQTT_PASSWORD="$PASSWORD" \
    -e MQTT_TOPIC_PREFIX=homeassistant -e DEVICE_ID=bms_lifepo4_01 -e DEBUG_MODE=true \
    "$NAME:amd64"
}

values_arrive() {
  retained "$1" "bms/$2/#" >"$WORK/values"
  numbers_for "$WORK/values" "bms/$2" "${ELEVEN[@]}"
}

# eventually CONTAINER COMMAND...: with the container's last words when it does not come true.
eventually() {
  local container=$1
  shift
  wait_for 60 "$@" && return
  "$@"
  docker logs --tail 5 "$container"
  return 1
}

announced() {
  local key
  retained "$NAME-broker" 'homeassistant/sensor/bms_lifepo4_01/#' >"$WORK/discovery"
  for key in "${ELEVEN[@]}"; do
    grep -q "^homeassistant/sensor/bms_lifepo4_01/$key/config {" "$WORK/discovery" || return 1
  done
}

is_healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; }

# The engine kills what is still there after 2 s, and the status then is not 0.
ends_in_time() {
  docker stop -t 2 "$1" && [ "$(docker inspect -f '{{.State.ExitCode}}' "$1")" = 0 ]
}

said_goodbye() {
  retained "$NAME-broker" 'bms/bms_lifepo4_01/online' | grep -qx 'bms/bms_lifepo4_01/online false' &&
    retained "$NAME-broker" 'bms/bridge/+/online' | grep -q ' false$'
}

keeps_its_secret() { ! docker logs "$1" 2>&1 | grep -F "$PASSWORD"; }

says_version() {
  timeout 60 docker run --rm --platform linux/arm64 "${LOCKED[@]}" "$NAME:arm64" --version |
    grep -E '^bms-reader [0-9]'
}

arm64_reads() {
  docker run -d --name "$NAME-battery" --network "$NAME" --network-alias battery "${LOCKED[@]}" \
    "$NAME:amd64" simulate --type daren --tcp 0.0.0.0:9000 || return 1
  timeout 60 docker run --rm --platform linux/arm64 --network "$NAME" "${LOCKED[@]}" \
    -e BMS_PORT=tcp://battery:9000 -e BMS_TIMEOUT=5 "$NAME:arm64" read >"$WORK/arm64.json"
  a_reading "$WORK/arm64.json"
}

exec 3>&1
for platform in "amd64 $AMD64" "arm64 $ARM64"; do
  arch=${platform%% *}
  check "$arch: the image is built from the Dockerfile" build_image "$arch"
  check "$arch: it is for that platform" is_for "$arch"
  check "$arch: it holds the binary and at most 50 kB" holds_little_else "$arch" "${platform#* }"
done

start_broker
start_battery battery
check "the container starts with the known variables, without any rights" start_reader
check "the eleven values arrive" \
  eventually "$NAME-reader" values_arrive "$NAME-broker" bms_lifepo4_01
check "the eleven are announced" eventually "$NAME-reader" announced
check "it becomes healthy" eventually "$NAME-reader" is_healthy "$NAME-reader"
check "docker stop ends it within 2 s with status 0" ends_in_time "$NAME-reader"
check "its goodbye is kept by the broker" said_goodbye
check "the password is not in its log" keeps_its_secret "$NAME-reader"

compose_checks

if need_arm64; then
  check "arm64: --version" says_version
  check "arm64: read through tcp:// by the name of another container" arm64_reads
else
  fail "arm64: no emulation on this machine"
fi
finish
