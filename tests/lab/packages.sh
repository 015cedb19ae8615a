# shellcheck shell=bash
# Sourced by the lab tests: installs Debian packages and retries when the network fails.

retry() {
  local pause
  for pause in 2 10 30; do
    "$@" && return 0
    sleep "$pause"
  done
  "$@"
}

# packages NAME...: installs the Debian packages that are missing. Status 1: not possible.
packages() {
  local missing=() name root=() output
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
      printf 'Please install: %s\n' "${missing[*]}" >&2
      return 1
    }
    root=(sudo)
  fi
  printf 'installing %s\n' "${missing[*]}" >&2
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  retry "${apt[@]}" update >/dev/null 2>&1 || true
  output=$(retry "${apt[@]}" install -y --no-install-recommends "${missing[@]}" 2>&1) && return 0
  printf '%s\n' "$output" | tail -n 3 >&2
  return 1
}
