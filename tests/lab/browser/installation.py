"""The program under test with a broker, simulated batteries, a history file and a reverse proxy."""

import contextlib
import json
import os
import time
import urllib.request

import sample_history
from processes import HOST, Broker, Reader, SetupError, SimulatedBattery, free_port, tail
from proxy import Proxy

# A bank of three batteries: one without a fault, one with an alarm, one that will be unplugged. A stack of
# several modules, and a battery with switches.
BANK, HEALTHY, ALARMED, UNPLUGGED, STACK = "bank", "rack_1", "rack_2", "shed", "stack"
SWITCHED = "workshop"
# In the order of the page.
NAMES = {
    BANK: "House bank",
    HEALTHY: "Rack 1",
    ALARMED: "Rack 2",
    UNPLUGGED: "Garden shed",
    STACK: "Stack",
    SWITCHED: "Workshop",
}
MEMBERS = [HEALTHY, ALARMED, UNPLUGGED]
BRANDS = {**dict.fromkeys(MEMBERS, "daren"), STACK: "pylontech-sc0500", SWITCHED: "jbd"}
# Upper limit in seconds. It only ends a failed run early.
SOON = 60


class Installation:
    def __init__(self, program, work):
        self.program, self.work = program, work
        self.broker = Broker(work)
        self.batteries = {
            name: SimulatedBattery(program, work, name, brand) for name, brand in BRANDS.items()
        }
        self.history = os.path.join(work, "history.db")
        self.port = free_port()
        self.proxy = Proxy(self.port)
        self.reader = None

    def common_environment(self):
        return {
            "MQTT_HOST": HOST,
            "MQTT_PORT": str(self.broker.port),
            "MQTT_USER": self.broker.USER,
            "MQTT_PASSWORD": self.broker.PASSWORD,
            "HISTORY_FILE": self.history,
            "HTTP_LISTEN": f"{HOST}:{self.port}",
        }

    def environment(self):
        devices = [
            {
                "id": name,
                "name": NAMES[name],
                "type": BRANDS[name],
                "port": battery.port,
                "interval": 1,
            }
            for name, battery in self.batteries.items()
        ]
        return {
            **self.common_environment(),
            "DEVICES": json.dumps(devices),
            "BANKS": json.dumps([{"id": BANK, "name": NAMES[BANK], "members": MEMBERS}]),
            "BMS_TIMEOUT": "1",
            "ALLOW_CONTROL": "true",
        }

    def start(self):
        self.broker.start()
        self.batteries[HEALTHY].start("--seed", "3")
        self.batteries[ALARMED].start("--seed", "5", "--fault", "alarm=cell_overvoltage")
        self.batteries[UNPLUGGED].start("--seed", "9")
        self.batteries[STACK].start()
        self.batteries[SWITCHED].start("--seed", "11")
        self.start_with_history(self.environment())

    def start_demo(self):
        """`bms-reader demo`, which begins with the history of two days."""
        self.run(self.common_environment(), "demo")

    def start_with_history(self, environment, *command):
        """Lets the program create its history file, then restarts it with two days in the file."""
        self.run(environment, *command)
        self.wait_for_history_file()
        values = self.wait_for_values()
        self.stop_reader()
        sample_history.write(self.history, values)
        sample_history.write_alarm(self.history, UNPLUGGED, NAMES[UNPLUGGED])
        self.run(environment, *command)

    def wait_for_history_file(self):
        end = time.monotonic() + SOON
        while not self.has_history_tables():
            if time.monotonic() > end:
                raise SetupError(f"no history file: {tail(self.reader.log)}")
            time.sleep(0.1)

    def has_history_tables(self):
        content = b""
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError), open(self.history + suffix, "rb") as file:
                content += file.read()
        return os.path.exists(self.history) and b"CREATE VIEW history" in content

    def wait_for_values(self):
        """The values of every battery by id and key, once all of them have answered."""
        values = {}
        end = time.monotonic() + SOON
        while not (values and all(values.values())):
            if time.monotonic() > end:
                raise SetupError(f"not every battery answers: {tail(self.reader.log)}")
            time.sleep(0.2)
            values = {
                battery["id"]: {value["key"]: value["value"] for value in battery["values"]}
                for battery in json.loads(self.get("api/overview"))["batteries"]
            }
        return values

    def run(self, environment, *command):
        self.reader = Reader(self.program, self.work, environment)
        self.reader.start(*command)
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                return self.get("healthz")
            time.sleep(0.1)
        raise SetupError(f"the program does not serve HTTP: {tail(self.reader.log)}")

    def run_unconfigured(self, environment):
        self.run({"HTTP_LISTEN": f"{HOST}:{self.port}", **environment})

    def get(self, path):
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/{path}", timeout=10) as response:
            return response.read().decode()

    def stop_reader(self):
        self.reader.process.stop(10)

    def stop(self):
        for battery in self.batteries.values():
            if battery.process:
                battery.process.stop(5)
        for process in (self.reader and self.reader.process, self.broker.process):
            if process:
                process.stop(10)
