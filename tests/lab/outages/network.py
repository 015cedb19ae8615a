"""A TCP proxy whose connections can be cut or frozen, and a server for line protocol that fails in several ways."""
import http.server
import socket
import threading
import time


class Proxy:
    """`mode`: open, cut (closes all and refuses new ones) or frozen (nothing arrives)."""

    def __init__(self, target):
        self.target, self.mode, self.connections = target, "open", []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def set(self, mode):
        self.mode = mode
        if mode == "cut":
            for connection in self.connections:
                for end in connection:
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
            self.connections = []

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                if self.mode == "cut":
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self.connections.append((client, server))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=pair, daemon=True).start()

    def copy(self, source, target):
        try:
            while data := source.recv(65536):
                while self.mode == "frozen":
                    time.sleep(0.05)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class LineServer:
    """`mode`: open, busy (503), cut (closes without taking), lost (takes without an answer) or frozen."""

    def __init__(self):
        self.mode, self.lines, self.lock = "open", [], threading.Lock()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                server.take(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        mode, request.close_connection = self.mode, True
        if mode == "frozen":
            while self.mode == "frozen":
                time.sleep(0.1)
            return
        if mode in ("open", "lost"):
            with self.lock:
                self.lines += body.splitlines()
        if mode in ("cut", "lost"):
            return
        request.send_response(204 if mode == "open" else 503)
        request.send_header("Content-Length", "0")
        request.end_headers()
