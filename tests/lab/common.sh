# shellcheck shell=bash
# Sourced by the lab tests: verdicts, clean-up, waiting.
#
# Every test is one step of `./test all`. It prints a line for each check and ends with status
# 0 (passed), 1 (failed) or 77 (skipped, with the reason). What it starts is ended by its pid in
# the EXIT trap, what it downloads is kept in the user's cache folder.

set -euo pipefail

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$LAB/../.." && pwd)
# shellcheck source=tests/lab/packages.sh
. "$LAB/packages.sh"
LAB_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader
STEP=$(basename "$0" .sh)
PASSED=0
FAILED=0
AT_EXIT=()

WORK=$(mktemp -d "${TMPDIR:-/tmp}/bms-lab.XXXXXX")

note() { printf '%s: %s\n' "$STEP" "$*"; }

pass() {
  PASSED=$((PASSED + 1))
  printf 'ok    %s\n' "$*"
}

fail() {
  FAILED=$((FAILED + 1))
  printf 'FAIL  %s\n' "$*"
}

# check WHAT COMMAND...: one verdict from the command's status; its output is shown when it fails.
check() {
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then
    pass "$what"
  else
    fail "$what"
    [ -z "$said" ] || printf '%s\n' "$said" | tail -n 12 | sed 's/^/      | /'
  fi
}

skip() {
  printf 'SKIPPED  %s: %s\n' "$STEP" "$*" >&2
  exit 77
}

# For a test bed that could not be built: the product may be fine, but nothing was shown.
die() {
  printf 'FAIL  %s: %s\n' "$STEP" "$*" >&2
  exit 1
}

finish() {
  note "$PASSED passed, $FAILED failed"
  [ "$FAILED" = 0 ]
}

at_exit() { AT_EXIT+=("$*"); }

clean_up() {
  local status=$? i
  set +e
  trap '' INT TERM
  for ((i = ${#AT_EXIT[@]} - 1; i >= 0; i--)); do eval "${AT_EXIT[i]}" >/dev/null 2>&1; done
  if [ "$status" != 0 ] && [ -n "${BMS_LAB_KEEP:-}" ]; then
    cp -r "$WORK" "$BMS_LAB_KEEP"
  fi
  rm -rf --one-file-system "$WORK"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# end_process PID [SIGNAL]: only children that still run, so a number used again is never hit.
end_process() {
  local pid=$1 i
  is_running "$pid" || return 0
  kill "-${2:-TERM}" "$pid"
  for ((i = 0; i < 100; i++)); do
    is_running "$pid" || return 0
    sleep 0.1
  done
  kill -KILL "$pid"
}

is_running() { jobs -rp | grep -qx "$1"; }

# start NAME COMMAND...: runs it behind our back; STARTED is its pid, $WORK/NAME.log what it says.
start() {
  local name=$1
  shift
  "$@" >>"$WORK/$name.log" 2>&1 </dev/null &
  STARTED=$!
  at_exit "end_process $STARTED"
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep 0.2
  done
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

port_answers() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# binary VARIABLE DEFAULT: the path of a program under test, absolute.
binary() {
  local path=${!1:-$REPOSITORY/$2}
  [ -x "$path" ] || die "$path is missing: set $1 to the program under test"
  (cd "$(dirname "$path")" && printf '%s/%s\n' "$PWD" "$(basename "$path")")
}
