#!/usr/bin/env python3
"""One life of the program beside a real Home Assistant, told in steps.

    story.py BMS_READER HASS

Two simulated batteries are read; house.py goes on with a bank and switches, stack.py with a stack. Each step prints its verdict; status 0 when all were good, 1 when
not, 2 when the test bed itself failed.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time

import core
import expected
import house
import stack
from bed import HOST, Battery, BedError, Broker, Reader, free_port, tail

IDS = ("rack1", "rack2")
# What a user has changed by hand must survive every move.
RENAMED = "sensor.my_own_name"
# Upper limits. They only keep a failed run short.
SOON, PATIENT = 30, 90

# Words of Home Assistant about a step that cannot be done without them.
BROKER_GONE = (
    "Failed to connect to MQTT server",
    "Disconnected from MQTT server",
    "Error returned from MQTT server",
    "MQTT server disconnected",
    "Error talking to MQTT",
)
# A word about the machine that the test runs on.
SLOW = ("Updating state for",)


class Story:
    def __init__(self, program, hass, work):
        self.broker = Broker(work)
        self.batteries = [Battery(program, work, name) for name in IDS]
        self.core = core.HomeAssistant(hass, work, self.broker)
        self.reader = Reader(program, work, self.environment())
        self.failed = self.passed = 0
        self.read_up_to = (None, 0)

    def environment(self):
        devices = ", ".join(
            f'{{"id": "{battery.name}", "type": "daren", "port": "{battery.port}"}}'
            for battery in self.batteries
        )
        return {
            "DEVICES": f"[{devices}]",
            "READ_INTERVAL": "1",
            "BMS_TIMEOUT": "1",
            "MQTT_HOST": HOST,
            "MQTT_PORT": str(self.broker.port),
            "MQTT_USER": self.broker.USER,
            "MQTT_PASSWORD": self.broker.PASSWORD,
            "HTTP_LISTEN": f"{HOST}:{free_port()}",
        }

    # verdicts

    def verdict(self, what, faults):
        if faults:
            self.failed += 1
            print(f"FAIL  {what}")
            for fault in faults[:8]:
                print(f"      | {fault}")
            if len(faults) > 8:
                print(f"      | and {len(faults) - 8} more")
        else:
            self.passed += 1
            print(f"ok    {what}")
        sys.stdout.flush()
        return not faults

    def within(self, limit, what, look):
        """Waits until `look` finds no fault."""
        begin = time.monotonic()
        while True:
            faults = look()
            waited = time.monotonic() - begin
            if not faults or waited > limit:
                if faults and not self.reader.process.alive():
                    faults.append(f"the reader does not run: {tail(self.reader.log)}")
                self.verdict(f"{what} ({waited:.1f} s)", faults)
                return
            time.sleep(0.3)

    def nothing_complained(self, what, harmless=()):
        """Home Assistant's log since the last look."""
        log = self.core.logs[-1]
        start = self.read_up_to[1] if self.read_up_to[0] == log else 0
        said = core.complaints(log, [*IDS, *house.IDS, *stack.IDS, RENAMED], start)
        self.read_up_to = (log, os.path.getsize(log))
        harmless = (*harmless, *SLOW)
        self.verdict(what, [line for line in said if not any(words in line for words in harmless)])

    # what Home Assistant shows

    def of(self, battery):
        prefix = battery + "_"
        ours = self.core.entities().items()
        return {name[len(prefix) :]: e for name, e in ours if name.startswith(prefix)}

    def wrong_values(self, battery, entities=None, skip=()):
        """Entities without a value."""
        entities = self.of(battery) if entities is None else entities
        shown = {k: e for k, e in entities.items() if e["enabled"] and k not in skip}
        bad = {k: e for k, e in shown.items() if not e["available"] or e["restored"]}
        always = {k: e for k, e in shown.items() if k not in expected.AT_TIMES}
        bad |= {k: e for k, e in always.items() if e["state"] in (None, "unknown")}
        return [f"{e['entity_id']} is {e['state']}" for e in bad.values()] or (
            [] if len(shown) > len(expected.OF_THE_LINK) else [f"{battery} has no entities"]
        )

    def missing_values(self):
        return [fault for name in IDS for fault in self.wrong_values(name)]

    def as_expected(self, battery, enabled_by_hand=False, wanted=expected.PACK):
        entities = self.of(battery)
        faults = expected.faults_in_set(set(entities), wanted)
        for key, entity in entities.items():
            if expected.row(key):
                faults += expected.faults(key, entity, enabled_by_hand)
        return faults or self.wrong_values(battery, entities)

    def everything_as_expected(self, enabled_by_hand=False):
        return [fault for name in IDS for fault in self.as_expected(name, enabled_by_hand)]

    def stop_reader(self):
        status = self.reader.process.stop(2)
        self.verdict(
            "the reader stopped within 2 s with status 0",
            [] if status == 0 else [f"status {status}"],
        )

    def still_available(self):
        """Entities that claim to be there although nobody can know."""
        return [
            f"{entity['entity_id']} is {entity['state']}"
            for entity in self.core.entities().values()
            if entity["enabled"] and entity["available"]
        ]

    def ids(self):
        return {unique: e["entity_id"] for unique, e in self.core.entities().items()}

    def announced_by(self, form):
        """Entities whose announcement Home Assistant has not from the topics of that format."""
        topics = self.core.discovery_topics()
        enabled = {e["entity_id"] for e in self.core.entities().values() if e["enabled"]}
        one = [f"homeassistant/device/{name}/config" for name in IDS]
        return [f"{name} has no announcement" for name in enabled - set(topics)] + [
            f"{name} comes from {topic}"
            for name, topic in topics.items()
            if (topic in one) != (form == "device")
        ]

    def leftovers(self, form):
        """Announcements that the broker keeps beside those of the format."""
        kept = self.broker.retained("homeassistant/#")
        one = {f"homeassistant/device/{name}/config" for name in IDS}
        wrong = set(kept) - one if form == "device" else set(kept) & one
        missing = (one - set(kept)) if form == "device" else set()
        return [f"kept: {t}" for t in sorted(wrong)] + [f"missing: {t}" for t in sorted(missing)]

    # the steps

    def begin(self):
        self.broker.start()
        for battery in self.batteries:
            battery.start()
        begin = time.monotonic()
        self.core.start()
        took = time.monotonic() - begin
        print(f"home-assistant: {self.core.version()} runs after {took:.0f} s")
        self.reader.start()

    def first_sight(self):
        self.within(
            SOON, "entity format: every entity is as it must be", self.everything_as_expected
        )
        self.verdict("every entity is in the registry", self.core.without_unique_id())
        devices = self.core.devices()
        self.verdict(
            "one device for each battery, with its make",
            [f"no device {n}" for n in IDS if f"bms_reader_{n}" not in devices]
            + [
                f"{n} without name or make"
                for n, d in devices.items()
                if not (d["name"] and d["manufacturer"])
            ],
        )
        self.verdict("announced by one topic for each entity", self.announced_by("entity"))
        self.verdict("values are what the broker has", self.differing_values())
        self.nothing_complained("Home Assistant did not complain about the entity format")

    def differing_values(self):
        """Steady values only: moving ones may move between the two looks."""
        kept = self.broker.retained(f"bms/{IDS[0]}/#")
        entities = self.of(IDS[0])
        keys = ("soh", "full_capacity", "cycle_count", "charging_enabled", "discharging_enabled")
        faults = []
        for key in keys:
            told, shown = kept.get(f"bms/{IDS[0]}/{key}"), entities[key]["state"]
            same = (
                shown == told.lower()
                if told in ("ON", "OFF")
                else told and float(shown) == float(told)
            )
            faults += [] if same else [f"{key}: {shown} shown, {told} sent"]
        return faults

    def change_by_hand(self):
        """A new entity id, and every hidden entity switched on."""
        entities = self.of(IDS[0])
        self.core.change_entity(entities["soc"]["entity_id"], new_entity_id=RENAMED)
        for entity in self.core.entities().values():
            if not entity["enabled"]:
                self.core.change_entity(entity["entity_id"], disabled_by=None)

    def change_format(self, form):
        before = self.ids()
        self.stop_reader()
        self.reader.start(MQTT_DISCOVERY=form)
        self.within(
            SOON,
            f"{form} format: every entity is as it must be, hidden ones as well",
            lambda: self.everything_as_expected(enabled_by_hand=True),
        )
        self.within(SOON, f"the broker keeps the {form} format only", lambda: self.leftovers(form))
        self.verdict(f"Home Assistant follows the {form} format", self.announced_by(form))
        after = self.ids()
        self.verdict(
            f"to the {form} format every entity kept its id",
            [
                f"{unique}: {name} became {after.get(unique)}"
                for unique, name in before.items()
                if after.get(unique) != name
            ]
            + [f"{name} is new" for unique, name in after.items() if unique not in before],
        )
        self.nothing_complained(
            f"Home Assistant did not complain about the change to {form}", core.TOPIC_CLEARED
        )

    def killed(self, form):
        self.reader.process.kill()
        self.within(SOON, "reader killed: everything is unavailable", self.still_available)
        self.reader.start(MQTT_DISCOVERY=form)
        self.within(SOON, "reader back: everything is available", self.missing_values)
        self.nothing_complained("Home Assistant did not complain about that")

    def restart_home_assistant(self):
        before = self.ids()
        self.core.stop()
        self.core.start()
        self.within(
            SOON,
            "Home Assistant restarted: values are back, hidden entities as well",
            lambda: self.everything_as_expected(enabled_by_hand=True),
        )
        self.verdict(
            "every entity kept its id", [u for u, n in before.items() if self.ids().get(u) != n]
        )
        self.nothing_complained("Home Assistant did not complain after its restart")

    def silent_battery(self):
        """The other battery goes on; this one is unavailable and says why."""
        entities = self.of(IDS[1])
        faults = [
            f"{e['entity_id']} is {e['state']}"
            for k, e in entities.items()
            if e["enabled"] and e["available"] and k not in expected.OF_THE_LINK
        ]
        link = {k: entities[k]["state"] for k in ("connection",)}
        faults += [] if link == {"connection": "off"} else [f"connection is {link}"]
        return faults + self.wrong_values(IDS[0])

    def empty_broker(self):
        before = set(self.broker.retained("#"))
        self.broker.process.kill()
        self.broker.start()

        def missing():
            kept = set(self.broker.retained("#"))
            return [f"{topic} is missing" for topic in sorted(before - kept)]

        self.within(
            10, f"broker back and empty: all {len(before)} kept messages are there again", missing
        )
        # Home Assistant itself waits 10 s and more before it connects again.
        self.within(
            PATIENT,
            "everything is available again",
            self.missing_values,
        )
        self.nothing_complained(
            "Home Assistant complained about nothing but the broker", BROKER_GONE
        )

    def goodbye(self):
        self.stop_reader()
        self.within(SOON, "reader stopped: everything is unavailable", self.still_available)
        self.reader.start(MQTT_DISCOVERY="off")
        self.within(
            SOON,
            "discovery off: Home Assistant has no entity of ours any more",
            lambda: sorted(self.ids().values()),
        )
        self.nothing_complained("Home Assistant did not complain about that")
        self.verdict("no repair issue was raised", self.core.repairs())

    def tell(self):
        self.begin()
        self.first_sight()
        self.change_by_hand()
        self.change_format("device")
        self.killed("device")
        silent = self.batteries[1]
        silent.process.stop(5)
        self.within(
            PATIENT,
            "battery silent: its entities are unavailable, the other's are not",
            self.silent_battery,
        )
        silent.start()
        self.restart_home_assistant()
        self.change_format("entity")
        self.empty_broker()
        self.goodbye()
        house.tell(self)
        stack.tell(self)

    def end(self):
        processes = [self.reader.process, *(b.process for b in self.batteries)]
        for process in processes:
            if process:
                process.stop(5)
        self.core.stop()
        if self.broker.process:
            self.broker.process.stop(5)


def main():
    program, hass = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    work = tempfile.mkdtemp(prefix="bms-lab-")
    status, story = 2, Story(program, hass, work)
    try:
        story.tell()
        status = 1 if story.failed else 0
    except BedError as error:
        print(f"FAIL  the test bed: {error}")
    finally:
        story.end()
        if keep := os.environ.get("BMS_LAB_KEEP"):
            with contextlib.suppress(OSError):
                shutil.copytree(work, keep, dirs_exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)
    print(f"home-assistant: {story.passed} passed, {story.failed} failed")
    sys.exit(status)


if __name__ == "__main__":
    main()
