"""Home Assistant's Supervisor, as far as an app may use it without any permission."""

import contextlib
import http.server
import json
import threading

HOST = "127.0.0.1"
TOKEN = "a-secret-token"


class Supervisor:
    """Keeps the options of the app. `restart` is called in a thread of its own, as the request never ends."""

    def __init__(self, options):
        self.options, self.restart, self.restarts, self.refused = options, None, 0, []
        supervisor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                supervisor.answer(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def environment(self):
        port = self.server.server_address[1]
        return {"SUPERVISOR_TOKEN": TOKEN, "SUPERVISOR_API": f"http://{HOST}:{port}"}

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        line = f"{request.command} {request.path}"
        data = self.data(line, json.loads(body or b"{}"))
        if request.headers["Authorization"] != f"Bearer {TOKEN}" or data is None:
            self.refused.append(line)
            status, answer = 403, {"result": "error", "message": "not allowed"}
        else:
            status, answer = 200, {"result": "ok", "data": data}
        text = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        # The program does not wait for the answer when it is restarted.
        with contextlib.suppress(OSError):
            request.wfile.write(text)

    def data(self, line, body):
        """None for what an app may not do."""
        match line:
            case "GET /addons/self/info":
                return {"slug": "bms_reader", "options": self.options}
            case "POST /addons/self/options":
                self.options = body["options"]
            case "POST /addons/self/restart":
                self.restarts += 1
                threading.Thread(target=self.restart, daemon=True).start()
            case _:
                return None
        return {}
