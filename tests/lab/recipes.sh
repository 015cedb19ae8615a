#!/usr/bin/env bash
# The recipes of docs/recipes.md: their topics and JSON keys against the program, their jq filters, and Node-RED.
#
#   BMS_READER   the program under test (default: the debug build)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
packages mosquitto mosquitto-clients jq || skip "packages cannot be installed"
export PATH=$PATH:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1
NODE_RED=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/node-red-4.1.15
arguments=("$READER" "$WORK")
mkdir -p "$NODE_RED"
if [ -e "$NODE_RED/.done" ] || { command -v npm >/dev/null && (cd "$NODE_RED" &&
  retry npm install --ignore-scripts --no-audit --no-fund --silent node-red@4.1.15 >&2) && touch "$NODE_RED/.done"; }; then
  arguments+=("$NODE_RED")
else
  note "SKIPPED: Node-RED cannot be installed from npm"
fi
python3 "$LAB/recipes.py" "${arguments[@]}"
