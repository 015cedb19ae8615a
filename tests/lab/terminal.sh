#!/usr/bin/env bash
# `demo` and `read` on terminals of several sizes, in tmux.
#
#   BMS_READER          the program under test (default: the debug build)
#   TERMINAL_CAPTURES   the folder of the captured screens (default: terminal in the target folder)
# shellcheck disable=SC2016 # The shell in the terminal expands the variables.
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
CAPTURES=${TERMINAL_CAPTURES:-${CARGO_TARGET_DIR:-$REPOSITORY/target}/terminal}
packages tmux mosquitto || skip "packages cannot be installed"
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C.UTF-8
mkdir -p "$CAPTURES"
SIZES=(60x20 80x24 120x40)
NAMES=(Camper "Cellar stack" Garage "Garage left" "Garage right" Rack "Rack 1" "Rack 2" "Rack 3")
declare -A PORTS

terminals() { tmux -u -f /dev/null -S "$WORK/tmux" "$@"; }
at_exit 'tmux -S "$WORK/tmux" kill-server'

# screen SESSION [OPTION]: what the terminal shows.
screen() { terminals capture-pane -p -t "$1" "${@:2}"; }

# keep SESSION NAME: keeps the screen as text.
keep() { screen "$1" >"$CAPTURES/$2.txt"; }

# start_demo SIZE: in a shell, so that the screen after its end can be looked at.
start_demo() {
  PORTS[$1]=$(free_port)
  terminals new-session -d -s "$1" -x "${1%x*}" -y "${1#*x}" env -i "PATH=$PATH" "LC_ALL=$LC_ALL" TERM=tmux-256color \
    "HTTP_LISTEN=127.0.0.1:${PORTS[$1]}" HISTORY_HOURS=1 "READER=$READER" sh
  terminals send-keys -t "$1" '"$READER" demo' Enter
}

has_all_values() {
  local name shown
  shown=$(screen "$1")
  for name in "${NAMES[@]}"; do
    grep -qE "^$name {2,}[0-9.]+ +[0-9.]+ " <<<"$shown" || return 1
  done
}

has_log_line() { screen "$1" | grep -qE '^ *(WARN|INFO|ERROR) '; }

warns_about_broker() { screen "$1" | grep -E 'WARN MQTT|refused'; }

shows_url() { screen "$1" | head -n 1 | grep -qx "Dashboard: http://127.0.0.1:${PORTS[$1]}/"; }

# Without -J, tmux prints a wrapped line as two. Both pictures are taken by one command of tmux, because the demo
# draws every second.
has_no_wrapped_line() {
  local both
  both=$(terminals capture-pane -p -t "$1" \; display-message -p -t "$1" "@@" \; capture-pane -p -J -t "$1")
  diff <(sed '/^@@$/,$d' <<<"$both" | grep .) <(sed '1,/^@@$/d' <<<"$both" | sed 's/ *$//' | grep .)
}

# Each battery has one row, and below the table there is nothing but the log.
has_no_ghost_rows() {
  local name count shown
  shown=$(screen "$1")
  for name in "${NAMES[@]}"; do
    count=$(grep -cE "^$name {2,}([0-9.]+|-) +([0-9.]+|-) " <<<"$shown")
    [ "$count" = 1 ] || { echo "$count rows of $name" && return 1; }
  done
  ! sed '1,/^Rack 3 /d' <<<"$shown" | grep -vE '^ *((WARN|INFO|ERROR) .*)?$'
}

# The cut mark shows which rows are longer than the terminal.
fits() {
  local longest
  longest=$(screen "$1" | wc -L)
  [ "$longest" -le "$2" ] || { echo "a line of $longest columns" && return 1; }
}

# looks_right SESSION COLUMNS TITLE
looks_right() {
  check "$3: the address of the dashboard is visible" shows_url "$1"
  check "$3: no line is wrapped" has_no_wrapped_line "$1"
  check "$3: no line is wider than the terminal" fits "$1" "$2"
  check "$3: one row for each battery" has_no_ghost_rows "$1"
}

is_restored() {
  [ "$(terminals display-message -p -t "$1" '#{alternate_on} #{cursor_flag} #{wrap_flag}')" = "0 1 1" ]
}

for size in "${SIZES[@]}"; do start_demo "$size"; done
for size in "${SIZES[@]}"; do
  check "$size: every battery is read" wait_for 120 has_all_values "$size"
  keep "$size" "demo-$size-start"
  check "$size: starts without a warning about the broker" eval "! warns_about_broker $size"
done
for size in "${SIZES[@]}"; do
  # The demo simulates a battery that stops answering, which is logged.
  check "$size: the log is below the table" wait_for 180 has_log_line "$size"
  looks_right "$size" "${size%x*}" "$size"
  keep "$size" "demo-$size"
done

terminals resize-window -t 120x40 -x 70 -y 22
check "resized: the table follows" wait_for 20 eval '[ "$(screen 120x40 | wc -L)" -le 70 ]'
looks_right 120x40 70 "resized to 70x22"
keep 120x40 demo-resized

for size in "${SIZES[@]}"; do
  terminals send-keys -t "$size" C-c
  check "$size: Ctrl-C restores the terminal" wait_for 20 is_restored "$size"
done
keep 80x24 demo-stopped

has_read_table() { screen 60x20 | grep -qE '^BMS +[0-9.]+ +[0-9.]+ '; }
has_json() { screen 60x20 -J -S - | grep '^{"id":"bms",.*"error":null}' >/dev/null; }
terminals send-keys -t 60x20 'clear; BMS_TYPE=simulated "$READER" read' Enter
check "read prints a table on a terminal" wait_for 60 has_read_table
check "read: no line is wrapped" has_no_wrapped_line 60x20
keep 60x20 read
terminals send-keys -t 60x20 'clear; BMS_TYPE=simulated "$READER" read --json' Enter
check "read --json prints JSON on a terminal" wait_for 60 has_json

note "screens are in $CAPTURES"
finish
