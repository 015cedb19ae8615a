#!/usr/bin/env bash
# Puts a real Home Assistant core into the cache folder. Safe to run again: what is there stays.
#
#   HOME_ASSISTANT_VERSION   release of the PyPI package
#   HOME_ASSISTANT_PYTHON    interpreter to use instead of looking for one
#
# The last line of the output is the folder of its virtual environment. Status 2: it cannot be had.
set -euo pipefail

VERSION=${HOME_ASSISTANT_VERSION:-2026.11.0}
# The release's Requires-Python, and the Debian suite that has such a Python.
PYTHON_AT_LEAST=3.14.2
SUITE=forky
PYTHON_NAME=python3.14
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/home-assistant
# Only the voice pipeline wants these; they have no wheel for CPython 3.14.
NOT_NEEDED='pymicro-vad|pyspeex-noise'

# shellcheck source=tests/lab/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/../packages.sh"

say() { printf 'home-assistant: %s\n' "$*" >&2; }

give_up() {
  say "$*"
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

# Unpacks the newer suite's Python into the cache. Nothing of it is configured or installed into
# the system; the interpreter is pointed at the C library unpacked beside it.
unpack_python() {
  local unpacked=$CACHE/python libraries loader
  UNPACKED=$unpacked/usr/bin/$PYTHON_NAME
  [ -e "$unpacked/.done" ] && return
  say "no Python $PYTHON_AT_LEAST or newer here: unpacking the one of Debian $SUITE"
  packages mmdebstrap patchelf debian-archive-keyring || give_up "no tools to unpack a Python"
  [ "$(id -u)" = 0 ] || give_up "unpacking a Python needs root"
  rm -rf "$unpacked"
  # A mirror's Release file can be older than its Valid-Until date; its signature is still checked.
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

# Home Assistant installs what an integration requires when it first loads it. The test runs it
# without network, so the requirements are read from the manifests beforehand.
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
    give_up "no uv from PyPI"
  export UV_CACHE_DIR=$CACHE/uv-cache
  [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
  [ -x "$venv/bin/python" ] || "$python" -m venv --without-pip "$venv"
  say "installing release $VERSION"
  retry "${add[@]}" "homeassistant==$VERSION" >&2 || give_up "no release $VERSION from PyPI"
  list_requirements "$venv" | grep -viE "^($NOT_NEEDED)\b" >"$venv/requirements.txt"
  home=$("$venv/bin/python" -c 'import homeassistant, os; print(os.path.dirname(homeassistant.__file__))')
  retry "${add[@]}" -c "$home/package_constraints.txt" -r "$venv/requirements.txt" >&2 ||
    give_up "its requirements cannot be had"
  touch "$venv/.done"
}

mkdir -p "$CACHE"
# Two runs at once must not unpack into one folder.
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
say "release $("$VENV/bin/hass" --version)"
printf '%s\n' "$VENV"
