"""A battery of a brand that only a file describes, from a simulated battery to the entities."""

import json
import os
from functools import partial

import expected_entities
import nova
from processes import HOST, Process, free_port, wait_for_port

BATTERY = "boat"


def run(suite):
    suite.log_names.append(BATTERY)
    test = ProfileTest(suite)
    try:
        test.run()
    finally:
        if test.battery:
            test.battery.stop(5)


class ProfileTest:
    def __init__(self, suite):
        self.suite, self.battery = suite, None
        self.folder = os.path.join(suite.work, "profiles")
        self.port = free_port()

    def run(self):
        suite = self.suite
        suite.reader.process.stop(2)
        self.start_battery()
        values = nova.values(HOST, self.port)
        device = {"id": BATTERY, "type": "nova", "port": f"tcp://{HOST}:{self.port}"}
        suite.reader.environment |= {"DEVICES": json.dumps([device]), "BMS_PROFILES": self.folder}
        suite.reader.start(MQTT_DISCOVERY="entity")
        suite.eventually(
            "a brand from a file: its entities are as expected", partial(self.entity_faults, values)
        )
        suite.enable_entities()
        suite.eventually(
            "a brand from a file: its entities have the values that the battery sends",
            partial(self.value_faults, values),
        )
        device = suite.home_assistant.devices().get(f"bms_reader_{BATTERY}") or {}
        named = device.get("manufacturer") == "Nova"
        suite.report("the device names the brand", [] if named else [str(device)])
        suite.check_log("brand from a file")
        suite.disable_discovery()

    def start_battery(self):
        """Its time stands still, so the values are known."""
        os.mkdir(self.folder)
        with open(os.path.join(self.folder, "nova.yaml"), "w") as file:
            file.write(nova.profile())
        address = f"{HOST}:{self.port}"
        argv = [self.suite.program, "simulate", "--type", "nova", "--tcp", address, "--speed", "0"]
        log = os.path.join(self.suite.work, f"battery-{BATTERY}.log")
        environment = {"BMS_PROFILES": self.folder}
        self.battery = Process("the simulated battery", argv, log, environment)
        wait_for_port(self.port, self.battery, 20)

    def entity_faults(self, values):
        entities = self.suite.entities_of(BATTERY)
        wanted = expected_entities.profile(values)
        faults = expected_entities.set_faults(set(entities), wanted)
        for key, entity in entities.items():
            if expected_entities.row(key):
                faults += expected_entities.faults(key, entity)
        return faults or self.suite.value_faults(BATTERY)

    def value_faults(self, values):
        shown = {key: e["state"] for key, e in self.suite.entities_of(BATTERY).items()}
        return nova.differences(values, shown) or self.suite.value_faults(BATTERY)
