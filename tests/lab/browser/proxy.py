"""A reverse proxy that serves everything below a path, as Home Assistant's ingress does."""

import contextlib
import http.client
import http.server
import threading
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PREFIX = "/api/hassio_ingress/0123456789abcdef"


class Proxy:
    def __init__(self, target):
        """`target` is the port behind it; None answers nothing, like a program that is down."""
        self.target = target
        # What was asked for outside of the prefix: a link that is not relative.
        self.strays = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.serve(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://{HOST}:{self.port}{PREFIX}/"

    def serve(self, request):
        if not urlsplit(request.path).path.startswith(PREFIX + "/"):
            self.strays.append(request.path)
            request.send_error(404)
            return
        behind = http.client.HTTPConnection(HOST, self.target, timeout=60)
        with contextlib.suppress(OSError, http.client.HTTPException):
            behind.request("GET", request.path.removeprefix(PREFIX))
            answer = behind.getresponse()
            request.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding"):
                    request.send_header(name, value)
            request.end_headers()
            while part := answer.read1(65536):
                request.wfile.write(part)
                request.wfile.flush()
        behind.close()
