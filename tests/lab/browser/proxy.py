"""A reverse proxy that serves everything below a path, like the ingress of Home Assistant."""

import contextlib
import http.client
import http.server
import threading
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PREFIX = "/api/hassio_ingress/0123456789abcdef"


class Proxy:
    def __init__(self, target):
        """`target` is the port of the program, which may be down."""
        self.target = target
        # Requested paths outside of the prefix: a link was not relative.
        self.strays = []
        # Tells the program that the client is another machine.
        self.forwarded = False
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                proxy.forward(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://{HOST}:{self.port}{PREFIX}/"

    def headers(self, request):
        """Those that Home Assistant passes on, and the name that the browser used."""
        names = ("Content-Type", "Cookie", "Origin", "Sec-Fetch-Site")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        headers["X-Forwarded-Host"] = request.headers["Host"]
        return headers | ({"X-Forwarded-For": "192.168.1.7"} if self.forwarded else {})

    def forward(self, request):
        if not urlsplit(request.path).path.startswith(PREFIX + "/"):
            self.strays.append(request.path)
            request.send_error(404)
            return
        upstream = http.client.HTTPConnection(HOST, self.target, timeout=60)
        # A program that is down gets no response, as with a real proxy that drops the connection.
        with contextlib.suppress(OSError, http.client.HTTPException):
            body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
            path = request.path.removeprefix(PREFIX)
            upstream.request(request.command, path, body, self.headers(request))
            response = upstream.getresponse()
            request.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("connection", "transfer-encoding"):
                    request.send_header(name, value)
            request.end_headers()
            while part := response.read1(65536):
                request.wfile.write(part)
                request.wfile.flush()
        upstream.close()
