# shellcheck shell=bash
# Sourced by docker.sh: starts the shipped compose files with docker-compose.
#
# An override file replaces what a test machine lacks: the images of the registries by those built here, and
# the serial adapter by a pseudo-terminal.

# project NAME FILE...: copies files of the repository into a folder and sets COMPOSE to the command for it.
# The compose files among them are used together.
project() {
  local folder=$WORK/$1 first=$2 file
  COMPOSE=(docker-compose --project-name "$NAME-$1" --project-directory "$folder/$(dirname "$first")")
  shift
  for file in "$@" override.yaml; do
    case $file in *.y*ml) COMPOSE+=(-f "$folder/$file") ;; esac
  done
  for file in "$@"; do
    mkdir -p "$folder/$(dirname "$file")"
    cp "$REPOSITORY/$file" "$folder/$file"
  done
  # Outside of a network namespace these ports may be in use.
  # shellcheck disable=SC2016  # Compose expands it.
  [ -n "${BMS_LAB_ISOLATED:-}" ] ||
    sed -i 's/"127.0.0.1:8099:8099"/"127.0.0.1::8099"/; s/- "1883:1883"/- "127.0.0.1::1883"/
      s/"${DASHBOARD_PORT:-8099}:8099"/"127.0.0.1::8099"/' "$folder"/*.yml "$folder"/docker/*.yaml
  at_exit "${COMPOSE[*]} down -v -t 2"
}

down() { "${COMPOSE[@]}" down -v -t 2; }

up() { "${COMPOSE[@]}" up -d --no-build; }

# As the comment in docker-compose.yml describes it for Home Assistant.
add_login() {
  "${COMPOSE[@]}" exec -T mosquitto \
    mosquitto_passwd -b /mosquitto/users/passwords "$LOGIN" "$PASSWORD" &&
    "${COMPOSE[@]}" kill -s HUP mosquitto
}

has_demo_values() {
  docker exec "$1" mosquitto_sub -v -W 1 --retained-only -t 'bms/#' >"$WORK/demo.values"
  grep -E '^bms/[^/]+/pack_voltage [0-9.]+$' "$WORK/demo.values"
}

# The page, from outside of the container.
shows_dashboard() {
  local address
  address=$("${COMPOSE[@]}" port bms-reader 8099) || return 1
  curl -fsS -m 5 "http://${address/0.0.0.0/127.0.0.1}/api/devices" | grep '"composed"' >/dev/null
}

keeps_history() {
  docker cp "$1:/data/history.db" "$WORK/history.db" && [ -s "$WORK/history.db" ]
}

# A variable that no compose file names.
has_high_alarm() {
  retained "$1" bms/composed/alarm_limit_cell_high | grep -qx '.* ON'
}

container_of() { "${COMPOSE[@]}" ps -q "$1"; }

compose_checks() {
  note "compose checks use the images built here, and a pseudo-terminal as adapter"
  start_battery compose-battery
  project compose docker-compose.yml docker/compose.broker.yaml docker/mosquitto.conf
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
  printf 'BMS_PORT=/dev/ttyLAB\nDEVICE_ID=composed\nREAD_INTERVAL=2\nALARM_CELL_HIGH=3.0\nALARM_CELL_LOW=off\n' \
    >"$WORK/compose/.env"
  check "docker-compose.yml and compose.broker.yaml start" up
  check "a login for Home Assistant can be added as described" add_login
  check "the eleven values are published" \
    eventually "$(container_of bms-reader)" has_values "$(container_of mosquitto)" composed
  check "a variable that only .env contains is in force" \
    eventually "$(container_of bms-reader)" has_high_alarm "$(container_of mosquitto)"
  check "the dashboard is reachable" eventually "$(container_of bms-reader)" shows_dashboard
  check "the history is on the volume" \
    eventually "$(container_of bms-reader)" keeps_history "$(container_of bms-reader)"
  check "docker-compose down removes it" down

  project demo docker/compose.demo.yaml docker/mosquitto-demo.conf
  cat >"$WORK/demo/override.yaml" <<YAML
services:
  bms-reader:
    image: $NAME:amd64
  mosquitto:
    image: $NAME:mosquitto
YAML
  check "compose.demo.yaml starts" up
  check "simulated values are published" \
    eventually "$(container_of bms-reader)" has_demo_values "$(container_of mosquitto)"
}
