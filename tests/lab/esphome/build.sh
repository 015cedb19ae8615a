#!/usr/bin/env bash
# Builds ESPHome for Linux (its platform `host`) with two serial proxies and, from 2026.10 on, its Bluetooth proxy. A
# second run changes nothing.
#
#   build.sh VERSION PYTHON
#
# The last line of the output is the path of the program. It listens on 127.0.0.1 and takes its settings from
# ESPHOME_PORT, ESPHOME_KEY (base64; without it there is no encryption), ESPHOME_UART and ESPHOME_UART2 (serial
# devices), ESPHOME_PREFDIR (a folder for its state) and ESPHOME_RADIO (the socket of radio.py). Status 2: not possible.
set -euo pipefail

VERSION=$1 PYTHON=$2
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/esphome
PROGRAM=$CACHE/esphome-$VERSION

# shellcheck source=tests/lab/packages.sh
. "$HERE/../packages.sh"

log() { printf 'esphome: %s\n' "$*" >&2; }

give_up() {
  log "$*"
  exit 2
}

# ESPHome is a Python package that contains the C++ sources.
install_package() {
  local venv=$1
  [ ! -e "$venv/.done" ] || return 0
  log "installing release $VERSION"
  rm -rf "$venv"
  "$PYTHON" -m venv --without-pip "$venv" || give_up "no virtual environment with $PYTHON"
  retry python3 -m pip --python "$venv/bin/python" install -q --disable-pip-version-check "esphome==$VERSION" >&2 ||
    give_up "release $VERSION cannot be installed from PyPI"
  touch "$venv/.done"
}

describe() {
  cat <<'YAML'
esphome:
  name: lab-host
  friendly_name: Lab host
host:
  mac_address: "62:23:45:AF:B3:DD"
logger:
  level: DEBUG
api:
  port: 6054
  reboot_timeout: 0s
  encryption:
uart:
  - {id: one, port: /lab/uart, baud_rate: 9600}
  - {id: two, port: /lab/uart2, baud_rate: 9600}
serial_proxy:
  - {id: proxy_one, uart_id: one, name: BMS bus, port_type: RS485}
  - {id: proxy_two, uart_id: two, name: Other bus, port_type: TTL}
YAML
}

# What a description cannot contain: settings of each start, and the loopback address only.
adapt() {
  local source=$1 socket=$1/esphome/components/socket/socket.cpp
  sed -i -E \
    -e 's|^  (\w+)->set_port\(6054\);|  \1->set_port(api_port()); set_key(\1);|' \
    -e 's|set_name\("/lab/(uart2?)"\)|set_name(serial_device("\1"))|' \
    -e '0,/^void setup\(\)/s|^void setup\(\)|#include "host.h"\n&|' "$source/main.cpp"
  sed -i 's|ESPHOME_INADDR_ANY;|htonl(0x7f000001);|' "$socket"
  cp "$HERE/host.h" "$source/"
  if ! grep -q 'set_key(' "$source/main.cpp" || ! grep -q 'serial_device("uart2")' "$source/main.cpp" ||
    ! grep -q 'htonl(0x7f000001)' "$socket"; then
    give_up "release $VERSION generates other sources than expected"
  fi
}

# ESPHome has no Bluetooth on Linux: this adds its proxy, with the controller in radio.h.
add_bluetooth() {
  local source=$1 from to=$1/esphome/components
  from=$(echo "$CACHE/venv-$VERSION"/lib/python3*/site-packages/esphome/components)
  mkdir -p "$to"/{ble_device_base,bluetooth_connection,bluetooth_proxy}
  cp "$from"/ble_device_base/{ble_device,ble_client_state}.cpp "$from"/ble_device_base/*.h "$to/ble_device_base/"
  cp "$from"/bluetooth_connection/bluetooth_connection{,_hub}.cpp "$from"/bluetooth_connection/*.h \
    "$to/bluetooth_connection/"
  cp "$from"/bluetooth_proxy/*.{cpp,h} "$to/bluetooth_proxy/"
  cp "$HERE/radio.h" "$source/"
  use_radio() { sed -i "0,/^#if defined($2)/s||#if defined(USE_LAB_RADIO)\n#include \"radio.h\"\n#define $3\n#elif defined($2)|" "$1"; }
  use_radio "$to/ble_device_base/ble_hub_impl.h" USE_ESP32_BLE_TRACKER "ESPHOME_BLE_HUB_TYPE lab::Radio"
  use_radio "$to/bluetooth_connection/bluetooth_connection_gatt_backend.h" USE_RP2040_BLE \
    "ESPHOME_BLE_GATT_CONNECTION_TYPE lab::Gatt"
  printf '#define %s\n' USE_LAB_RADIO USE_BLUETOOTH_PROXY USE_BLUETOOTH_PROXY_CONNECTIONS USE_BLE_GATT_CLIENT \
    'BLUETOOTH_PROXY_MAX_CONNECTIONS 3' 'BLUETOOTH_PROXY_ADVERTISEMENT_BATCH_SIZE 16' >"$source/bluetooth_defines.h"
  # The radio, the proxy and three slots.
  sed -i -E 's|^(#define ESPHOME_COMPONENT_COUNT) ([0-9]+)|\1 (\2 + 5)\n#include "bluetooth_defines.h"|' \
    "$source/esphome/core/defines.h"
  sed -i -e 's|^static constexpr size_t ESPHOME_LOOPING_COMPONENT_COUNT = |&5 + |' \
    -e 's|^  App.setup();|  add_bluetooth([](auto *part) { App.register_component_(part, 1); });\n&|' "$source/main.cpp"
  grep -q 'add_bluetooth(' "$source/main.cpp" || give_up "release $VERSION generates other sources than expected"
}

# Without PlatformIO, whose registry is one more server that may be out of reach.
compile() {
  local source=$1
  local flags=(-O0 -std=gnu++20 -DUSE_HOST -DESPHOME_LOG_LEVEL=ESPHOME_LOG_LEVEL_DEBUG -fno-exceptions -w
    -I"$source" -I"$HERE")
  log "compiling $(find "$source" -name '*.cpp' | wc -l) files"
  # shellcheck disable=SC2016
  find "$source" -name '*.cpp' -printf '%P\n' |
    xargs -P 2 -I{} sh -c 'name=$1; shift; g++ "$@" -o "$(printf %s "$name" | tr / _).o"' compile {} "${flags[@]}" -c "$source/{}"
  gcc -O1 -I"$HERE" -c "$HERE/noise.c" -o noise.o
  g++ ./*.o -o "$PROGRAM.new" -lsodium -lpthread
}

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock -w 900 9 || give_up "another run is still building"
stamp=$(cat "$0" "$HERE/noise.c" "$HERE/noise/protocol.h" "$HERE"/*.h | sha256sum)
if [ ! -x "$PROGRAM" ] || [ "$(cat "$PROGRAM.stamp" 2>/dev/null)" != "$stamp" ]; then
  packages g++ libsodium-dev || give_up "g++ or libsodium-dev cannot be installed"
  venv=$CACHE/venv-$VERSION
  install_package "$venv"
  work=$(mktemp -d "$CACHE/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  describe >lab.yaml
  HOME=$work "$venv/bin/esphome" compile --only-generate lab.yaml >generate.log 2>&1 ||
    give_up "release $VERSION: $(tail -n 3 generate.log)"
  adapt "$work/.esphome/build/lab-host/src"
  case $VERSION in
    202[0-5].* | 2026.[1-9].*) ;;
    *) add_bluetooth "$work/.esphome/build/lab-host/src" ;;
  esac
  mkdir objects
  cd objects
  compile "$work/.esphome/build/lab-host/src" >&2
  mv "$PROGRAM.new" "$PROGRAM"
  printf '%s\n' "$stamp" >"$PROGRAM.stamp"
fi
printf '%s\n' "$PROGRAM"
