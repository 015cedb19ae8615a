# shellcheck shell=bash
# Sourced by ./test and the lab tests: installs Debian packages. The downloads stay in the cache folder of the
# user, so that a new container installs them while the package servers cannot be reached.

# Runs a command up to four times, because networks fail.
retry() {
  local pause
  for pause in 2 10 30; do
    "$@" && return 0
    sleep "$pause"
  done
  "$@"
}

# packages NAME...: installs the packages that are missing. Status 1: not possible.
packages() {
  local missing=() name root=() archives install output
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return 0
  if [ "$(id -u)" != 0 ]; then
    root=(sudo)
    # A password cannot be entered here.
    [ -t 0 ] || root+=(--non-interactive)
  fi
  if ! command -v apt-get >/dev/null || ! "${root[@]}" true; then
    printf 'Please install (Debian names): %s\n' "${missing[*]}" >&2
    return 1
  fi
  printf 'installing %s\n' "${missing[*]}" >&2
  archives=${missing[*]}
  archives=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/packages/${archives// /+}
  mkdir -p "$archives/partial" || return 1
  # An installation that was interrupted blocks all others.
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive dpkg --configure -a >/dev/null 2>&1 || true
  root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300
    -o "Dir::Cache::archives=$archives")
  install=("${root[@]}" install -y --no-install-recommends)
  if compgen -G "$archives/*.deb" >/dev/null; then
    "${install[@]}" --no-download "$archives"/*.deb >/dev/null 2>&1 && return 0
    # They no longer fit the system.
    rm -f "$archives"/*.deb
  fi
  retry "${root[@]}" update >/dev/null 2>&1 || true
  output=$(retry "${install[@]}" "${missing[@]}" 2>&1) && return 0
  printf '%s\n' "$output" | tail -n 3 >&2
  return 1
}
