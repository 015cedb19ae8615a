"""Simulated packs: Daren packs with fixed or changing values on pseudo-terminals and TCP ports, and a relay that
limits a line to its baud rate."""
import asyncio
import json
import os
import pty
import time
import tty


def frame(n, centiamps=None):
    """Reply to service 42 of a pack with 16 cells; another `n` changes every value."""
    be = lambda value: (value & 0xFFFF).to_bytes(2, "big")
    cells = [3309 + (i * 7 + n) % 17 for i in range(16)]
    info = b"\x00" + be(6400 - n % 100) + be(sum(cells) // 10) + b"\x10" + b"".join(map(be, cells))
    info += be(220 + n % 3) + be(215 + n % 5) + be(210) + b"\x04" + b"".join(be(218 + (n + i) % 7) for i in range(4))
    info += be(-150 - n % 50 if centiamps is None else centiamps) + be(0) + be(100) + b"\x01" + be(10000) + be(6400 - n % 90) + be(63 + n)
    info += be(0) * 4 + be(3) + be(0) * 5 + be(0) * 5 + b"\x00" + be(0)
    text = info.hex().upper()
    length = len(text)
    body = f"22014A00{-sum(length >> shift & 15 for shift in (0, 4, 8)) & 15:X}{length:03X}{text}"
    return f"~{body}{-sum(body.encode()) & 0xFFFF:04X}\r".encode()


CHANGING = [frame(n) for n in range(100)]
RESTING = [frame(0, 0)]


def identity():
    """Recorded replies to the requests that are sent once, by the request."""
    with open(os.path.join(os.path.dirname(__file__), "../tests/vectors/daren.json")) as file:
        vectors = {vector["id"]: vector for vector in json.load(file)["vectors"]}
    names = "resp-B0-mfg", "resp-B0-cap-a", "resp-51-T1_G", "resp-47-a"
    replies = [vectors["daren-" + name] for name in names]
    return {vector["request_text"].encode(): vector["response_text"].encode() for vector in replies}


IDENTITY = identity()


class Pack:
    """Answers each request for the live values with the next frame."""

    def __init__(self, frames):
        self.frames, self.reads, self.buffer = frames, 0, b""
        self.last, self.longest_gap = time.monotonic(), 0.0

    def replies(self, data):
        self.buffer += data
        *requests, self.buffer = self.buffer.split(b"\r")
        for request in requests:
            if known := IDENTITY.get(request + b"\r"):
                yield known
            else:
                now = time.monotonic()
                self.longest_gap, self.last = max(self.longest_gap, now - self.last), now
                self.reads += 1
                yield self.frames[self.reads % len(self.frames)]


def terminal():
    """The master of a new raw pseudo-terminal, and the path of the other end, which stays open."""
    master, slave = pty.openpty()
    tty.setraw(master), tty.setraw(slave)
    os.set_blocking(master, False)
    return master, os.ttyname(slave), slave


def on_terminal(frames):
    """A pack on a pseudo-terminal, and its path."""
    pack, (master, path, _) = Pack(frames), terminal()

    def readable():
        for reply in pack.replies(os.read(master, 4096)):
            os.write(master, reply)
    asyncio.get_running_loop().add_reader(master, readable)
    return pack, path


class TcpPack(asyncio.Protocol):
    def __init__(self, frames, packs):
        self.pack = Pack(frames)
        packs.append(self.pack)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        for reply in self.pack.replies(data):
            self.transport.write(reply)


async def on_tcp(frames):
    """A server with one pack for each connection: the list of packs, and its port on every 127.x.y.z."""
    packs = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TcpPack(frames, packs), "0.0.0.0", 0, backlog=1024)
    return packs, server.sockets[0].getsockname()[1]


class PacedLine:
    """A terminal in front of another one that passes bytes on as slowly as the baud rate requires. A cycle begins
    with the first byte that the reader sends after `quiet` seconds."""

    def __init__(self, far, baud, quiet):
        self.byte, self.quiet = 10 / baud, quiet
        self.master, self.path, _ = terminal()
        self.far = os.open(far, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.far)
        self.free_at = self.last = 0.0
        self.cycles = []  # [time of the first byte, bytes]
        loop = asyncio.get_running_loop()
        loop.add_reader(self.master, self.forward, self.master, self.far)
        loop.add_reader(self.far, self.forward, self.far, self.master)

    def forward(self, source, target):
        data, now = os.read(source, 65536), time.monotonic()
        if source == self.master and now - self.last > self.quiet:
            self.cycles.append([now, 0])
        if self.cycles:
            self.cycles[-1][1] += len(data)
        loop, begin = asyncio.get_running_loop(), max(now, self.free_at)
        self.free_at = self.last = begin + len(data) * self.byte
        # A request is passed on when it is complete; a reply arrives in pieces, as from a UART with a FIFO of 16 bytes.
        size = 16 if source == self.far else len(data)
        for at in range(0, len(data), size):
            piece = data[at:at + size]
            loop.call_at(begin + (at + len(piece)) * self.byte, os.write, target, piece)
