# shellcheck shell=bash
# Sourced: installs Chromium and its driver, and sets VENV to the folder of the Python that has it.

# The browser driver, and a strict OpenMetrics parser.
PLAYWRIGHT=1.65.2
PROMETHEUS_CLIENT=0.26.0
# axe, the accessibility checks.
AXE=0.1.8

packages chromium fonts-dejavu-core mosquitto python3-venv || skip "Chromium cannot be installed"
VENV=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/browser-$PLAYWRIGHT-$PROMETHEUS_CLIENT-$AXE
if [ ! -x "$VENV/ready/python" ]; then
  rm -rf "$VENV"
  python3 -m venv "$VENV" || die "no virtual environment in $VENV"
  retry "$VENV/bin/pip" --quiet --disable-pip-version-check install \
    "playwright==$PLAYWRIGHT" "prometheus_client==$PROMETHEUS_CLIENT" "axe-playwright-python==$AXE" ||
    skip "Playwright cannot be installed"
  ln -s bin "$VENV/ready"
fi
