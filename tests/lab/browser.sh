#!/usr/bin/env bash
# The dashboard in a real Chromium: see browser/story.py.
#
#   BMS_READER         the program under test (default: the debug build)
#   BROWSER_PICTURES   where the screenshots go (default: the target folder)
. "$(dirname "$0")/common.sh"

# The driver, and a strict reader of OpenMetrics.
PLAYWRIGHT=1.65.2
PROMETHEUS_CLIENT=0.26.0

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
PICTURES=${BROWSER_PICTURES:-${CARGO_TARGET_DIR:-$REPOSITORY/target}/browser}
packages chromium fonts-dejavu-core mosquitto python3-venv || skip "Chromium cannot be installed here"
VENV=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/browser-$PLAYWRIGHT-$PROMETHEUS_CLIENT
if [ ! -x "$VENV/ready/python" ]; then
  rm -rf "$VENV"
  python3 -m venv "$VENV" || die "no virtual environment in $VENV"
  retry "$VENV/bin/pip" --quiet --disable-pip-version-check install \
    "playwright==$PLAYWRIGHT" "prometheus_client==$PROMETHEUS_CLIENT" || skip "Playwright cannot be installed here"
  ln -s bin "$VENV/ready"
fi
mkdir -p "$PICTURES"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB/home-assistant
"$VENV/bin/python" "$LAB/browser/story.py" "$READER" "$(command -v chromium)" "$PICTURES"
