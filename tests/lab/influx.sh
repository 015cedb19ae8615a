#!/usr/bin/env bash
# The program with a real InfluxDB and a real VictoriaMetrics: what they contain after an outage is what was
# published over MQTT.
#
#   BMS_READER   the program under test (default: the debug build)
. "$(dirname "$0")/common.sh"

READER=$(binary BMS_READER "${CARGO_TARGET_DIR:-target}/debug/bms-reader")
packages mosquitto mosquitto-clients influxdb victoria-metrics || skip "packages cannot be installed"
PATH=$PATH:/usr/sbin:/sbin
BROKER=$(free_port)
PORT=$(free_port)
HTTP=$(free_port)
export BMS_OPTIONS_FILE=$WORK/none HTTP_LISTEN=127.0.0.1:$HTTP MQTT_HOST=127.0.0.1 MQTT_PORT=$BROKER
export INFLUX_URL=http://127.0.0.1:$PORT INFLUX_DATABASE=bms INFLUX_USER=lab INFLUX_PASSWORD='pass word'
export DEVICES='[{"id": "a", "type": "simulated"}, {"id": "b-2", "type": "simulated", "slave_id": 2},
  {"id": "C_3", "type": "simulated", "slave_id": 3}]' READ_INTERVAL=1

start mosquitto mosquitto -p "$BROKER"
wait_for 20 port_answers "$BROKER" || die "Mosquitto does not start"

influxdb() {
  cat >"$WORK/influx.conf" <<CONF
reporting-disabled = true
bind-address = "127.0.0.1:$(free_port)"
[meta]
dir = "$WORK/influx/meta"
[data]
dir = "$WORK/influx/data"
wal-dir = "$WORK/influx/wal"
[http]
bind-address = "127.0.0.1:$PORT"
auth-enabled = true
CONF
  start database influxd run -config "$WORK/influx.conf"
}

victoriametrics() {
  start database victoria-metrics -storageDataPath="$WORK/victoria" -httpListenAddr="127.0.0.1:$PORT" \
    -dedup.minScrapeInterval=1ms
}

# query TEXT: sends a statement to InfluxDB.
query() { curl -sf -u "lab:$INFLUX_PASSWORD" "$INFLUX_URL/query" --data-urlencode "q=$1"; }

metric() { curl -s "http://127.0.0.1:$HTTP/metrics" | sed -n "s/^bms_influx_$1 \([0-9]*\).*/\1/p"; }
has_written() { [ "$(metric written_total)" -gt "$1" ]; }
waits_for() { [ "$(metric queue)" -gt "$1" ]; }
is_empty() { [ "$(metric queue)" = 0 ]; }
logs() { grep -F "$1" "$WORK/reader.log"; }
no_secret() { ! grep -rF "$INFLUX_PASSWORD" "$WORK/reader.log"; }

# check_prints TEXT [VARIABLE]: a line of the command `check`.
check_prints() {
  local output
  output=$(env "${@:2}" "$READER" check) || true
  grep -F "$1" <<<"$output"
}

# same_values SERVER: compares every published reading with the point of that second.
same_values() { python3 "$LAB/influx.py" "$1" "$INFLUX_URL" "$WORK/raw.log"; }

# outage SERVER SIGNAL: readings before, during and after an outage of the server. A confirmed reading survives
# SIGKILL in InfluxDB; VictoriaMetrics keeps the last seconds in memory.
outage() {
  local name=$1 before
  : >"$WORK/reader.log"
  : >"$WORK/raw.log"
  start raw mosquitto_sub -h 127.0.0.1 -p "$BROKER" -t 'bms/+/raw'
  local recorder=$STARTED
  start reader "$READER"
  local reader=$STARTED
  check "$name takes readings" wait_for 30 has_written 10
  before=$(metric written_total)
  end_child "$DATABASE" "$2"
  check "$name is away: readings wait" wait_for 60 waits_for 30
  "$name"
  DATABASE=$STARTED
  check "$name is back: nothing waits" wait_for 120 is_empty
  check "$name takes readings again" wait_for 30 has_written "$((before + 30))"
  check "$name: the log has one line for the outage" test "$(logs 'readings are kept meanwhile' | wc -l)" = 1
  check "$name: nothing was dropped" test "$(metric dropped_total)" = 0
  check "the program stops" stops_cleanly "$reader" 5
  end_child "$recorder"
  wait_for 20 same_values "$name" || true
  check "$name: values equal those of MQTT" same_values "$name"
  check "$name: the log contains no secret" no_secret
  end_child "$DATABASE"
}

influxdb
DATABASE=$STARTED
wait_for 30 port_answers "$PORT" || die "InfluxDB does not start: $(tail -n 3 "$WORK/database.log")"
wait_for 10 curl -sf "$INFLUX_URL/query" --data-urlencode "q=CREATE USER lab WITH PASSWORD '$INFLUX_PASSWORD' WITH ALL PRIVILEGES" ||
  die "InfluxDB has no user"
check "check names a missing login" check_prints "401: unable to parse authentication credentials" INFLUX_USER=
query 'CREATE DATABASE bms' >/dev/null || die "InfluxDB has no database"
check "check reaches InfluxDB" check_prints "OK    InfluxDB"
outage influxdb KILL

victoriametrics
DATABASE=$STARTED
wait_for 30 port_answers "$PORT" || die "VictoriaMetrics does not start: $(tail -n 3 "$WORK/database.log")"
check "check reaches VictoriaMetrics" check_prints "OK    InfluxDB"
outage victoriametrics TERM

finish
