# shellcheck shell=bash
# Steps that compile, lint and test the crate. Sourced by ./test.
: "${cache:?}" "${work:?}"

step_fmt() { cargo fmt --check; }

# Clippy checks what it compiles for the tests: what `cargo clippy` does with `cargo check`, which would need
# every library a second time. Each cargo that shares the folder needs it, or the crate is compiled again.
linted_cargo=(
    env CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__ RUSTC_WORKSPACE_WRAPPER=clippy-driver cargo
)

step_build() {
    # The fuzz targets have a lock file of their own, which must contain the same dependencies.
    cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null || return 1
    "${linted_cargo[@]}" build --locked --all-features --all-targets &&
        "${linted_cargo[@]}" build --locked --all-features --test chaos
}

# Without TLS, the only build without known advisories.
step_features() { cargo clippy --locked --all-targets --no-default-features -- -D warnings; }

run_tests() { timeout 1800 "${linted_cargo[@]}" nextest run --locked --all-features "$@"; }

step_tests() {
    need mosquitto:mosquitto mosquitto_sub:mosquitto-clients openssl:openssl socat:socat || return 1
    local status=0 without_bluez
    # The Bluetooth tests write their names into this file when they cannot run.
    export BMS_READER_BLE_SKIPPED=$work/without_bluez
    : >"$BMS_READER_BLE_SKIPPED"
    install_fake_bluez ||
        echo "SKIPPED: the Bluetooth tests need Python with dbus-fast, and dbus-daemon" >&2
    if have cargo-nextest; then
        # What holds with MQTT 3.1.1 holds with 5. Most of it waits.
        BMS_TEST_MQTT_VERSION=5 run_tests --test mqtt_sink >"$work/mqtt5" 2>&1 &
        run_tests 2>&1 | tee "$work/tests" || status=1
        wait $! || status=1
        tee -a "$work/tests" <"$work/mqtt5"
    else
        timeout 1800 "${linted_cargo[@]}" test --locked --all-features --no-fail-fast --lib --bins --tests 2>&1 |
            tee "$work/tests" || status=1
    fi
    check_counts || status=1
    count_tests "$work/tests"
    without_bluez=$(wc -l <"$BMS_READER_BLE_SKIPPED")
    tests_passed=$((tests_passed - without_bluez))
    tests_skipped=$((tests_skipped + without_bluez))
    return $status
}

# Fails if the program needs more instructions, allocations or memory than benches/counts.json records.
# `./bench record` writes that file.
check_counts() {
    local program
    [ -e benches/counts.json ] || return 0
    need valgrind:valgrind python3:python3 || {
        echo "SKIPPED: the counts need valgrind and Python" >&2
        return
    }
    program=$("${linted_cargo[@]}" build --locked --all-features --bench counts --message-format=json 2>"$work/counts" |
        sed -n 's/.*"name":"counts".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    timeout 1800 python3 benches/counts.py "$program" --check benches/counts.json
}

# Reads 2,000 times over Bluetooth and over Bluetooth proxies while random calls fail, and prints what it measured.
step_soak() {
    install_fake_bluez || { skip "Python with dbus-fast, or dbus-daemon, is missing" || return; }
    local cycles=${SOAK_CYCLES:-2000} test
    for test in poll ble; do
        BMS_READER_SOAK=$cycles timeout 3600 \
            "${linted_cargo[@]}" test --locked --all-features --test $test soak -- --nocapture || return 1
    done
}

# Random schedules of faults around the program; the long form tests a release build.
step_chaos() {
    need mosquitto:mosquitto mosquitto_sub:mosquitto-clients || return 1
    install_fake_bluez || { skip "Python with dbus-fast, or dbus-daemon, is missing" || return; }
    local release=() arguments
    read -ra arguments <<<"${CHAOS_ARGUMENTS-}"
    [ ${#arguments[@]} = 0 ] || release=(--release)
    "${linted_cargo[@]}" test --locked --all-features "${release[@]}" --test chaos -- "${arguments[@]}"
}

# Takes an hour: about a minute to compile each mutant, and two for its schedules.
step_mutants() {
    need mosquitto:mosquitto mosquitto_sub:mosquitto-clients patch:patch || return 1
    install_fake_bluez || { skip "Python with dbus-fast, or dbus-daemon, is missing" || return; }
    tests/chaos/mutants/run
}

step_fuzz() {
    if ! cargo +nightly --version >/dev/null 2>&1; then
        retry timeout 600 rustup toolchain install nightly --profile minimal >"$work/nightly" 2>&1 ||
            { skip "rustup cannot install the nightly toolchain" || return; }
    fi
    cargo_tool cargo-fuzz || { skip "cargo-fuzz does not compile" || return; }
    CARGO_TARGET_DIR=$cache/fuzz fuzz/run "${FUZZ_AMOUNT:-15s}"
}
