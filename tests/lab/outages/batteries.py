"""Simulated JBD batteries over TCP. Each reply has its number in the cycle count, so a reading is known wherever it turns up."""
import socketserver
import struct
import threading
import time

BASIC, CELLS, NAME = 3, 4, 5


def frame(register, data, status=0):
    body = bytes([status, len(data)]) + data
    return bytes([0xDD, register]) + body + struct.pack(">H", -sum(body) & 0xFFFF) + b"\x77"


class Battery:
    def __init__(self):
        self.count = 0
        # Number of each complete read and when its last reply was sent.
        self.reads = []
        self.lock = threading.Lock()
        battery = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                battery.serve(self.request)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, connection):
        number, received = None, b""
        while True:
            try:
                data = connection.recv(256)
            except OSError:
                return
            if not data:
                return
            received += data
            while len(received) >= 7:
                register, received = received[2], received[7:]
                try:
                    number = self.answer(connection, register, number)
                except OSError:
                    return

    def answer(self, connection, register, number):
        if register == BASIC:
            with self.lock:
                self.count += 1
                number = self.count
            numbers = struct.pack(">HhHHHHHHHBBBBB", 1330, 250 + number % 100, 9000, 10000, number, 0x2D41, 0, 0, 0, 0x20, 90, 3, 4, 1)
            connection.sendall(frame(BASIC, numbers + struct.pack(">H", 2981)))
        elif register == CELLS:
            connection.sendall(frame(CELLS, struct.pack(">4H", *(3320 + (number + cell) % 9 for cell in range(4)))))
            if number is not None:
                with self.lock:
                    if not self.reads or self.reads[-1][0] != number:
                        self.reads.append((number, time.time()))
        elif register == NAME:
            connection.sendall(frame(NAME, b"lab"))
        else:
            connection.sendall(frame(register, b"", 0x80))
        return number
