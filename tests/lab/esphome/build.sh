#!/usr/bin/env bash
# Builds ESPHome for Linux (its platform `host`) with two serial proxies. A second run changes nothing.
#
#   build.sh VERSION PYTHON
#
# The last line of the output is the path of the program. It listens on 127.0.0.1 and takes its settings from
# ESPHOME_PORT, ESPHOME_KEY (base64; without it there is no encryption), ESPHOME_UART and ESPHOME_UART2 (serial
# devices) and ESPHOME_PREFDIR (a folder for its state). Status 2: not possible.
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
stamp=$(cat "$0" "$HERE/noise.c" "$HERE/noise/protocol.h" "$HERE/host.h" | sha256sum)
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
  mkdir objects
  cd objects
  compile "$work/.esphome/build/lab-host/src" >&2
  mv "$PROGRAM.new" "$PROGRAM"
  printf '%s\n' "$stamp" >"$PROGRAM.stamp"
fi
printf '%s\n' "$PROGRAM"
