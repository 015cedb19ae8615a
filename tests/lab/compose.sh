# shellcheck shell=bash
# Sourced by docker.sh: the shipped compose files, brought up by docker-compose.
#
# What differs from a user's machine is in an override file: the images that were built here stand
# in for those of the registries, and a pseudo-terminal for the adapter.

# project NAME FILE...: a folder with those files of the repository. COMPOSE is the command for it.
project() {
  local folder=$WORK/$1 first=$2 file
  COMPOSE=(docker-compose --project-name "$NAME-$1" --project-directory "$folder/$(dirname "$first")"
    -f "$folder/$first" -f "$folder/override.yaml")
  shift
  for file in "$@"; do
    mkdir -p "$folder/$(dirname "$file")"
    cp "$REPOSITORY/$file" "$folder/$file"
  done
  # An engine that belongs to the machine may have these ports in use.
  [ -n "${BMS_LAB_APART:-}" ] ||
    sed -i 's/"127.0.0.1:8099:8099"/"127.0.0.1::8099"/; s/- "1883:1883"/- "127.0.0.1::1883"/' \
      "$folder/$first"
  at_exit "${COMPOSE[*]} down -v -t 2"
}

down() { "${COMPOSE[@]}" down -v -t 2; }

up() { "${COMPOSE[@]}" up -d --no-build; }

# The way into the broker that the compose file tells users of Home Assistant.
add_login() {
  "${COMPOSE[@]}" exec -T mosquitto \
    mosquitto_passwd -b /mosquitto/users/passwords "$LOGIN" "$PASSWORD" &&
    "${COMPOSE[@]}" kill -s HUP mosquitto
}

demo_values_arrive() {
  docker exec "$1" mosquitto_sub -v -W 1 --retained-only -t 'bms/#' >"$WORK/demo.values"
  grep -E '^bms/[^/]+/pack_voltage [0-9.]+$' "$WORK/demo.values"
}

container_of() { "${COMPOSE[@]}" ps -q "$1"; }

compose_checks() {
  packages docker-compose || {
    fail "docker-compose cannot be installed"
    return
  }
  note "stand-ins in the compose checks: images built here, a pseudo-terminal as adapter"
  start_battery compose-battery
  project compose docker-compose.yml docker/mosquitto.conf
  cat >"$WORK/compose/override.yaml" <<YAML
services:
  bms-reader:
    image: $NAME:amd64
    volumes: ["$TTY:/dev/ttyLAB"]
  mosquitto:
    image: $NAME:mosquitto
  users:
    image: $NAME:mosquitto
YAML
  printf 'BMS_PORT=/dev/ttyLAB\nDEVICE_ID=composed\nREAD_INTERVAL=2\n' >"$WORK/compose/.env"
  check "docker-compose.yml comes up" up
  check "a login for Home Assistant can be added as its head says" add_login
  check "the eleven values arrive" \
    eventually "$(container_of bms-reader)" values_arrive "$(container_of mosquitto)" composed
  check "docker-compose down takes it away" down

  project demo docker/compose.demo.yaml docker/mosquitto-demo.conf
  cat >"$WORK/demo/override.yaml" <<YAML
services:
  bms-reader:
    image: $NAME:amd64
  mosquitto:
    image: $NAME:mosquitto
YAML
  check "compose.demo.yaml comes up" up
  check "simulated values arrive" \
    eventually "$(container_of bms-reader)" demo_values_arrive "$(container_of mosquitto)"
}
