# shellcheck shell=bash
# Steps that run the program together with other software: browsers, Home Assistant, BlueZ, Docker.
# Sourced by ./test.
: "${work:?}" "${cache:?}" "${linted_cargo:?}"

# Runs a script of tests/lab. It ends with status 77 and the reason as its last line when a part is missing.
lab() {
    local status=0
    timeout "${LAB_LIMIT:-1500}" "tests/lab/$1" 2>&1 | tee "$work/$1" || status=${PIPESTATUS[0]}
    [ "$status" != 77 ] || skip "$(tail -n 1 "$work/$1")"
    return "$status"
}

# The same with a debug build of the program.
lab_with_program() {
    "${linted_cargo[@]}" build --locked --all-features --quiet || return 1
    BMS_READER=$(realpath "$CARGO_TARGET_DIR")/debug/bms-reader lab "$1"
}

step_browser() { lab_with_program browser.sh; }

step_home_assistant() { lab_with_program home-assistant.sh; }

# Wired batteries on the serial proxies of two generations of ESPHome.
step_esphome() { lab_with_program esphome.sh; }

# The program with InfluxDB and VictoriaMetrics.
step_influx() { lab_with_program influx.sh; }

# Outages of broker, network and server, stops and kills: every reading is counted.
step_outages() { lab_with_program outages.sh; }

# The program with Mosquitto, RabbitMQ 3 and 4, NATS and amqtt: four minutes, mostly of waiting.
step_brokers() { lab_with_program brokers.sh; }

# What docs/recipes.md names, and Node-RED.
step_recipes() { lab_with_program recipes.sh; }

# 200 readers on a cluster of RabbitMQ, so not a part of `./test all`.
step_cluster() { lab_with_program cluster.sh; }

# The demo on terminals of several sizes.
step_terminal() { lab_with_program terminal.sh; }

step_static() {
    need file:file readelf:binutils || return 1
    scripts/build-static x86_64-unknown-linux-musl aarch64-unknown-linux-musl
}

# The static binaries, each alone in an empty folder.
step_bare() { lab static.sh; }

# The static amd64 binary together with a real bluetoothd.
step_bluetooth() { lab bluetooth.sh; }

step_docker() { lab docker.sh; }

step_manifest() { lab manifest.sh; }

# Hours with 20 batteries, so not a part of `./test all`: `./test endurance`, with ENDURANCE_MINUTES if two
# hours are too long. Also draws docs/images/endurance.svg.
step_endurance() {
    install_fake_bluez || { skip "Python with dbus-fast, or dbus-daemon, is missing" || return; }
    need mosquitto:mosquitto mosquitto_sub:mosquitto-clients || { skip "Mosquitto is missing" || return; }
    scripts/build-static x86_64-unknown-linux-musl || return 1
    "$cache/bluez/bin/python" tests/lab/endurance.py dist/amd64/bms-reader \
        "${ENDURANCE_MINUTES:-120}"
}
