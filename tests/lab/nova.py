"""The brand of docs/profiles.md, which no program knows: its profile, and its values without the profile.

    nova.py profile              prints the profile
    nova.py compare HOST PORT    compares a battery with the retained messages on stdin: key, blank, payload
"""

import pathlib
import socket
import struct
import sys

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "profiles.md"


def profile():
    """The finished profile of the documentation, behind the generated one."""
    return DOCS.read_text().split("\n```yaml\n")[2].split("```")[0]


def ask(stream, number):
    """The payload of the reply to a request."""
    request = bytes([0x5A, 0xA5, number, 0])
    stream.write(request + bytes([sum(request) & 0xFF]))
    stream.flush()
    head = stream.read(4)
    payload, check = stream.read(head[3]), stream.read(1)
    assert head[:3] == request[:3] and check[0] == sum(head + payload) & 0xFF, (head, payload, check)
    return payload


def values(host, port):
    """What the battery sends, by key."""
    with socket.create_connection((host, port), 10) as connection:
        stream = connection.makefile("rwb")
        pack, cells = ask(stream, 1), ask(stream, 2)
    voltage, current, remaining, full, soc, switches, alarms, temperature = struct.unpack(
        ">HhHHBBHh", pack
    )
    found = {
        "pack_voltage": voltage / 100,
        "pack_current": current / 100,
        "remaining_capacity": remaining / 100,
        "full_capacity": full / 100,
        "soc": float(soc),
        "temp_1": temperature / 10,
        "charging_enabled": bool(switches & 1),
        "discharging_enabled": bool(switches & 2),
        "alarm_cell_overvoltage": bool(alarms & 1),
        "alarm_cell_undervoltage": bool(alarms & 2),
        "alarm_discharge_overcurrent": bool(alarms & 16),
    }
    for number, (cell,) in enumerate(struct.iter_unpack(">H", cells), 1):
        found[f"cell_{number}_voltage"] = cell / 1000
    return found


def differences(wanted, shown):
    """Texts by key that differ from the values."""

    def same(value, text):
        if isinstance(value, bool):
            return text.lower() == ("on" if value else "off")
        try:
            return float(text) == value
        except ValueError:
            return False

    return [
        f"{key} is {shown.get(key)!r} instead of {value}"
        for key, value in wanted.items()
        if not same(value, shown.get(key) or "")
    ]


def main():
    if sys.argv[1] == "profile":
        print(profile(), end="")
        return
    host, port = sys.argv[2:]
    shown = dict(line.split(" ", 1) for line in sys.stdin.read().splitlines() if " " in line)
    found = differences(values(host, int(port)), shown)
    print("\n".join(found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
