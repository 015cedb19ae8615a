#!/usr/bin/env python3
"""Memory of the program after crowds of HTTP clients: it returns to within 1 MB.

usage: crowd.py PROGRAM

For the shipped binaries, whose allocator is not that of `cargo test`. Prints the figures.
"""

import contextlib
import os
import socket
import sys
import tempfile
import threading
import time

from processes import HOST, Process, SimulatedBattery, free_port, wait_for_port

CLIENTS, RESPONSES, PIPELINED = 60, 6 * 60, 8
PATHS = ("/api/overview", "/metrics", "/api/devices", "/api/devices/pack/history", "/", "/api/events")
# kB, of which most are the buffers of the connections at a time.
GROWTH = 1024
LIMIT, VISIT = 60, 5  # s


def memory(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(dict(line.split(":", 1) for line in file)["VmRSS"].split()[0])


def visit(port, path, times, count):
    """Sends requests without waiting, and counts the responses."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 5) as client:
        client.settimeout(1)
        client.sendall(request * times)
        # A stream of events does not end.
        end = time.monotonic() + VISIT
        while (received := client.recv(65536)) and time.monotonic() < end:
            count(received.count(b"HTTP/1.1 200"))


class Crowd:
    def __init__(self, port):
        self.port, self.responses, self.lock = port, 0, threading.Lock()
        self.end = time.monotonic() + LIMIT

    def count(self, responses):
        with self.lock:
            self.responses += responses

    def client(self, path):
        while self.responses < RESPONSES and time.monotonic() < self.end:
            visit(self.port, path, PIPELINED, self.count)

    def run(self):
        paths = [PATHS[number % len(PATHS)] for number in range(CLIENTS)]
        clients = [threading.Thread(target=self.client, args=[path]) for path in paths]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        if self.responses < RESPONSES:
            sys.exit(f"a crowd got {self.responses} responses instead of {RESPONSES}")


def after_crowds(reader, port, crowds, limit):
    for _ in range(crowds):
        Crowd(port).run()
    end = time.monotonic() + LIMIT
    # Connections that their clients have left end within seconds.
    while (after := memory(reader.child.pid)) > limit and time.monotonic() < end:
        time.sleep(0.5)
    return after


def main(program, work):
    battery, port = SimulatedBattery(program, work, "pack"), free_port()
    battery.start()
    log = os.path.join(work, "reader.log")
    variables = {"BMS_PORT": battery.port, "BMS_TYPE": "daren", "DEVICE_ID": "pack", "READ_INTERVAL": "1"}
    variables |= {"HTTP_LISTEN": f"{HOST}:{port}"}
    reader = Process("reader", [program], log, variables)
    try:
        wait_for_port(port, reader, 20)
        for path in PATHS:
            visit(port, path, 1, lambda _: None)
        before = memory(reader.child.pid)
        first = after_crowds(reader, port, 1, before + GROWTH)
        last = after_crowds(reader, port, 3, before + GROWTH)
        print(f"{before} kB before, {first} kB after a crowd of {CLIENTS} clients, {last} kB after three more")
        return max(first, last) <= before + GROWTH
    finally:
        reader.kill()
        battery.process.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bms-crowd.") as folder:
        sys.exit(0 if main(os.path.abspath(sys.argv[1]), folder) else 1)
