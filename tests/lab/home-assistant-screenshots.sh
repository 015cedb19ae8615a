#!/usr/bin/env bash
# The pictures of Home Assistant in the documents: see home-assistant/screenshots.py. No test; run it by hand.
#
#   BMS_READER            the program (default: the debug build)
#   BROWSER_SCREENSHOTS   the folder of the pictures (default: docs/images)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
. "$LAB/browser/install.sh"
packages mosquitto-clients iproute2 || skip "Mosquitto cannot be installed"
HASS=$("$LAB/home-assistant/install.sh" | tail -n 1)/bin/hass || skip "Home Assistant cannot be installed"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB:$LAB/home-assistant
# A network namespace, because Home Assistant calls out.
# shellcheck disable=SC2016
unshare --net --pid --fork --mount-proc --kill-child sh -c 'ip link set lo up && "$@"' isolated \
  "$VENV/bin/python" "$LAB/home-assistant/screenshots.py" \
  "$READER" "$HASS" "$(command -v chromium)" "${BROWSER_SCREENSHOTS:-$REPOSITORY/docs/images}"
