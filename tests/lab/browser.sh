#!/usr/bin/env bash
# The dashboard in a real Chromium: see browser/dashboard_test.py.
#
#   BMS_READER            the program under test (default: the debug build)
#   BROWSER_SCREENSHOTS   the folder of the screenshots (default: browser in the target folder)
. "$(dirname "$0")/common.sh"

# The browser driver, and a strict OpenMetrics parser.
PLAYWRIGHT=1.65.2
PROMETHEUS_CLIENT=0.26.0

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
SCREENSHOTS=${BROWSER_SCREENSHOTS:-${CARGO_TARGET_DIR:-$REPOSITORY/target}/browser}
packages chromium fonts-dejavu-core mosquitto python3-venv || skip "Chromium cannot be installed"
VENV=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/browser-$PLAYWRIGHT-$PROMETHEUS_CLIENT
if [ ! -x "$VENV/ready/python" ]; then
  rm -rf "$VENV"
  python3 -m venv "$VENV" || die "no virtual environment in $VENV"
  retry "$VENV/bin/pip" --quiet --disable-pip-version-check install \
    "playwright==$PLAYWRIGHT" "prometheus_client==$PROMETHEUS_CLIENT" ||
    skip "Playwright cannot be installed"
  ln -s bin "$VENV/ready"
fi
mkdir -p "$SCREENSHOTS"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB
"$VENV/bin/python" "$LAB/browser/dashboard_test.py" \
  "$READER" "$(command -v chromium)" "$SCREENSHOTS"
