# shellcheck shell=bash
# Sourced by the lab tests: verdicts, clean-up, waiting.
#
# Every test is one step of `./test all`. It prints a line for each check and ends with status 0 (passed),
# 1 (failed) or 77 (skipped; the last line has the reason). The EXIT trap ends the processes that it started.
# Downloads stay in the user's cache folder.

set -euo pipefail

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$LAB/../.." && pwd)
# shellcheck source=tests/lab/packages.sh
. "$LAB/packages.sh"
STEP=$(basename "$0" .sh)
# The eleven state topics that earlier Daren readers published.
# shellcheck disable=SC2034
STATE_KEYS=(soc pack_voltage pack_current remaining_capacity full_capacity cycle_count ambient_temp
  mos_temp min_cell_voltage max_cell_voltage cell_voltage_diff)
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

# check TITLE COMMAND...: passes when the command does, otherwise prints its output.
check() {
  local title=$1
  shift
  if "$@" >"$WORK/output" 2>&1; then
    pass "$title"
  else
    fail "$title"
    tail -n 12 "$WORK/output" | sed 's/^/      | /'
  fi
}

skip() {
  printf 'SKIPPED  %s: %s\n' "$STEP" "$*" >&2
  exit 77
}

# For a failed set-up, which shows nothing about the program.
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

# end_child PID [SIGNAL]: ends a running child. Other processes that got the same number are safe.
end_child() {
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

# start NAME COMMAND...: runs it in the background with output to $WORK/NAME.log and sets STARTED to its pid.
start() {
  local name=$1
  shift
  "$@" >>"$WORK/$name.log" 2>&1 </dev/null &
  STARTED=$!
  at_exit "end_child $STARTED"
}

# stops_cleanly PID SECONDS: sends SIGTERM and expects status 0 within that time.
stops_cleanly() {
  local i status=0
  kill -TERM "$1"
  for ((i = 0; i < $2 * 10; i++)); do
    is_running "$1" || break
    sleep 0.1
  done
  if is_running "$1"; then
    echo "still running after $2 s"
    return 1
  fi
  wait "$1" || status=$?
  [ "$status" = 0 ] || echo "status $status"
  [ "$status" = 0 ]
}

# wait_for SECONDS COMMAND...: repeats the command until it succeeds.
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep 0.2
  done
}

# is_good_reading FILE: the file contains what `read` prints for a battery without errors.
is_good_reading() {
  python3 - "$1" <<'PY'
import json, sys

reading = json.load(open(sys.argv[1]))
assert reading["error"] is None, reading["error"]
assert reading["connected"] is True, reading
cells = reading["status"]["cell_info"]
assert 30 < cells["total_voltage"] < 70, cells
assert len(cells["voltages"]) == 16, cells
PY
}

# has_numbers FILE BASE KEY...: the lines `topic payload` of FILE have a number for each key.
has_numbers() {
  local file=$1 base=$2 key status=0
  shift 2
  for key in "$@"; do
    grep -qE "^$base/$key -?[0-9]+(\\.[0-9]+)?\$" "$file" || {
      echo "$base/$key has no number"
      status=1
    }
  done
  return "$status"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

port_answers() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# binary VARIABLE DEFAULT: prints the absolute path of the program under test.
binary() {
  local path=${!1:-$2}
  [ "${path#/}" != "$path" ] || [ -n "${!1:-}" ] || path=$REPOSITORY/$path
  [ -x "$path" ] || die "$path is missing: set $1 to the program under test"
  (cd "$(dirname "$path")" && printf '%s/%s\n' "$PWD" "$(basename "$path")")
}
