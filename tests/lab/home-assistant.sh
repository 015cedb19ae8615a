#!/usr/bin/env bash
# The program with a real Home Assistant and a real Mosquitto: see home-assistant/discovery_test.py.
#
#   BMS_READER   the program under test (default: the debug build)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
packages mosquitto mosquitto-clients iproute2 || skip "Mosquitto cannot be installed"
HASS=$("$LAB/home-assistant/install.sh" | tail -n 1)/bin/hass || skip "Home Assistant cannot be installed"

# A network namespace, because the default integrations of Home Assistant call out, and a pid namespace,
# so that no process is left behind.
isolated=()
if [ "$(id -u)" = 0 ]; then
  # shellcheck disable=SC2016
  isolated=(unshare --net --pid --fork --mount-proc --kill-child
    sh -c 'ip link set lo up && "$@"' isolated)
fi
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB
"${isolated[@]}" python3 "$LAB/home-assistant/discovery_test.py" "$READER" "$HASS"
