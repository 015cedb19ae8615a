#!/usr/bin/env bash
# A real bluetoothd in an emulated Linux machine, with a JBD and a JK board on one adapter, and
# Mosquitto: both boards are read, and both come back after every failure.
#
# bluetooth/peripheral.py simulates the radio and the two boards and speaks HCI at the guest's second
# serial port. The replies of the boards come from the program's own simulators.
#
#   BMS_READER   the program under test (default: dist/amd64)
. "$(dirname "$0")/common.sh"

BUMBLE=0.0.236
JBD=A4:C1:37:00:12:34
JK=C8:47:80:00:12:34
declare -A ADDRESS=([jbd1]=$JBD [jk1]=$JK)
# Seconds for the guest to boot and both boards to be found, and for a board to come back.
RECOVERY=180

[ "$(uname -m)" = x86_64 ] || skip "only x86_64 machines are emulated"
grep -qx 'ID=debian' /etc/os-release || skip "the guest consists of Debian packages"
[ "$(id -u)" = 0 ] || skip "unpacking the guest's packages needs root"
READER=$(binary BMS_READER dist/amd64/bms-reader)
packages qemu-system-x86 cpio kmod mmdebstrap dbus-daemon mosquitto mosquitto-clients python3-venv ||
  skip "qemu cannot be installed"
PATH=$PATH:/usr/sbin:/sbin
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/bms-reader/bluetooth
GUEST=$CACHE/guest
VENV=$CACHE/bumble-$BUMBLE
JOB=$WORK/job

retry "$LAB/bluetooth/build-guest.sh" "$GUEST" >"$WORK/guest.log" 2>&1 ||
  die "no guest: $(tail -n 3 "$WORK/guest.log")"
if [ ! -x "$VENV/ready/python" ]; then
  rm -rf "$VENV"
  python3 -m venv "$VENV" || die "no virtual environment in $VENV"
  retry "$VENV/bin/pip" --quiet --disable-pip-version-check install "bumble==$BUMBLE" ||
    skip "bumble cannot be installed here"
  ln -s bin "$VENV/ready"
fi

# Two boards with different values, and one adapter.
make_spec() {
  "$READER" simulate --type jbd --seed 1 --gatt-spec "$JBD" >"$WORK/jbd1.json"
  "$READER" simulate --type jk --seed 2 --gatt-spec "$JK" >"$WORK/jk1.json"
  python3 - "$WORK" <<'PY'
import json, sys

boards = [json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("jbd1", "jk1")]
assert boards[0]["expected"] != boards[1]["expected"]
json.dump({"devices": boards}, open(f"{sys.argv[1]}/spec.json", "w"))
PY
}

start_broker() {
  BROKER=$(free_port)
  printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n' "$BROKER" >"$WORK/mosquitto.conf"
  start mosquitto mosquitto -c "$WORK/mosquitto.conf"
  wait_for 20 port_answers "$BROKER" || die "no broker: $(tail -n 3 "$WORK/mosquitto.log")"
  start messages mosquitto_sub -h 127.0.0.1 -p "$BROKER" -v -t 'bms/+/online' -t 'bms/+/raw'
}

start_radio() {
  mkfifo "$WORK/radio"
  exec 9<>"$WORK/radio"
  "$VENV/bin/python" "$LAB/bluetooth/peripheral.py" "$WORK/spec.json" "unix-server:$WORK/hci" \
    <&9 >"$WORK/radio.log" 2>&1 &
  at_exit "end_child $!"
  wait_for 60 grep -q '"ready"' "$WORK/radio.log" || die "no radio: $(tail -n 3 "$WORK/radio.log")"
}

start_guest() {
  mkdir -p "$JOB/requests" "$JOB/done"
  cp "$LAB/bluetooth/guest-init.sh" "$LAB/bluetooth/guest-main.sh" "$JOB"
  cp "$READER" "$JOB/bms-reader"
  cat >"$JOB/environment" <<ENVIRONMENT
export DEVICES='[{"id": "jbd1", "address": "$JBD", "keep_connected": true},
  {"id": "jk1", "address": "$JK"}]'
export READ_INTERVAL=2 MQTT_HOST=10.0.2.100 MQTT_PORT=1883 HTTP_LISTEN=off RUST_LOG=info,bms_reader::poll=debug
ENVIRONMENT
  # On a busy machine the guest's timer is late, and the kernel would stop using it.
  start qemu timeout -k 5 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 384 \
    -nodefaults -display none -no-reboot -kernel "$GUEST/vmlinux" -initrd "$GUEST/initramfs.cpio" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check" \
    -chardev "file,id=console,path=$WORK/console.log" -serial chardev:console \
    -chardev "socket,id=hci,path=$WORK/hci" -serial chardev:hci \
    -netdev "user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:1883-cmd:$CACHE/guest/root/bin/busybox nc 127.0.0.1 $BROKER" \
    -device virtio-net-pci,netdev=net,romfile= \
    -fsdev "local,id=root,path=$GUEST/root,security_model=none,readonly=on" \
    -device virtio-9p-pci,fsdev=root,mount_tag=root \
    -fsdev "local,id=job,path=$JOB,security_model=none" -device virtio-9p-pci,fsdev=job,mount_tag=job
  QEMU=$STARTED
}

# guest NAME: guest-main.sh carries out a request.
guest() {
  rm -f "$JOB/done/$1"
  touch "$JOB/requests/$1"
  wait_for 60 test -e "$JOB/done/$1" || die "the guest does not respond: $(tail -n 3 "$WORK/console.log")"
}

# radio JSON: sends a command to peripheral.py.
radio() {
  local before
  before=$(grep -c '"done"' "$WORK/radio.log" || true)
  printf '%s\n' "$1" >&9
  wait_for 60 eval "[ \"\$(grep -c '\"done\"' $WORK/radio.log)\" -gt $before ]" || die "the radio does not respond"
}

# Starts a new section: the functions below look at messages and log lines since the last mark.
mark() {
  RECEIVED=$(wc -l <"$WORK/messages.log")
  LOGGED=$(wc -l <"$JOB/reader.log")
}

messages() { tail -n "+$((RECEIVED + 1))" "$WORK/messages.log"; }

logged() { tail -n "+$((LOGGED + 1))" "$JOB/reader.log"; }

# receives PATTERN SECONDS: waits for an MQTT message. grep reads all of them: with -q it would end `tail` by a signal.
receives() {
  local until=$((SECONDS + $2))
  until messages | grep -E "$1" >/dev/null; do
    [ "$SECONDS" -lt "$until" ] || { messages | cut -c1-160 | tail -n 3; logged | tail -n 6; return 1; }
    sleep 0.5
  done
}

goes_offline() { receives "^bms/$1/online false" 120; }

comes_back() { receives "^bms/$1/online true" "$RECOVERY" && is_read "$1"; }

# is_read ID: waits for a good reading.
is_read() { receives "^bms/$1/raw .*\"error\":null" "$RECOVERY"; }

stays_online() { ! messages | grep -E "^bms/$1/online false"; }

# logs_once PATTERN: exactly one log line matches.
logs_once() {
  local count
  count=$(logged | grep -cE "$1" || true)
  [ "$count" = 1 ] && return
  echo "$count lines, not one:"
  logged
  return 1
}

# back_off ID...: the boards are in the longest pause, of 45 to 60 s.
back_off() {
  local id
  for id in "$@"; do
    logged | grep "${ADDRESS[$id]}: next attempt within" | tail -n 1 | grep -qE 'within [4-6][0-9]\.' || return 1
  done
}

# ends_early ID: the pause ended because something returned.
ends_early() { logged | grep "${ADDRESS[$1]}: worth another attempt" || { logged | tail -n 12; return 1; }; }

# has_board_values ID: the retained values are those of the board.
has_board_values() {
  mosquitto_sub -h 127.0.0.1 -p "$BROKER" -v -W 2 --retained-only -t "bms/$1/+" >"$WORK/$1.values" || true
  python3 - "$WORK/$1.json" "$WORK/$1.values" <<'PY'
import json, sys

expected = json.load(open(sys.argv[1]))["expected"]
lines = (line.rstrip("\n").split(" ", 1) for line in open(sys.argv[2]) if " " in line)
published = {topic.rsplit("/", 1)[1]: payload for topic, payload in lines}
wrong = {key: (published.get(key), value) for key, value in expected.items()
         if key not in published or float(published[key]) != float(value)}
assert len(expected) > 15 and not wrong, wrong
PY
}

# BlueZ itself takes two seconds to end a connection.
connections_are_closed() {
  python3 - "$WORK/radio.log" <<'PY'
import json, sys

events = [json.loads(line)["event"] for line in open(sys.argv[1]) if line.startswith("{")]
assert events.count("connected") == events.count("disconnected") > 0
PY
}

make_spec || die "the program writes no GATT specs"
start_broker
start_radio
: >"$WORK/messages.log"
start_guest
wait_for 120 test -s "$JOB/reader.log" || die "the guest does not start: $(tail -n 5 "$WORK/console.log")"
RECEIVED=0 LOGGED=0
for id in jbd1 jk1; do
  check "$id: found by its address alone and read" is_read "$id"
  check "$id: the values are those of the board" wait_for 30 has_board_values "$id"
  check "$id: one log line reports it" logs_once "$id: answers \("
done

mark
radio '{"cmd": "drop", "address": "'$JBD'"}'
check "lost connection: one log line reports it" wait_for "$RECOVERY" logs_once "$JBD went away: .*; open again after"
mark
for id in jbd1 jk1; do
  check "lost connection: $id is read" is_read "$id"
  check "lost connection: $id stays online" stays_online "$id"
done

mark
radio '{"cmd": "visible", "on": false, "address": "'$JBD'"}'
radio '{"cmd": "drop", "address": "'$JBD'"}'
check "board out of reach: jbd1 is offline" goes_offline jbd1
check "board out of reach: one log line reports it" logs_once "WARN .*does not see $JBD, but another device; .*jbd1 is waiting"
check "board out of reach: jk1 is still read" eval "stays_online jk1 && is_read jk1"
check "board out of reach: jbd1 backs off" wait_for 180 back_off jbd1
radio '{"cmd": "visible", "on": true, "address": "'$JBD'"}'
check "board out of reach: jbd1 comes back" comes_back jbd1
check "board out of reach: its advertisement ended the pause" ends_early jbd1
check "board out of reach: one log line reports its return" logs_once "jbd1: answers again after"

# outage TITLE START END PATTERN PATTERN: of the whole adapter; one log line each for its start and end.
outage() {
  local id
  mark
  guest "$2"
  for id in jbd1 jk1; do check "$1: $id is offline" goes_offline "$id"; done
  check "$1: one log line reports it" logs_once "$4"
  check "$1: both back off" wait_for 180 back_off jbd1 jk1
  guest "$3"
  for id in jbd1 jk1; do
    check "$1: $id comes back" comes_back "$id"
    check "$1: the pause of $id ended early" ends_early "$id"
    check "$1: one log line reports the return of $id" logs_once "$id: answers again after"
  done
  check "$1: one log line reports its end" logs_once "$5"
}

outage "bluetoothd killed" kill-bluetoothd start-bluetoothd "WARN the Bluetooth service .bluetoothd. is not running" "Bluetooth works again"
outage "adapter off" adapter-off adapter-on "WARN the Bluetooth adapter hci0 is switched off" "Bluetooth works again"

mark
guest stop
check "SIGTERM ends it with status 0" test "$(cat "$JOB/status")" = 0
for id in jbd1 jk1; do check "$id: is reported offline" receives "^bms/$id/online false" 10; done
check "both links are closed" wait_for 20 connections_are_closed
guest end
wait_for 30 eval "! is_running $QEMU" || die "the guest does not end"
finish
