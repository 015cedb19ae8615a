# shellcheck shell=bash
# Steps that compile, lint and test the crate. Sourced by ./test.
: "${cache:?}" "${work:?}"

step_fmt() { cargo fmt --check; }

# Compiles the tests first, so that clippy compiles while they run.
step_build() {
    if have cargo-nextest; then
        cargo nextest run --locked --all-features --no-run
    else
        cargo test --locked --all-features --lib --bins --tests --no-run
    fi
}

step_clippy() {
    # The fuzz targets have a lock file of their own, which must contain the same dependencies.
    cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null || return 1
    cargo clippy --locked --all-targets --all-features -- -D warnings &&
        cargo clippy --locked --test chaos --all-features -- -D warnings
}

# Without TLS, the only build without known advisories.
step_features() { cargo clippy --locked --all-targets --no-default-features -- -D warnings; }

step_tests() {
    need mosquitto:mosquitto mosquitto_sub:mosquitto-clients openssl:openssl socat:socat || return 1
    local status=0 without_bluez
    # The Bluetooth tests write their names into this file when they cannot run.
    export BMS_READER_BLE_SKIPPED=$work/without_bluez
    : >"$BMS_READER_BLE_SKIPPED"
    install_fake_bluez ||
        echo "SKIPPED: the Bluetooth tests need Python with dbus-fast, and dbus-daemon" >&2
    if have cargo-nextest; then
        timeout 1800 cargo nextest run --locked --all-features 2>&1 | tee "$work/tests" || status=1
        # What holds with MQTT 3.1.1 holds with 5.
        BMS_TEST_MQTT_VERSION=5 cargo nextest run --locked --all-features --test mqtt_sink || status=1
    else
        timeout 1800 cargo test --locked --all-features --no-fail-fast --lib --bins --tests 2>&1 |
            tee "$work/tests" || status=1
    fi
    timeout 1800 cargo test --locked --all-features --doc 2>&1 | tee -a "$work/tests" || status=1
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
    program=$(cargo build --locked --all-features --bench counts --message-format=json 2>"$work/counts" |
        sed -n 's/.*"name":"counts".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    timeout 1800 python3 benches/counts.py "$program" --check benches/counts.json
}

# Reads over Bluetooth 2,000 times while random calls fail, and prints what it measured.
step_soak() {
    install_fake_bluez || { skip "Python with dbus-fast, or dbus-daemon, is missing" || return; }
    BMS_READER_SOAK=${SOAK_CYCLES:-2000} timeout 3600 \
        cargo test --locked --all-features --test ble soak -- --nocapture
}

# Random schedules of faults around the program; the long form tests a release build.
step_chaos() {
    need mosquitto:mosquitto mosquitto_sub:mosquitto-clients || return 1
    install_fake_bluez || { skip "Python with dbus-fast, or dbus-daemon, is missing" || return; }
    local release=() arguments
    read -ra arguments <<<"${CHAOS_ARGUMENTS-}"
    [ ${#arguments[@]} = 0 ] || release=(--release)
    cargo test --locked --all-features "${release[@]}" --test chaos -- "${arguments[@]}"
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
