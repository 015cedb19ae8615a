"""What the Home Assistant tests share: the processes, the verdicts, and the questions they ask."""

import os
import sys
import time

import expected_entities
import home_assistant
from processes import HOST, Broker, Reader, SimulatedBattery, free_port, tail

RACKS = ("rack1", "rack2")
DASHBOARD = "http://192.168.1.10:8099"
# A notification for each alarm of the second battery.
AUTOMATION = """
automation:
  - alias: Alarm
    use_blueprint:
      path: bms-reader/alarm-notification.yaml
      input:
        alarms: [event.rack2_alarm]
        do:
          - action: persistent_notification.create
            data: {title: "{{ title }}", message: "{{ message }}"}
"""
# Upper limits in seconds. They only end a failed run early.
SOON, LATER = 90, 180
# Log messages about a slow machine.
SLOW_MACHINE = ("Updating state for", "No ACK from MQTT server in")


class Suite:
    def __init__(self, program, hass, work):
        self.program, self.work = program, work
        self.broker = Broker(work)
        self.racks = [SimulatedBattery(program, work, name) for name in RACKS]
        self.home_assistant = home_assistant.HomeAssistant(hass, work, self.broker, AUTOMATION)
        self.home_assistant.add_blueprint("docs/alarm-notification.yaml")
        self.reader = Reader(program, work, self.environment())
        # Names in log messages that concern our entities.
        self.log_names = list(RACKS)
        self.failed = self.passed = 0
        self.log_position = (None, 0)

    def environment(self):
        devices = ", ".join(
            f'{{"id": "{rack.name}", "type": "daren", "port": "{rack.port}"}}'
            for rack in self.racks
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
            "HTTP_URL": DASHBOARD,
        }

    def start(self):
        self.broker.start()
        for rack in self.racks:
            rack.start()
        begin = time.monotonic()
        self.home_assistant.start()
        version, seconds = self.home_assistant.version(), time.monotonic() - begin
        print(f"home-assistant: {version} is running after {seconds:.0f} s")
        self.reader.start()

    def stop(self):
        for process in (self.reader.process, *(rack.process for rack in self.racks)):
            if process:
                process.stop(5)
        self.home_assistant.stop()
        if self.broker.process:
            self.broker.process.stop(5)

    # verdicts

    def report(self, title, faults):
        """Counts and prints a verdict: passed without faults."""
        if faults:
            self.failed += 1
            print(f"FAIL  {title}")
            for fault in faults[:8]:
                print(f"      | {fault}")
            if len(faults) > 8:
                print(f"      | and {len(faults) - 8} more")
        else:
            self.passed += 1
            print(f"ok    {title}")
        sys.stdout.flush()

    def eventually(self, title, find_faults, limit=SOON):
        """Passes as soon as `find_faults` returns nothing."""
        begin = time.monotonic()
        while True:
            faults = find_faults()
            waited = time.monotonic() - begin
            if not faults or waited > limit:
                if faults and not self.reader.process.is_running():
                    faults.append(f"the reader does not run: {tail(self.reader.log)}")
                self.report(f"{title} ({waited:.1f} s)", faults)
                return
            time.sleep(0.3)

    def check_log(self, title, harmless=()):
        """Passes without complaints in Home Assistant's log since the last call."""
        log = self.home_assistant.logs[-1]
        start = self.log_position[1] if self.log_position[0] == log else 0
        complaints = home_assistant.complaints(log, self.log_names, start)
        self.log_position = (log, os.path.getsize(log))
        harmless = (*harmless, *SLOW_MACHINE)
        faults = [line for line in complaints if not any(text in line for text in harmless)]
        self.report(f"no complaint in the log: {title}", faults)

    def stop_reader(self):
        status = self.reader.process.stop(2)
        faults = [] if status == 0 else [f"status {status}"]
        self.report("the reader stops within 2 s with status 0", faults)

    # what Home Assistant shows

    def entities_of(self, device):
        """The entities of a battery or bank by key."""
        prefix = device + "_"
        entities = self.home_assistant.entities().items()
        return {name[len(prefix) :]: e for name, e in entities if name.startswith(prefix)}

    def value_faults(self, device, entities=None):
        """Enabled entities without a value."""
        entities = self.entities_of(device) if entities is None else entities
        enabled = {key: e for key, e in entities.items() if e["enabled"]}
        if len(enabled) <= len(expected_entities.OF_THE_CONNECTION):
            return [f"{device} has no entities"]
        return [
            f"{e['entity_id']} is {e['state']}"
            for key, e in enabled.items()
            if not e["available"]
            or e["restored"]
            or (key not in expected_entities.INTERMITTENT and e["state"] in (None, "unknown"))
        ]

    def rack_value_faults(self):
        return [fault for name in RACKS for fault in self.value_faults(name)]

    def entity_faults(self, device, enabled_by_hand=False, wanted=expected_entities.PACK):
        """Where the entities of a device differ from what is expected."""
        entities = self.entities_of(device)
        faults = expected_entities.set_faults(set(entities), wanted)
        for key, entity in entities.items():
            if expected_entities.row(key):
                faults += expected_entities.faults(key, entity, enabled_by_hand)
        return faults or self.value_faults(device, entities)

    def rack_entity_faults(self, enabled_by_hand=False):
        return [fault for name in RACKS for fault in self.entity_faults(name, enabled_by_hand)]

    def enable_entities(self):
        """Enables every entity that is disabled by default, as a user would."""
        for entity in self.home_assistant.entities().values():
            if not entity["enabled"]:
                self.home_assistant.change_entity(entity["entity_id"], disabled_by=None)

    def available_entities(self):
        """Entities that are available although the reader does not run."""
        return [
            f"{entity['entity_id']} is {entity['state']}"
            for entity in self.home_assistant.entities().values()
            if entity["enabled"] and entity["available"]
        ]

    def entity_ids(self):
        entities = self.home_assistant.entities().items()
        return {unique_id: entity["entity_id"] for unique_id, entity in entities}

    def disable_discovery(self):
        """Stops the reader and removes every entity."""
        self.stop_reader()
        self.eventually("reader stopped: everything is unavailable", self.available_entities)
        self.reader.start(MQTT_DISCOVERY="off")
        self.eventually(
            "discovery off: no entity is left", lambda: sorted(self.entity_ids().values())
        )
        self.check_log("discovery off")
        self.report("no repair issue", self.home_assistant.repairs())
