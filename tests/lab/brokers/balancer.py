"""A load balancer for MQTT in front of several nodes, which records when each client was accepted, and counts bytes."""

import asyncio
import random
import re
import threading
import time

CLIENT_ID = re.compile(rb"bms-reader-([\w-]+?)(?=[\x00-\x1f])")
ACCEPTED = b"\x20\x02\x00\x00"
CONNECT_LIMIT = 2


class Balancer(threading.Thread):
    """Takes the nodes in random order until one accepts. As a plain TCP balancer it does not notice a dead route."""

    def __init__(self, listen, nodes):
        super().__init__(daemon=True)
        self.listen, self.nodes = listen, nodes
        # (time, id of the battery, node) of every accepted client.
        self.accepted, self.node_of = [], {}
        self.sent = self.received = 0
        self.ready = threading.Event()

    def run(self):
        asyncio.run(self.serve())

    async def serve(self):
        server = await asyncio.start_server(self.handle, *self.listen, backlog=1024)
        self.ready.set()
        async with server:
            await server.serve_forever()

    async def handle(self, reader, writer):
        for node in random.sample(self.nodes, len(self.nodes)):
            try:
                upstream = await asyncio.wait_for(asyncio.open_connection(*node), CONNECT_LIMIT)
            except (OSError, asyncio.TimeoutError):
                continue
            break
        else:
            writer.close()
            return
        await asyncio.gather(self.upload(reader, upstream[1], node), self.download(upstream[0], writer))

    async def upload(self, reader, writer, node):
        first = True
        while data := await self.read(reader):
            if first and (found := CLIENT_ID.search(data + b"\x00")):
                self.node_of[found[1].decode()] = node
                self.accepted.append((time.monotonic(), found[1].decode(), node))
            first = False
            self.sent += len(data)
            writer.write(data)
        writer.close()

    async def download(self, reader, writer):
        while data := await self.read(reader):
            self.received += len(data)
            writer.write(data)
        writer.close()

    @staticmethod
    async def read(reader):
        try:
            return await reader.read(65536)
        except OSError:
            return b""
