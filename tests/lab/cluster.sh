#!/usr/bin/env bash
# 200 readers on three RabbitMQ nodes; one is killed, another one loses its network. Not a part of `./test all`:
# `./test cluster` takes four minutes.
#
#   BMS_READER   the program under test (default: the debug build)
#   READERS      how many (default: 200)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
packages procps || skip "pgrep cannot be installed"
CACHE=$("$LAB/brokers/install.sh" | tail -n 1)
[ -d "$CACHE/venv" ] || skip "the brokers cannot be installed"
export PATH=$PATH:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB:$LAB/brokers
at_exit "rm -rf --one-file-system /tmp/bms-lab-$(basename "$WORK")-* $CACHE/trixie/tmp/bms-lab-*"

# shellcheck disable=SC2016
unshare --net --mount --pid --fork --mount-proc --kill-child sh -c 'ip link set lo up && exec "$@"' isolated \
  "$CACHE/venv/bin/python" "$LAB/brokers/cluster.py" "$READER" "$CACHE" "$WORK" "${READERS:-200}"
