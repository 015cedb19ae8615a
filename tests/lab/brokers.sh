#!/usr/bin/env bash
# The program with real brokers: Mosquitto, RabbitMQ 3 and 4, NATS and amqtt, one after the other. What each of
# them can do must equal the table in docs/brokers.md.
#
#   BMS_READER    the program under test (default: the debug build)
#   UPDATE_DOCS   1 writes the table instead
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
CACHE=$("$LAB/brokers/install.sh" | tail -n 1)
[ -d "$CACHE/venv" ] || skip "the brokers cannot be installed"
export PATH=$PATH:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB:$LAB/brokers
at_exit "rm -rf --one-file-system /tmp/bms-lab-$(basename "$WORK")-* $CACHE/trixie/tmp/bms-lab-*"

# Namespaces of their own, so that neither ports nor processes meet those of other programs.
# shellcheck disable=SC2016
unshare --net --mount --pid --fork --mount-proc --kill-child sh -c 'ip link set lo up && exec "$@"' isolated \
  "$CACHE/venv/bin/python" "$LAB/brokers/checks.py" "$READER" "$CACHE" "$WORK" "$@"
