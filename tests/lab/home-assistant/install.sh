#!/usr/bin/env bash
# Installs Home Assistant Core into the cache folder. A second run changes nothing.
#
#   HOME_ASSISTANT_VERSION   release of the PyPI package
#   HOME_ASSISTANT_PYTHON    interpreter to use instead of searching for one
#
# The last line of the output is the folder of its virtual environment. Status 2: not possible.
set -euo pipefail

VERSION=${HOME_ASSISTANT_VERSION:-2026.11.0}
# The release's Requires-Python, and the Debian suite that has such a Python.
PYTHON_AT_LEAST=3.14.2
SUITE=forky
PYTHON_NAME=python3.14
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/home-assistant
# Only the voice pipeline needs these, and they have no wheel for CPython 3.14.
EXCLUDED='pymicro-vad|pyspeex-noise'

# shellcheck source=tests/lab/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/../packages.sh"

log() { printf 'home-assistant: %s\n' "$*" >&2; }

give_up() {
  log "$*"
  exit 2
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:3] < tuple(map(int, sys.argv[1].split("."))))' \
    "$PYTHON_AT_LEAST" 2>/dev/null
}

find_python() {
  local candidate
  for candidate in "${HOME_ASSISTANT_PYTHON:-}" python3.15 python3.14 python3; do
    command -v "${candidate:-none}" >/dev/null || continue
    new_enough "$candidate" && command -v "$candidate" && return
  done
  return 1
}

# Unpacks the Python of the newer Debian suite into the cache, without installing it. The interpreter is patched
# to use the C library that is unpacked with it.
unpack_python() {
  local unpacked=$CACHE/python libraries loader
  UNPACKED=$unpacked/usr/bin/$PYTHON_NAME
  [ -e "$unpacked/.done" ] && return
  log "no Python $PYTHON_AT_LEAST or newer is installed: unpacking that of Debian $SUITE"
  packages mmdebstrap patchelf debian-archive-keyring || give_up "the tools to unpack a Python cannot be installed"
  [ "$(id -u)" = 0 ] || give_up "unpacking a Python needs root"
  rm -rf "$unpacked"
  # The Release file of a mirror can be past its Valid-Until date. Its signature is still checked.
  retry mmdebstrap --quiet --variant=extract --mode=root \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
    --include="$PYTHON_NAME,$PYTHON_NAME-venv" "$SUITE" "$unpacked" 2>"$CACHE/mmdebstrap.log" ||
    give_up "no Python: $(tail -n 1 "$CACHE/mmdebstrap.log")"
  loader=$(find "$unpacked/usr/lib" -name 'ld-linux-*.so.*' -print -quit)
  libraries=$(dirname "$loader")
  patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$UNPACKED"
  touch "$unpacked/.done"
}

# Home Assistant installs the requirements of an integration when it loads it. The test runs without network, so
# they are read from the manifests beforehand.
list_requirements() {
  "$1/bin/python" - <<'PY'
import importlib.util, json, pathlib
import homeassistant.bootstrap as boot

home = pathlib.Path(importlib.util.find_spec("homeassistant").submodule_search_locations[0])
todo = {"mqtt", "hassio", "isal", "energy", "network", "system_log", "frontend", "api", "websocket_api",
        "config", *boot.CORE_INTEGRATIONS, *getattr(boot, "DEFAULT_INTEGRATIONS", ())}
seen, requirements = set(), set()
while todo:
    name = todo.pop()
    manifest = home / "components" / name / "manifest.json"
    if name in seen or not manifest.exists():
        continue
    seen.add(name)
    manifest = json.loads(manifest.read_text())
    todo |= set(manifest.get("dependencies", ()))
    requirements |= set(manifest.get("requirements", ()))
print("\n".join(sorted(requirements)))
PY
}

install_release() {
  local venv=$1 python=$2 uv=$CACHE/uv/bin/uv home
  local add=("$uv" pip install -q --no-python-downloads --python "$venv/bin/python")
  [ -x "$uv" ] ||
    retry python3 -m pip install -q --disable-pip-version-check --target "$CACHE/uv" uv >&2 ||
    give_up "uv cannot be installed from PyPI"
  export UV_CACHE_DIR=$CACHE/uv-cache
  [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
  [ -x "$venv/bin/python" ] || "$python" -m venv --without-pip "$venv"
  log "installing release $VERSION"
  retry "${add[@]}" "homeassistant==$VERSION" >&2 || give_up "release $VERSION cannot be installed from PyPI"
  list_requirements "$venv" | grep -viE "^($EXCLUDED)\b" >"$venv/requirements.txt"
  home=$("$venv/bin/python" -c 'import homeassistant, os; print(os.path.dirname(homeassistant.__file__))')
  retry "${add[@]}" -c "$home/package_constraints.txt" -r "$venv/requirements.txt" >&2 ||
    give_up "the requirements cannot be installed"
  touch "$venv/.done"
}

mkdir -p "$CACHE"
# Two runs must not install into the same folder at once.
exec 9>"$CACHE/lock"
flock -w 900 9 || give_up "another run is still installing"
VENV=$CACHE/venv-$VERSION
if [ ! -e "$VENV/.done" ]; then
  if ! PYTHON=$(find_python); then
    unpack_python
    PYTHON=$UNPACKED
  fi
  new_enough "$PYTHON" || give_up "$PYTHON is older than $PYTHON_AT_LEAST"
  install_release "$VENV" "$PYTHON"
fi
log "release $("$VENV/bin/hass" --version)"
printf '%s\n' "$VENV"
