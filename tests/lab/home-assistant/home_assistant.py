"""Starts a real Home Assistant, logs in, and reads what it made of our entities.

Uses the standard library only, and of Home Assistant the onboarding API, `config` of the REST API, and the
registries, states, services, statistics and energy preferences of the websocket API.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import struct
import time
import urllib.error
import urllib.parse
import urllib.request

from processes import HOST, Process, SetupError, free_port, tail, wait_for_port

CLIENT_ID = "http://127.0.0.1/"
ENTRY_ID = "0123456789abcdef0123456789abcdef"
# Logged when the discovery topic of a device is cleared after its entities moved away.
TOPIC_CLEARED = ("No device components to cleanup",)
PLATFORMS = ("sensor", "binary_sensor", "switch", "number", "select", "button", "event")


def http(method, url, data=None, token=None, form=False):
    body, headers = None, {}
    if data is not None:
        body = (urllib.parse.urlencode(data) if form else json.dumps(data)).encode()
        kind = "x-www-form-urlencoded" if form else "json"
        headers["Content-Type"] = f"application/{kind}"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return json.loads(response.read() or b"null")


class WebSocket:
    """A client of RFC 6455 that sends and receives text messages."""

    def __init__(self, port, token):
        self.socket = socket.create_connection((HOST, port), 30)
        self.file = self.socket.makefile("rb")
        self.number, self.events = 0, []
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /api/websocket HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if b" 101 " not in self.file.readline():
            raise SetupError("no websocket upgrade")
        while self.file.readline() not in (b"\r\n", b""):
            pass
        self.receive()
        self.send(1, json.dumps({"type": "auth", "access_token": token}).encode())
        if self.receive().get("type") != "auth_ok":
            raise SetupError("websocket login refused")

    def send(self, opcode, data):
        mask, size = os.urandom(4), len(data)
        if size < 126:
            head = bytes([0x80 | opcode, 0x80 | size])
        elif size < 65536:
            head = bytes([0x80 | opcode, 0xFE]) + struct.pack(">H", size)
        else:
            head = bytes([0x80 | opcode, 0xFF]) + struct.pack(">Q", size)
        masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))
        self.socket.sendall(head + mask + masked)

    def read(self, size):
        data = self.file.read(size)
        if len(data) != size:
            raise SetupError("websocket closed")
        return data

    def receive(self):
        message = b""
        while True:
            first, second = self.read(2)
            size = second & 127
            if size == 126:
                size = struct.unpack(">H", self.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.read(8))[0]
            data, opcode = self.read(size), first & 15
            if opcode == 9:
                self.send(10, data)
            elif opcode == 8:
                raise SetupError("websocket closed")
            elif opcode in (0, 1):
                message += data
                if first & 0x80:
                    return json.loads(message)

    def call(self, kind, **fields):
        self.number += 1
        self.send(1, json.dumps({"id": self.number, "type": kind, **fields}).encode())
        while True:
            message = self.receive()
            if message.get("type") == "event":
                self.events.append(message)
            elif message.get("id") == self.number:
                if not message.get("success"):
                    raise LookupError(f"{kind}: {message.get('error')}")
                return message["result"]

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()


class HomeAssistant:
    def __init__(self, hass, work, broker, integrations=""):
        """`integrations`: lines of its configuration in addition to what the tests need."""
        self.hass, self.work, self.port = hass, work, free_port()
        self.config = os.path.join(work, "home-assistant")
        self.url = f"http://{HOST}:{self.port}"
        self.process = self.token = self.socket = None
        self.logs = []
        os.makedirs(os.path.join(self.config, ".storage"))
        with open(os.path.join(self.config, "configuration.yaml"), "w") as file:
            file.write(
                "homeassistant:\n  name: lab\n  unit_system: metric\n  time_zone: UTC\n"
                f"  country: CZ\nhttp:\n  server_host: {HOST}\n  server_port: {self.port}\n"
                "api:\nwebsocket_api:\nconfig:\nenergy:\nlogger:\n  default: warning\n"
                + integrations
            )
        # The oldest schema, because every release migrates it to its own.
        entry = {
            "entry_id": ENTRY_ID,
            "version": 1,
            "minor_version": 1,
            "domain": "mqtt",
            "title": "lab",
            "options": {},
            "source": "user",
            "unique_id": None,
            "disabled_by": None,
            "pref_disable_new_entities": False,
            "pref_disable_polling": False,
            "data": {
                "broker": HOST,
                "port": broker.port,
                "username": broker.USER,
                "password": broker.PASSWORD,
                "protocol": "5",
                "discovery": True,
            },
        }
        store = {"version": 1, "minor_version": 1, "key": "core.config_entries"}
        with open(os.path.join(self.config, ".storage", "core.config_entries"), "w") as file:
            json.dump({**store, "data": {"entries": [entry]}}, file)

    def add_blueprint(self, path):
        """Copies a file of the repository to where imported blueprints are."""
        repository = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
        folder = os.path.join(self.config, "blueprints", "automation", "bms-reader")
        os.makedirs(folder)
        shutil.copy(os.path.join(repository, path), folder)

    def start(self, limit=240):
        log = os.path.join(self.work, f"home-assistant-{len(self.logs) + 1}.log")
        self.logs.append(log)
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment["HA_DISABLE_LOG_FILE"] = "1"
        argv = [self.hass, "-c", self.config, "--skip-pip", "--log-no-color"]
        self.process = Process("Home Assistant", argv, log, environment)
        wait_for_port(self.port, self.process, limit)
        self.wait_until(limit, "a login", self.log_in)
        self.wait_until(limit, "the state RUNNING", self.is_running)
        self.socket = WebSocket(self.port, self.token)
        # An address that is new is given up after five minutes unless a user confirms it.
        with contextlib.suppress(LookupError):
            self.socket.call("http/config/promote")
        self.wait_until(60, "its mqtt integration", self.has_mqtt)

    def wait_until(self, limit, what, probe):
        end = time.monotonic() + limit
        while True:
            with contextlib.suppress(urllib.error.URLError, OSError, KeyError, ValueError):
                if probe():
                    return
            if not self.process.is_running():
                raise SetupError(f"Home Assistant ended: {tail(self.process.log)}")
            if time.monotonic() > end:
                raise SetupError(f"no {what} within {limit} s: {tail(self.process.log)}")
            time.sleep(0.2)

    def log_in(self):
        if self.token is None:
            owner = {
                "client_id": CLIENT_ID,
                "name": "lab",
                "username": "lab",
                "password": "lab",
                "language": "en",
            }
            code = http("POST", self.url + "/api/onboarding/users", owner)["auth_code"]
            grant = {"grant_type": "authorization_code", "code": code, "client_id": CLIENT_ID}
            self.token = http("POST", self.url + "/auth/token", grant, form=True)["access_token"]
        return True

    def is_running(self):
        return http("GET", self.url + "/api/config", token=self.token)["state"] == "RUNNING"

    def has_mqtt(self):
        entries = self.socket.call("config_entries/get", domain="mqtt")
        return entries and entries[0]["state"] == "loaded"

    def stop(self):
        if self.socket:
            self.socket.close()
        if self.process:
            self.process.stop(60)

    def version(self):
        return self.socket.call("get_config")["version"]

    def devices(self):
        """Our devices by identifier."""
        listed = self.socket.call("config/device_registry/list")
        ours = ((name[1], device) for device in listed for name in device["identifiers"])
        return {name: device for name, device in ours if name.startswith("bms_reader_")}

    def entities(self):
        """The MQTT entities by unique id."""
        call = self.socket.call
        listed = call("config/entity_registry/list")
        ids = [entry["entity_id"] for entry in listed if entry["platform"] == "mqtt"]
        entries = call("config/entity_registry/get_entries", entity_ids=ids) if ids else {}
        states = {state["entity_id"]: state for state in call("get_states")}
        # An entry that was removed since the list was read is null.
        return {
            entry["unique_id"]: entity(entry, states.get(name))
            for name, entry in entries.items()
            if entry
        }

    def without_unique_id(self):
        """Entities that are not in the registry."""
        known = {entry["entity_id"] for entry in self.socket.call("config/entity_registry/list")}
        states = (state["entity_id"] for state in self.socket.call("get_states"))
        return sorted(i for i in states if i not in known and i.split(".")[0] in PLATFORMS)

    def change_entity(self, entity_id, **fields):
        self.socket.call("config/entity_registry/update", entity_id=entity_id, **fields)

    def turn(self, entity_id, on):
        service, target = f"turn_{'on' if on else 'off'}", {"entity_id": entity_id}
        self.socket.call("call_service", domain="switch", service=service, target=target)

    def subscribe(self, entity_id):
        """Subscribes to the states of an entity. Returns the number for `received_states`."""
        trigger = {"trigger": "state", "entity_id": entity_id}
        self.socket.call("subscribe_trigger", trigger=trigger)
        return self.socket.number

    def received_states(self, number):
        """The states received since `subscribe`, each with its attributes."""
        # Reads every event that was sent before the response.
        self.socket.call("get_config")
        events = [message["event"] for message in self.socket.events if message["id"] == number]
        return [event["variables"]["trigger"]["to_state"] for event in events]

    def statistics(self):
        """The entities that Home Assistant keeps statistics of."""
        listed = self.socket.call("recorder/list_statistic_ids")
        return {row["statistic_id"]: row for row in listed}

    def energy_issues(self, **preferences):
        """Validates settings of the energy dashboard: (issue, entity) to detail."""
        self.socket.call("energy/save_prefs", **preferences)
        result = self.socket.call("energy/validate")
        issues = [issue for group in result.values() for source in group for issue in source]
        return {
            (issue["type"], entity): detail
            for issue in issues
            for entity, detail in issue["affected_entities"]
        }

    def discovery_topics(self):
        """The discovery topic of each entity."""
        topics = {}
        for device in self.devices().values():
            info = self.socket.call("mqtt/device/debug_info", device_id=device["id"])
            for entry in info["entities"]:
                topics[entry["entity_id"]] = entry["discovery_data"]["topic"]
        return topics

    def parse_yaml(self, text):
        """What its own YAML library reads."""
        program = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
        python = os.path.join(os.path.dirname(self.hass), "python")
        run = subprocess.run([python, "-c", program], input=text, capture_output=True, text=True)
        if run.returncode:
            raise ValueError(run.stderr[-500:])
        return json.loads(run.stdout)

    def notifications(self):
        """Title and message of each persistent notification, the oldest first."""
        listed = self.socket.call("persistent_notification/get")
        listed.sort(key=lambda notification: notification["created_at"])
        return [(notification["title"], notification["message"]) for notification in listed]

    def repairs(self):
        issues = self.socket.call("repairs/list_issues")["issues"]
        return [issue["issue_id"] for issue in issues if issue["domain"] == "mqtt"]


def entity(entry, state):
    attributes = (state or {}).get("attributes", {})
    shown = (entry.get("options") or {}).get("sensor") or {}
    return {
        "entity_id": entry["entity_id"],
        "device": entry["device_id"],
        "component": entry["entity_id"].split(".")[0],
        "name": entry.get("name") or entry.get("original_name"),
        "class": entry.get("device_class") or entry.get("original_device_class"),
        "state_class": (entry.get("capabilities") or {}).get("state_class"),
        "unit": attributes.get("unit_of_measurement"),
        "precision": shown.get("suggested_display_precision"),
        "category": entry.get("entity_category"),
        "enabled": entry.get("disabled_by") is None,
        "state": state["state"] if state else None,
        "restored": bool(attributes.get("restored")),
        "available": bool(state) and state["state"] != "unavailable",
    }


RECORD = re.compile(
    r"^\d{4}-\d\d-\d\d [\d:.]+\S* (DEBUG|INFO|WARNING|ERROR|CRITICAL) \([^)]*\) \[([^\]]+)\] (.*)$"
)
# Modules that log complaints about MQTT devices.
LOGGERS = tuple(
    f"homeassistant.{name}"
    for name in (
        "components.mqtt",
        "components.sensor",
        "components.binary_sensor",
        "components.button",
        "components.switch",
        "components.event",
        "components.energy",
        "helpers.template",
        "helpers.entity",
        "helpers.device_registry",
        "helpers.frame",
        "util.json",
    )
)


def complaints(log, names, start=0):
    """Warnings and errors in the log, from byte `start` on, that concern MQTT or one of the names."""
    with open(log, errors="replace") as file:
        file.seek(start)
        lines = file.read().splitlines()
    records = []
    for line in lines:
        if found := RECORD.match(line):
            records.append(list(found.groups()))
        elif records:
            records[-1][2] += " / " + line.strip()
    return [
        f"{level} {logger}: {text}"
        for level, logger, text in records
        if level in ("WARNING", "ERROR", "CRITICAL")
        and (
            "mqtt" in (logger + text).lower()
            or logger.startswith(LOGGERS)
            or any(name in text for name in names)
        )
    ]
