#!/usr/bin/env python3
"""JBD batteries and a JK battery within range of the Bluetooth controller in radio.h, with recorded replies.

    radio.py SOCKET VECTORS [FAULTS]

SOCKET: path of the unix socket for ESPHOME_RADIO. VECTORS: the folder tests/vectors. Prints a line for each
connection and disconnection. SIGUSR1 ends all connections, as when the batteries are out of reach for a moment.

FAULTS: path of a JSON file that is read before each step, if it exists. It contains an object for each battery (`jbd`,
`jk`, `spare1` to `spare3`), or for `all`:

    mtu       size that is negotiated
    hidden    true: out of reach
    connect, services, notify, descriptor, write
              an error code with which this step ends, or "hang": it never ends
    lose      each so-many-th notification is lost; 1: all of them
    cut       true: the controller is gone after the first notification of a reply, and with it the proxy
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
# For what was sent to pass the proxy.
CUT_SECONDS = 0.3
RSSI = -60
HANG = "hang"


class Battery:
    """One service. `characteristics`: handle to 16-bit UUID and properties; notifications are of the first one."""

    def __init__(self, key, name, service, characteristics, vectors):
        self.key, self.name = key, name
        self.service, self.characteristics = service, characteristics
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
        self.notifications = 0

    def send(self, kind, *words):
        self.radio.send(kind, self.index, *words)

    def fault(self, step, default=None):
        return self.radio.fault(self.battery, step, default)

    def finish(self, kind, step, *words):
        """Reports the end of a step, unless it has none."""
        code = self.fault(step, 0)
        if code != HANG:
            self.send(kind, *words, code)

    def connect(self):
        code = self.fault("connect")
        if code == HANG:
            return
        if code:
            return self.close(code)
        print(f"connected {self.battery.name}", flush=True)
        self.send("c", 1, self.fault("mtu", MTU), 0)

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
        self.finish("s", "services")

    def write(self, handle, data):
        self.finish("w", "write", handle)
        if self.fault("write"):
            return
        notifications = self.battery.replies.get(data)
        if notifications is None:
            return
        self.notify(notifications)
        if self.battery.stream and notifications[-1] == self.battery.stream[-1] and not self.stream:
            self.stream = asyncio.ensure_future(self.repeat())

    def notify(self, notifications):
        handle = next(iter(self.battery.characteristics))
        if not (self.registered and self.subscribed):
            return
        size = self.fault("mtu", MTU) - 3
        pieces = [data[at : at + size] for data in notifications for at in range(0, len(data), size)]
        for data in pieces:
            self.notifications += 1
            every = self.fault("lose")
            if not every or self.notifications % every:
                self.send("d", handle, data.hex())
            if self.fault("cut"):
                asyncio.get_running_loop().call_later(CUT_SECONDS, self.radio.hang_up)
                return

    async def repeat(self):
        while True:
            await asyncio.sleep(RECORD_SECONDS)
            self.notify(self.battery.stream)


class Radio:
    """The other end of radio.h."""

    def __init__(self, batteries, faults):
        self.batteries, self.faults = batteries, faults
        self.slots, self.writer = {}, None

    def fault(self, battery, step, default=None):
        try:
            with open(self.faults) as file:
                faults = json.load(file)
        except OSError:
            return default
        return {**faults.get("all", {}), **faults.get(battery.key, {})}.get(step, default)

    def hang_up(self):
        if self.writer:
            self.writer.close()

    def send(self, *words):
        if self.writer:
            self.writer.write((" ".join(map(str, words)) + "\n").encode())

    async def advertise(self):
        while True:
            connected = [slot.battery for slot in self.slots.values()]
            for address, battery in self.batteries.items():
                if battery not in connected and not self.fault(battery, "hidden"):
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
            battery = self.batteries.get(int(words[0], 16))
            if battery and not self.fault(battery, "hidden"):
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
            slot.finish("n", "notify", words[0], words[1])
        elif kind == "w":
            slot.subscribed = bytes.fromhex(words[1])[:1] != b"\0"
            slot.finish("w", "descriptor", words[0])
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
    path, folder, faults = (*sys.argv[1:], "")[:3]
    basic, cells = "jbd_16s_ble_basic_three_notifications", "jbd_16s_ble_cells_two_notifications"

    def jbd(key, name):
        characteristics = {3: (0xFF01, READ | NOTIFY), 6: (0xFF02, WRITE_WITHOUT_RESPONSE | WRITE)}
        return Battery(key, name, 0xFF00, characteristics, vectors(folder, "jbd", basic, cells))

    board = "jk02_32s_pb2a16s20p_v15"
    records = vectors(folder, "jk", f"{board}_devinfo", f"{board}_settings", f"{board}_cell")
    jk = Battery("jk", "JK_PB2A16S20P", 0xFFE0, {3: (0xFFE1, NOTIFY | WRITE_WITHOUT_RESPONSE)}, records)
    jk.stream = [bytes.fromhex(text) for text in records[-1]["notifications_hex"]]
    batteries = {0xA4C137001234: jbd("jbd", "xiaoxiang BMS"), 0xC84780001234: jk}
    for number in (1, 2, 3):
        batteries[0xA4C137005600 + number] = jbd(f"spare{number}", f"spare {number}")
    radio = Radio(batteries, faults)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, radio.lose_connections)
    async with await asyncio.start_unix_server(radio.serve, path):
        await radio.advertise()


if __name__ == "__main__":
    asyncio.run(main())
