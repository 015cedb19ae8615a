#!/usr/bin/env python3
"""A JBD and a JK battery within range of the Bluetooth controller in radio.h, with recorded replies.

    radio.py SOCKET VECTORS

SOCKET: path of the unix socket for ESPHOME_RADIO. VECTORS: the folder tests/vectors. Prints a line for each
connection and disconnection. SIGUSR1 ends all connections, as when the batteries are out of reach for a moment.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys

READ, WRITE_WITHOUT_RESPONSE, WRITE, NOTIFY = 2, 4, 8, 16
MTU = 247
CONNECTION_TIMEOUT, LOCAL_HOST = 0x08, 0x16
NOT_CONNECTED = 0x101
ADVERTISING_SECONDS, RECORD_SECONDS = 0.2, 0.5
RSSI = -60


class Battery:
    """One service. `characteristics`: handle to 16-bit UUID and properties; notifications are of the first one."""

    def __init__(self, name, service, characteristics, vectors):
        self.name, self.service, self.characteristics = name, service, characteristics
        self.replies, self.stream = {}, []
        for vector in vectors:
            self.add(vector)

    def add(self, vector):
        request = bytes.fromhex(vector["request_hex"])
        notifications = [bytes.fromhex(text) for text in vector["notifications_hex"]]
        self.replies.setdefault(request, []).extend(notifications)

    def advertisement(self):
        name = self.name.encode()
        service = bytes((3, 3, self.service & 0xFF, self.service >> 8))
        return bytes((2, 1, 6)) + service + bytes((1 + len(name), 9)) + name


class Slot:
    """A connection of the proxy."""

    def __init__(self, radio, index, battery):
        self.radio, self.index, self.battery = radio, index, battery
        self.registered = self.subscribed = False
        self.stream = None

    def send(self, kind, *words):
        self.radio.send(kind, self.index, *words)

    def connect(self):
        print(f"connected {self.battery.name}", flush=True)
        self.send("c", 1, MTU, 0)

    def close(self, reason):
        if self.stream:
            self.stream.cancel()
        self.radio.slots.pop(self.index, None)
        print(f"disconnected {self.battery.name}", flush=True)
        self.send("c", 0, 0, reason)

    def list_services(self):
        self.send("t", "S", f"{self.battery.service:04x}", 1, 65535, 0)
        for handle, (uuid, properties) in self.battery.characteristics.items():
            self.send("t", "C", f"{uuid:04x}", handle, 65535, properties)
            if properties & NOTIFY:
                self.send("t", "D", "2902", handle + 1, 0, 0)
        self.send("s", 0)

    def write(self, handle, data):
        self.send("w", handle, 0)
        notifications = self.battery.replies.get(data)
        if notifications is None:
            return
        self.notify(notifications)
        if self.battery.stream and notifications[-1] == self.battery.stream[-1] and not self.stream:
            self.stream = asyncio.ensure_future(self.repeat())

    def notify(self, notifications):
        handle = next(iter(self.battery.characteristics))
        if self.registered and self.subscribed:
            for data in notifications:
                self.send("d", handle, data.hex())

    async def repeat(self):
        while True:
            await asyncio.sleep(RECORD_SECONDS)
            self.notify(self.battery.stream)


class Radio:
    """The other end of radio.h."""

    def __init__(self, batteries):
        self.batteries, self.slots, self.writer = batteries, {}, None

    def send(self, *words):
        if self.writer:
            self.writer.write((" ".join(map(str, words)) + "\n").encode())

    async def advertise(self):
        while True:
            connected = [slot.battery for slot in self.slots.values()]
            for address, battery in self.batteries.items():
                if battery not in connected:
                    self.send("A", f"{address:012x}", 0, RSSI, battery.advertisement().hex())
            await asyncio.sleep(ADVERTISING_SECONDS)

    async def serve(self, reader, writer):
        self.writer = writer
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self.handle(*line.decode().split())
        for slot in list(self.slots.values()):
            slot.close(LOCAL_HOST)
        self.writer = None

    def handle(self, kind, index, *words):
        slot = self.slots.get(index)
        if kind == "C":
            # A battery that does not exist is never connected.
            if battery := self.batteries.get(int(words[0], 16)):
                self.slots[index] = Slot(self, index, battery)
                self.slots[index].connect()
        elif kind == "M":
            pass
        elif slot is None:
            self.send("c", index, 0, 0, NOT_CONNECTED)
        elif kind == "D":
            slot.close(LOCAL_HOST)
        elif kind == "S":
            slot.list_services()
        elif kind == "N":
            slot.registered = words[1] == "1"
            self.send("n", index, words[0], words[1], 0)
        elif kind == "w":
            slot.subscribed = bytes.fromhex(words[1])[:1] != b"\0"
            slot.send("w", words[0], 0)
        elif kind == "W":
            slot.write(int(words[0]), bytes.fromhex(words[2]))

    def lose_connections(self):
        for slot in list(self.slots.values()):
            slot.close(CONNECTION_TIMEOUT)


def vectors(folder, brand, *ids):
    with open(os.path.join(folder, f"{brand}.json")) as file:
        known = {vector["id"]: vector for vector in json.load(file)["vectors"]}
    return [known[name] for name in ids]


async def main():
    path, folder = sys.argv[1:]
    basic, cells = "jbd_16s_ble_basic_three_notifications", "jbd_16s_ble_cells_two_notifications"
    jbd = Battery("xiaoxiang BMS", 0xFF00, {3: (0xFF01, READ | NOTIFY), 6: (0xFF02, WRITE_WITHOUT_RESPONSE | WRITE)},
                  vectors(folder, "jbd", basic, cells))
    board = "jk02_32s_pb2a16s20p_v15"
    records = vectors(folder, "jk", f"{board}_devinfo", f"{board}_settings", f"{board}_cell")
    jk = Battery("JK_PB2A16S20P", 0xFFE0, {3: (0xFFE1, NOTIFY | WRITE_WITHOUT_RESPONSE)}, records)
    jk.stream = [bytes.fromhex(text) for text in records[-1]["notifications_hex"]]
    radio = Radio({0xA4C137001234: jbd, 0xC84780001234: jk})
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, radio.lose_connections)
    async with await asyncio.start_unix_server(radio.serve, path):
        await radio.advertise()


if __name__ == "__main__":
    asyncio.run(main())
