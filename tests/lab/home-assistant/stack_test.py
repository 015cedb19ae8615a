"""A stack whose modules are devices of their own, and a JBD battery with switches."""

import json

import expected_entities
from home_assistant import TOPIC_CLEARED
from processes import SimulatedBattery
from suite import LATER

STACK, SWITCHED = "shelf", "shed"
# The simulated controller answers to this serial number only.
BARCODE = "PPTAP02218C10427"
MODULES = 5


def run(suite):
    suite.log_names += [STACK, SWITCHED]
    test = StackTest(suite)
    try:
        test.run()
    finally:
        for battery in (test.stack, test.switched):
            if battery.process:
                battery.process.stop(5)


class StackTest:
    def __init__(self, suite):
        self.suite, self.home_assistant = suite, suite.home_assistant
        program, work = suite.program, suite.work
        self.stack = SimulatedBattery(program, work, STACK, "pylontech-sc0500")
        self.switched = SimulatedBattery(program, work, SWITCHED, "jbd")

    def run(self):
        self.replace_batteries()
        self.first_discovery()
        self.operate_switches()
        self.change_format()
        self.remove_two_modules()
        self.suite.disable_discovery()
        self.suite.report("no device is left", sorted(self.home_assistant.devices()))

    # what Home Assistant shows

    def module_devices(self):
        """Devices by module number."""
        prefix = f"bms_reader_{STACK}_module_"
        devices = self.home_assistant.devices().items()
        return {int(name[len(prefix) :]): d for name, d in devices if name.startswith(prefix)}

    def stack_faults(self, modules=MODULES):
        suite, entities = self.suite, self.suite.entities_of(STACK)
        faults = expected_entities.set_faults(set(entities), expected_entities.stack(modules))
        for key, entity in entities.items():
            # Seventy-five cells would flood the user interface.
            cell = key.startswith("cell_") and key != "cell_voltage_diff"
            if cell and entity["enabled"]:
                faults.append(f"{key} is enabled")
            elif not cell and expected_entities.row(key):
                faults += expected_entities.faults(key, entity)
        return faults or suite.value_faults(STACK, entities) or self.device_faults(modules)

    def device_faults(self, modules):
        """Modules that are not devices below the stack, or lack their entities."""
        devices, found = self.home_assistant.devices(), self.module_devices()
        if sorted(found) != list(range(1, modules + 1)):
            return [f"the modules are {sorted(found)}"]
        stack, entities = devices[f"bms_reader_{STACK}"]["id"], self.suite.entities_of(STACK)
        faults = [
            f"module {number} is not below its stack"
            for number, device in found.items()
            if device["via_device_id"] != stack
        ]
        serials = {device["serial_number"] for device in found.values()}
        faults += [] if len(serials) == modules and all(serials) else [f"serial numbers: {serials}"]
        for key, entity in entities.items():
            wanted = found[int(key.split("_")[1])]["id"] if key.startswith("module_") else stack
            faults += [] if entity["device"] == wanted else [f"{key} belongs to another device"]
        return faults

    def switch_faults(self, charging):
        entities = self.suite.entities_of(SWITCHED)
        wanted = {"charging": charging, "discharging": "on"}
        states = {
            name: (entities.get(name, {}).get("state"), state)
            for key, state in wanted.items()
            for name in (f"{key}_switch", f"{key}_enabled")
        }
        return [f"{name} is {shown}" for name, (shown, state) in states.items() if shown != state]

    def missing_switches(self):
        entities = self.suite.entities_of(SWITCHED)
        keys = expected_entities.SWITCHES
        return [f"no {key}" for key in keys if not entities.get(key, {}).get("available")]

    # steps

    def replace_batteries(self):
        suite = self.suite
        suite.reader.process.stop(2)
        suite.reader.start(MQTT_DISCOVERY="off")
        suite.eventually(
            "discovery off: no entity is left", lambda: sorted(suite.entity_ids().values())
        )
        suite.reader.process.stop(2)
        batteries = [self.stack, self.switched]
        for battery in batteries:
            battery.start()
        devices = [{"id": b.name, "type": b.brand, "port": b.port} for b in batteries]
        devices[0]["barcode"] = BARCODE
        suite.reader.environment |= {
            "DEVICES": json.dumps(devices),
            "BANKS": "",
            "ALLOW_CONTROL": "true",
        }
        suite.check_log("batteries removed", TOPIC_CLEARED)

    def first_discovery(self):
        suite = self.suite
        suite.reader.start(MQTT_DISCOVERY="entity")
        suite.eventually(
            f"a stack of {MODULES} modules: each is a device below it, its cells are disabled",
            self.stack_faults,
        )
        suite.report("every entity is in the registry", self.home_assistant.without_unique_id())
        suite.check_log("stack")

    def operate_switches(self):
        suite = self.suite
        for state in ("off", "on"):
            suite.eventually("the switches are available", self.missing_switches)
            entity_id = suite.entities_of(SWITCHED)["charging_switch"]["entity_id"]
            self.home_assistant.turn(entity_id, state == "on")
            suite.eventually(
                f"charging turned {state} on a JBD battery: the battery confirms it",
                lambda state=state: self.switch_faults(state),
            )
        suite.check_log("switches operated")

    def change_format(self):
        suite, before = self.suite, self.suite.entity_ids()

        def faults():
            after = suite.entity_ids()
            changed = [
                unique_id for unique_id, name in before.items() if after.get(unique_id) != name
            ]
            return self.stack_faults() or changed

        for form in ("device", "entity", "device"):
            suite.stop_reader()
            suite.reader.start(MQTT_DISCOVERY=form)
            suite.eventually(f"{form} format: the stack and its modules are the same", faults)
            suite.check_log(f"change to the {form} format", TOPIC_CLEARED)

    def remove_two_modules(self):
        remaining = MODULES - 2
        self.stack.process.stop(5)
        self.stack.start("--fault", f"modules={remaining}")
        self.suite.eventually(
            "two modules removed: their devices are gone",
            lambda: self.stack_faults(remaining),
            LATER,
        )
        self.suite.check_log("modules removed", TOPIC_CLEARED)
