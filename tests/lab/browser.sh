#!/usr/bin/env bash
# The dashboard in a real Chromium: see browser/dashboard_test.py.
#
#   BMS_READER            the program under test (default: the debug build)
#   BROWSER_SCREENSHOTS   the folder of the screenshots (default: browser in the target folder)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
SCREENSHOTS=${BROWSER_SCREENSHOTS:-${CARGO_TARGET_DIR:-$REPOSITORY/target}/browser}
. "$LAB/browser/install.sh"
mkdir -p "$SCREENSHOTS"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB
"$VENV/bin/python" "$LAB/browser/dashboard_test.py" \
  "$READER" "$(command -v chromium)" "$SCREENSHOTS"
