"""A minimal MQTT 3.1.1 broker that counts what a client publishes. It keeps and routes nothing, except that a
message on a topic that ends with /ping returns to its sender."""
import asyncio
import time

CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PINGREQ = 1, 3, 8, 10, 12


class Broker:
    """Counts since `reset`; `listen` starts it on a free port of 127.0.0.1."""

    def __init__(self):
        self.port = None
        self.on_publish = None
        self.reset()

    def reset(self):
        self.packets = self.bytes = self.messages = 0
        self.first_value = self.last_publish = None

    async def listen(self):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Session(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def publish(self, topic):
        self.messages += 1
        self.last_publish = time.monotonic()
        if self.first_value is None and topic.startswith(b"bms/") and topic.endswith(b"/pack_voltage"):
            self.first_value = self.last_publish


class Session(asyncio.Protocol):
    def __init__(self, broker):
        self.broker, self.buffer = broker, bytearray()

    def connection_made(self, transport):
        self.transport = transport

    def send(self, packet):
        self.broker.packets += 1
        self.broker.bytes += len(packet)
        if not self.transport.is_closing():
            self.transport.write(packet)

    def data_received(self, data):
        buffer, start = self.buffer, 0
        buffer += data
        self.broker.bytes += len(data)
        while True:
            size, at = 0, start + 1
            while at < len(buffer) and at < start + 5:
                size |= (buffer[at] & 127) << 7 * (at - start - 1)
                at += 1
                if not buffer[at - 1] & 128:
                    break
            else:
                break
            if len(buffer) < at + size:
                break
            self.packet(buffer[start], bytes(buffer[at:at + size]))
            start = at + size
        del buffer[:start]

    def packet(self, first, body):
        self.broker.packets += 1
        kind = first >> 4
        if kind == PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            topic = body[2:end]
            if first & 6:
                self.send(b"\x40\x02" + body[end:end + 2])
            if topic.endswith(b"/ping"):
                payload = body[end + 2:] if first & 6 else body[end:]
                self.send(bytes([0x30, end + len(payload)]) + body[:end] + payload)
            self.broker.publish(topic)
        elif kind == CONNECT:
            self.send(b"\x20\x02\0\0")
        elif kind == SUBSCRIBE:
            count, at = 0, 2
            while at < len(body):
                at += 3 + int.from_bytes(body[at:at + 2], "big")
                count += 1
            self.send(suback(body[:2], count))
        elif kind == UNSUBSCRIBE:
            self.send(b"\xb0\x02" + body[:2])
        elif kind == PINGREQ:
            self.send(b"\xd0\x00")


def suback(packet_id, count):
    size, length = 2 + count, b""
    while True:
        size, low = size >> 7, size & 127
        length += bytes([low | (128 if size else 0)])
        if not size:
            return b"\x90" + length + packet_id + bytes(count)
