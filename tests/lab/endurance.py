#!/usr/bin/env python3
"""Reads 20 batteries of all shapes every second for hours: every battery stays online, and memory,
descriptors and threads stay level.

usage: endurance.py PROGRAM [MINUTES]

Seven ports, seven TCP gateways and six Bluetooth batteries on a fake bluetoothd, with a broker, a
history file and an open page. Writes docs/images/endurance.svg and its figures to stdout. Needs Mosquitto
and a Python with dbus-fast (`./test endurance` installs both).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from processes import HOST, Broker, Process, SimulatedBattery, free_port, tail, wait_for_port

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PORTS = ("jk", "seplos", "pylontech", "pylontech-sc0500", "pylontech-console", "pace", "ant")
GATEWAYS = ("daren", "jbd", "daly", "eg4", "greenway", "jbd-up16s", "ant-leg")
BLUETOOTH = ("jk", "jbd", "litime", "ecoworthy", "abc", "humsienk")
INTERVAL = 1
SAMPLE_EVERY = 5
# The history is full and everything is allocated after this share of the time.
WARMED = 0.6
MEMORY_SLACK = 1024  # kB
# Bluetooth batteries share one adapter and may skip reads.
LEAST_READS = 0.9


class Figures:
    """What the kernel reports about the process, every few seconds."""

    def __init__(self, pid):
        self.pid, self.rows, self.start = pid, [], time.monotonic()

    def add(self):
        with open(f"/proc/{self.pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        memory, threads = (int(status[key].split()[0]) for key in ("VmRSS", "Threads"))
        descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))
        self.rows.append((time.monotonic() - self.start, memory, descriptors, threads))

    def split(self, column):
        """The values of a column while it warmed up, and afterwards."""
        border = self.rows[-1][0] * WARMED
        before = [row[column] for row in self.rows if row[0] < border]
        return before, [row[column] for row in self.rows if row[0] >= border]

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self):
        with open(f"/proc/{self.pid}/io") as file:
            return int(dict(line.split(": ") for line in file)["write_bytes"])


WIDTH, HEIGHT, LEFT, TOP = 720, 240, 56, 24
BLUE, RED, GREEN = "#1565c0", "#c62828", "#2e7d32"


def polyline(points, colour):
    corners = " ".join(f"{LEFT + x * WIDTH:.1f},{TOP + HEIGHT * (1 - y):.1f}" for x, y in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{corners}"/>'


def label(x, y, text, anchor="start", colour="#555"):
    place = f'x="{LEFT + x}" y="{TOP + y}" font-size="12" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{text}</text>'


def plot(rows, path):
    """Three curves over one time axis: memory on the left scale, descriptors and threads on the right."""
    seconds, memory = rows[-1][0], max(row[1] for row in rows) * 1.2
    count = max(max(row[2:]) for row in rows) * 2
    curves = [
        polyline([(row[0] / seconds, row[column] / limit) for row in rows], colour)
        for column, limit, colour in ((1, memory, BLUE), (2, count, RED), (3, count, GREEN))
    ]
    below = HEIGHT + 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT * 2 + WIDTH} {HEIGHT + 64}" '
        'font-family="sans-serif" role="img" aria-label="Memory, descriptors and threads over time">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<path d="M{LEFT} {TOP}v{HEIGHT}h{WIDTH}v-{HEIGHT}" fill="none" stroke="#999"/>',
        *curves,
        label(-4, 10, f"{memory / 1024:.1f} MB", "end", BLUE),
        label(-4, HEIGHT, "0", "end", BLUE),
        label(WIDTH + 4, 10, f"{count:.0f}", "start", RED),
        label(0, HEIGHT + 18, "0"),
        label(WIDTH, HEIGHT + 18, f"{seconds / 60:.0f} min", "end"),
        label(20, below, "resident memory", colour=BLUE),
        label(180, below, "open descriptors", colour=RED),
        label(340, below, "threads", colour=GREEN),
        "</svg>",
    ]
    with open(path, "w") as file:
        file.write("\n".join(parts) + "\n")


class Endurance:
    def __init__(self, program, work):
        self.program, self.work = program, work
        self.parts, self.devices = [], []
        self.broker = Broker(work)
        self.bus = f"unix:path={work}/bus"

    def start_batteries(self):
        for number, brand in enumerate(PORTS):
            battery = SimulatedBattery(self.program, self.work, f"port-{brand}", brand)
            battery.start("--seed", str(number))
            self.parts.append(battery.process)
            self.devices.append({"id": f"port-{brand}", "type": brand, "port": battery.port})
        for number, brand in enumerate(GATEWAYS):
            port = free_port()
            argv = [self.program, "simulate", "--type", brand, "--tcp", f"{HOST}:{port}", "--seed", str(number)]
            gateway = Process(brand, argv, os.path.join(self.work, f"tcp-{brand}.log"))
            self.parts.append(gateway)
            wait_for_port(port, gateway, 20)
            self.devices.append({"id": f"tcp-{brand}", "type": brand, "port": f"tcp://{HOST}:{port}"})

    def start_bluetooth(self):
        specs = []
        for number, brand in enumerate(BLUETOOTH):
            address = f"A4:C1:38:00:00:{number:02X}"
            argv = [self.program, "simulate", "--type", brand, "--gatt-spec", address]
            specs.append(json.loads(subprocess.run(argv, check=True, capture_output=True).stdout))
            self.devices.append({"id": f"ble-{brand}", "type": brand, "address": address})
        with open(f"{self.work}/spec.json", "w") as file:
            json.dump({"devices": specs}, file)
        with open(f"{self.work}/bus.conf", "w") as file:
            file.write(
                '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" '
                '"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd"><busconfig><type>system</type>'
                f"<listen>{self.bus}</listen><auth>EXTERNAL</auth>"
                '<policy context="default"><allow own="*"/><allow send_destination="*" eavesdrop="true"/>'
                '<allow eavesdrop="true"/><allow user="*"/></policy></busconfig>'
            )
        argv = ["dbus-daemon", f"--config-file={self.work}/bus.conf", "--nofork", "--nopidfile"]
        self.parts.append(Process("dbus-daemon", argv, f"{self.work}/bus.log"))
        while not os.path.exists(f"{self.work}/bus"):
            time.sleep(0.05)
        fake = [sys.executable, os.path.join(REPOSITORY, "tests/ble/fake_bluez.py"), f"{self.work}/spec.json"]
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus}
        self.parts.append(Process("bluetoothd", fake, f"{self.work}/bluetoothd.log", environment, subprocess.PIPE))

    def start_reader(self):
        self.http = free_port()
        environment = {
            "DEVICES": json.dumps(self.devices), "READ_INTERVAL": str(INTERVAL),
            "MQTT_HOST": HOST, "MQTT_PORT": str(self.broker.port),
            "MQTT_USER": Broker.USER, "MQTT_PASSWORD": Broker.PASSWORD,
            "HTTP_LISTEN": f"{HOST}:{self.http}", "HISTORY_HOURS": "1",
            "HISTORY_FILE": f"{self.work}/history.db", "DBUS_SYSTEM_BUS_ADDRESS": self.bus,
        }
        self.log = f"{self.work}/reader.log"
        reader = Process("bms-reader", [self.program], self.log, environment)
        self.parts.insert(0, reader)
        wait_for_port(self.http, reader, 20)
        return reader

    def reads(self):
        """The good and the failed reads of each battery so far."""
        with urllib.request.urlopen(f"http://{HOST}:{self.http}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        counts = {}
        for line in lines:
            for name in ("bms_reads_total", "bms_read_errors_total"):
                if line.startswith(name + "{"):
                    device = line.split('device="', 1)[1].split('"', 1)[0]
                    battery = counts.setdefault(device, {"bms_reads_total": 0, "bms_read_errors_total": 0})
                    battery[name] += float(line.rsplit(" ", 1)[1])
        return counts

    def open_page(self):
        """An event stream that is read as by an open page, for as long as the program runs."""

        def follow():
            try:
                with urllib.request.urlopen(f"http://{HOST}:{self.http}/api/events") as stream:
                    while stream.read(4096):
                        pass
            except OSError:
                pass

        threading.Thread(target=follow, daemon=True).start()

    def stop(self):
        for part in self.parts:
            part.stop(10)
        if self.broker.process:
            self.broker.process.stop(10)


def run(test, minutes):
    """Returns the broken promises."""
    test.broker.start()
    test.start_batteries()
    test.start_bluetooth()
    reader = test.start_reader()
    test.open_page()
    figures, end = Figures(reader.child.pid), time.monotonic() + minutes * 60
    first = None
    while time.monotonic() < end:
        time.sleep(SAMPLE_EVERY)
        if not reader.is_running():
            return [f"the program ended: {tail(test.log)}"]
        figures.add()
        if first is None and time.monotonic() - figures.start > 60:
            first, since = test.reads(), time.monotonic()
    reads, seconds = test.reads(), time.monotonic() - since
    offline = [
        topic for topic, payload in test.broker.retained("bms/+/online").items() if payload != "true"
    ]
    broken = [f"offline at the end: {topic}" for topic in offline]
    plot(figures.rows, os.path.join(REPOSITORY, "docs/images/endurance.svg"))
    total = failed = 0
    for device in (device["id"] for device in test.devices):
        good = reads[device]["bms_reads_total"] - first[device]["bms_reads_total"]
        bad = reads[device]["bms_read_errors_total"] - first[device]["bms_read_errors_total"]
        total, failed = total + good, failed + bad
        if good < LEAST_READS * seconds / INTERVAL:
            broken.append(f"{device}: only {good:.0f} reads in {seconds:.0f} s, {bad:.0f} failed")
    print(f"{len(test.devices)} batteries for {minutes:g} min: {total:.0f} reads, {failed:.0f} failed")
    for column, name, slack in ((1, "kB resident", MEMORY_SLACK), (2, "descriptors", 0), (3, "threads", 0)):
        before, after = figures.split(column)
        print(f"{name}: {min(before)} to {max(before)} at first, {min(after)} to {max(after)} afterwards")
        if max(after) > max(before) + slack:
            broken.append(f"{name} grew from {max(before)} to {max(after)}")
    print(f"CPU: {figures.cpu_seconds() / (minutes * 60):.2%}; written: {figures.written() / 1e6:.1f} MB")
    status = reader.stop(10)
    if status != 0:
        broken.append(f"exit status {status} at the end")
    return broken


def main():
    program = os.path.abspath(sys.argv[1])
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 120
    work = tempfile.mkdtemp(prefix="bms-endurance.")
    test = Endurance(program, work)
    try:
        broken = run(test, minutes)
    finally:
        test.stop()
    for line in broken:
        print(f"FAIL  {line}")
    if broken:
        print(f"logs: {work}")
        return 1
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
