#!/usr/bin/env bash
# The program beside a real Home Assistant and a real Mosquitto: see home-assistant/story.py.
#
#   BMS_READER   the program under test (default: the debug build)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
packages mosquitto mosquitto-clients iproute2 || skip "Mosquitto cannot be installed here"
HASS=$("$LAB/home-assistant/install.sh" | tail -n 1)/bin/hass || skip "Home Assistant cannot be installed here"

# In a network of its own: Home Assistant's default integrations want to call out, and a pid
# namespace of its own: nothing is left behind, whatever happens.
apart=()
if [ "$(id -u)" = 0 ]; then
  # shellcheck disable=SC2016
  apart=(unshare --net --pid --fork --mount-proc --kill-child
    sh -c 'ip link set lo up && "$@"' apart)
fi
export PYTHONDONTWRITEBYTECODE=1
"${apart[@]}" python3 "$LAB/home-assistant/story.py" "$READER" "$HASS"
