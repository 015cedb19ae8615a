"""The third chapter: a stack whose modules are devices of their own, and a board of another make with
switches. The batteries of the first two chapters have left."""

import json

import core
import expected
from bed import Battery

STACK, BOARD = "shelf", "shed"
IDS = (STACK, BOARD)
SOON = 30
# The one that the simulated controller wants to hear.
BARCODE = "PPTAP02218C10427"
MODULES = 5


def tell(story):
    chapter = Stack(story)
    try:
        chapter.tell()
    finally:
        chapter.end()


class Stack:
    def __init__(self, story):
        self.story, self.core = story, story.core
        program, work = story.reader.program, story.broker.work
        self.stack = Battery(program, work, STACK, "pylontech-sc0500")
        self.board = Battery(program, work, BOARD, "jbd")

    def end(self):
        for battery in (self.stack, self.board):
            if battery.process:
                battery.process.stop(5)

    def tell(self):
        self.the_others_leave()
        self.first_sight()
        self.press()
        self.change_format()
        self.two_modules_are_taken_out()
        self.story.goodbye()
        self.story.verdict("no device of ours is left", sorted(self.core.devices()))

    # what is shown

    def modules(self):
        """Module number to its device."""
        prefix = f"bms_reader_{STACK}_module_"
        devices = self.core.devices().items()
        return {int(name[len(prefix) :]): d for name, d in devices if name.startswith(prefix)}

    def as_expected(self, modules):
        entities = self.story.of(STACK)
        faults = expected.faults_in_set(set(entities), expected.stack(modules))
        for key, entity in entities.items():
            # Seventy-five cells would flood everybody.
            cell = key.startswith("cell_") and key != "cell_voltage_diff"
            if cell and entity["enabled"]:
                faults.append(f"{key} is enabled")
            elif not cell and expected.row(key):
                faults += expected.faults(key, entity)
        return faults or self.story.wrong_values(STACK, entities) or self.wrong_devices(modules)

    def wrong_devices(self, modules):
        """Modules that are no devices under the stack, or that have not what is theirs."""
        devices, found = self.core.devices(), self.modules()
        if sorted(found) != list(range(1, modules + 1)):
            return [f"the modules are {sorted(found)}"]
        whole, entities = devices[f"bms_reader_{STACK}"]["id"], self.story.of(STACK)
        faults = [
            f"module {n} is not under its stack"
            for n, d in found.items()
            if d["via_device_id"] != whole
        ]
        serials = {device["serial_number"] for device in found.values()}
        faults += [] if len(serials) == modules and all(serials) else [f"serial numbers: {serials}"]
        for key, entity in entities.items():
            wanted = found[int(key.split("_")[1])]["id"] if key.startswith("module_") else whole
            faults += [] if entity["device"] == wanted else [f"{key} belongs to another device"]
        return faults

    def switches(self, charging):
        entities = self.story.of(BOARD)
        wanted = {"charging": charging, "discharging": "on"}
        states = {
            name: (entities.get(name, {}).get("state"), on)
            for key, on in wanted.items()
            for name in (f"{key}_switch", f"{key}_enabled")
        }
        return [f"{name} is {state}" for name, (state, on) in states.items() if state != on]

    # the steps

    def the_others_leave(self):
        story = self.story
        story.reader.process.stop(2)
        story.reader.start(MQTT_DISCOVERY="off")
        story.within(SOON, "nobody is announced any more", lambda: sorted(story.ids().values()))
        story.reader.process.stop(2)
        batteries = [self.stack, self.board]
        for battery in batteries:
            battery.start()
        devices = [{"id": b.name, "type": b.make, "port": b.port} for b in batteries]
        devices[0]["barcode"] = BARCODE
        story.reader.environment |= {
            "DEVICES": json.dumps(devices),
            "BANKS": "",
            "ALLOW_CONTROL": "true",
        }
        story.nothing_complained("Home Assistant did not complain about that", core.TOPIC_CLEARED)

    def first_sight(self):
        self.story.reader.start(MQTT_DISCOVERY="entity")
        self.story.within(
            SOON,
            f"a stack of {MODULES} modules: each is a device under it, its cells are disabled",
            lambda: self.as_expected(MODULES),
        )
        self.story.verdict("every entity is in the registry", self.core.without_unique_id())
        self.story.nothing_complained("Home Assistant did not complain about the stack")

    def press(self):
        story = self.story
        for word in ("off", "on"):
            story.within(SOON, "the board's switches can be seen", self.switch_missing)
            entity = story.of(BOARD)["charging_switch"]["entity_id"]
            self.core.turn(entity, word == "on")
            story.within(
                SOON,
                f"charging turned {word} on a JBD board: it says so",
                lambda word=word: self.switches(word),
            )
        story.nothing_complained("Home Assistant did not complain about its switches")

    def switch_missing(self):
        entities = self.story.of(BOARD)
        keys = expected.SWITCHES
        return [f"no {key}" for key in keys if not entities.get(key, {}).get("available")]

    def change_format(self):
        story, before = self.story, self.story.ids()
        for form in ("device", "entity", "device"):
            story.stop_reader()
            story.reader.start(MQTT_DISCOVERY=form)
            story.within(
                SOON,
                f"{form} format: the stack and its modules are the same",
                lambda: (
                    self.as_expected(MODULES)
                    or [u for u, n in before.items() if story.ids().get(u) != n]
                ),
            )
            story.nothing_complained(
                f"Home Assistant did not complain about the change to {form}", core.TOPIC_CLEARED
            )

    def two_modules_are_taken_out(self):
        story = self.story
        self.stack.process.stop(5)
        self.stack.start("--fault", f"modules={MODULES - 2}")
        story.within(
            90, "two modules are gone: so are their devices", lambda: self.as_expected(MODULES - 2)
        )
        story.nothing_complained("Home Assistant did not complain about that", core.TOPIC_CLEARED)
