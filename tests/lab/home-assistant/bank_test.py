"""A bank of the two batteries, a battery with switches, an alarm, and the energy dashboard."""

import json
import urllib.request
from functools import partial

import expected_entities
from home_assistant import TOPIC_CLEARED
from processes import SimulatedBattery
from suite import LATER, RACKS

BANK, SWITCHED = "house", "garage"
ALARM = "short_circuit"
# Home Assistant creates the first statistics of an entity at the next full five minutes.
NO_STATISTICS_YET = "statistics_not_defined"
# What a bank sums up, with the digits of each value.
SUMS = {"pack_current": 2, "power": 1, "remaining_capacity": 2, "full_capacity": 2}


def run(suite):
    suite.log_names += [BANK, SWITCHED]
    test = BankTest(suite)
    try:
        test.run()
    finally:
        if test.switched.process:
            test.switched.process.stop(5)


class BankTest:
    def __init__(self, suite):
        self.suite, self.home_assistant = suite, suite.home_assistant
        self.unplugged = suite.racks[1]
        self.switched = SimulatedBattery(suite.program, suite.work, SWITCHED, "daly")
        self.alarm_subscriptions = {}

    def run(self):
        self.start_reader()
        self.first_discovery()
        self.start_alarm()
        # The member counts as missing after half a minute, so other steps run meanwhile.
        self.unplugged.process.stop(5)
        self.energy_dashboard()
        self.operate_switches()
        self.missing_member()
        self.end_alarm()
        self.forbid_control()

    def start_reader(self):
        reader = self.suite.reader
        reader.process.stop(2)
        self.switched.start("--seed", "7")
        devices = json.loads(reader.environment["DEVICES"])
        devices.append({"id": SWITCHED, "type": "daly", "port": self.switched.port})
        bank = {"id": BANK, "name": "House bank", "members": RACKS}
        reader.environment |= {"DEVICES": json.dumps(devices), "BANKS": json.dumps([bank])}
        reader.start(MQTT_DISCOVERY="entity", ALLOW_CONTROL="true")

    # what Home Assistant shows

    def entity(self, device, key):
        entities = self.suite.entities_of(device)
        return entities.get(key, {"entity_id": None, "state": "no entity"})

    def bank_faults(self):
        wanted = expected_entities.BANK
        faults = self.suite.entity_faults(BANK, wanted=wanted) or self.sum_faults()
        missing = self.entity(BANK, "members_missing")["state"]
        return faults + ([] if missing == "none" else [f"members_missing is {missing}"])

    def sum_faults(self):
        """Sums that differ from those of the members by more than rounding explains."""
        entities = self.home_assistant.entities()
        faults = []
        for key, digits in SUMS.items():
            parts = [entities[f"{name}_{key}"]["state"] for name in RACKS]
            total = entities[f"{BANK}_{key}"]["state"]
            try:
                close = abs(float(total) - sum(map(float, parts))) < 1.5 * 10**-digits
            except ValueError:
                close = False
            faults += [] if close else [f"{key} is {total}, those of the members are {parts}"]
        return faults

    def switch_faults(self, wanted):
        """Switches and reported states that are not as wanted: `on` or `off` by key."""
        entities = self.suite.entities_of(SWITCHED)
        faults = []
        for key, state in wanted.items():
            for name in (f"{key}_switch", f"{key}_enabled"):
                shown = entities.get(name, {}).get("state")
                faults += [] if shown == state else [f"{name} is {shown}"]
        return faults

    def switch_entities(self):
        entities = self.home_assistant.entities().items()
        return sorted(name for name, entity in entities if entity["component"] == "switch")

    def alarm_event_faults(self, wanted):
        """Events of the alarm at the battery and the bank, compared with these kinds."""
        faults = []
        for name, subscription in self.alarm_subscriptions.items():
            # The state of an event is its time, which repeats after the entity was unavailable.
            events = {}
            for state in self.home_assistant.received_states(subscription):
                if state["state"] not in ("unavailable", "unknown"):
                    attributes = state["attributes"]
                    fields = ("event_type", "name", "battery")
                    events[state["state"]] = tuple(attributes[field] for field in fields)
            found = [events[time] for time in sorted(events)]
            same = found == [(kind, ALARM, self.unplugged.name) for kind in wanted]
            faults += [] if same else [f"{name}: {found}"]
        return faults

    def notification_faults(self, wanted):
        """Titles of the notifications that the blueprint sent, and the words of the alarm in them."""
        # The others are about parts of Home Assistant that are not installed.
        found = [it for it in self.home_assistant.notifications() if "Battery" in it[0]]
        same = [title for title, _ in found] == wanted
        same = same and all("rack2" in message.lower() for _, message in found)
        return [] if same else [str(found)]

    def dashboard_faults(self):
        """Entities of the generated dashboard that Home Assistant does not have, and batteries without a section."""
        url = f"http://{self.suite.reader.environment['HTTP_LISTEN']}/api/homeassistant/dashboard.yaml"
        with urllib.request.urlopen(url, timeout=30) as response:
            config = self.home_assistant.parse_yaml(response.read().decode())
        sections = config["views"][0]["sections"]
        titles = [section["cards"][0]["heading"] for section in sections]
        wanted = ["House bank", "Garage", "Rack1", "Rack2"]
        faults = [] if titles == wanted else [f"sections: {titles}"]
        states = self.home_assistant.entities().values()
        known = {entity["entity_id"] for entity in states if entity["enabled"]}
        # An earlier step renamed this one.
        known.add(f"sensor.{RACKS[0]}_soc")
        shown = set()
        for card in (card for section in sections for card in section["cards"]):
            shown |= {card["entity"]} if "entity" in card else set(card.get("entities", []))
        faults += [] if len(shown) > 40 else [f"{len(shown)} entities"]
        return faults + [f"no entity {name}" for name in sorted(shown - known)]

    # steps

    def first_discovery(self):
        suite = self.suite
        suite.eventually("a bank is one device with the sums of its members", self.bank_faults)
        device = self.home_assistant.devices().get(f"bms_reader_{BANK}")
        named = device and device["name"] == "House bank"
        suite.report("the bank has its name", [] if named else [str(device)])
        suite.eventually(
            "control allowed: switches for charging and discharging, both on",
            lambda: self.switch_faults({"charging": "on", "discharging": "on"}),
        )
        entities = suite.entities_of(SWITCHED)
        switches = expected_entities.SWITCHES & set(entities)
        faults = [expected_entities.faults(key, entities[key]) for key in switches]
        suite.report("the switches are as expected", sum(faults, []))
        others = [n for n in self.switch_entities() if not n.startswith(f"{SWITCHED}_")]
        suite.report("no other device has switches", others)
        suite.report("the generated dashboard names existing entities", self.dashboard_faults())
        suite.check_log("bank and switches")

    def start_alarm(self):
        for name in (self.unplugged.name, BANK):
            entity_id = self.entity(name, "alarm")["entity_id"]
            self.alarm_subscriptions[name] = self.home_assistant.subscribe(entity_id)
        self.unplugged.process.stop(5)
        self.unplugged.start("--fault", f"alarm={ALARM}")
        self.suite.eventually(
            "an alarm fires one event at its battery and one at the bank",
            lambda: self.alarm_event_faults(["started"]),
        )
        self.suite.eventually(
            "the blueprint sends a notification",
            lambda: self.notification_faults(["Battery alarm"]),
        )

    def energy_dashboard(self):
        """The unplugged battery has no values to check."""
        statistics, faults, sources = self.home_assistant.statistics(), [], []
        for name in (RACKS[0], SWITCHED, BANK):
            entities = self.suite.entities_of(name)
            charged = entities["energy_charged"]["entity_id"]
            discharged = entities["energy_discharged"]["entity_id"]
            for entity_id in (charged, discharged):
                row = statistics.get(entity_id) or {}
                fields = ("has_sum", "unit_class", "display_unit_of_measurement")
                kind = [row.get(field) for field in fields]
                faults += [] if kind == [True, "energy", "kWh"] else [f"{entity_id}: {row}"]
            source = {"type": "battery", "stat_soc": entities["soc"]["entity_id"]}
            sources.append({**source, "stat_energy_from": discharged, "stat_energy_to": charged})
        title = "the energy dashboard offers the counters of batteries and bank"
        self.suite.report(title, faults)
        devices = [{"stat_consumption": source["stat_energy_to"]} for source in sources]
        issues = self.home_assistant.energy_issues(
            energy_sources=sources, device_consumption=devices
        )
        faults = [f"{i}: {detail}" for i, detail in issues.items() if i[0] != NO_STATISTICS_YET]
        self.suite.report("the energy dashboard accepts them without an issue", faults)

    def operate_switches(self):
        suite = self.suite
        for key, on in (("charging", False), ("charging", True), ("discharging", False)):
            state = "on" if on else "off"
            other = "discharging" if key == "charging" else "charging"
            self.home_assistant.turn(self.entity(SWITCHED, f"{key}_switch")["entity_id"], on)
            suite.eventually(
                f"{key} turned {state}: the battery confirms it",
                partial(self.switch_faults, {key: state, other: "on"}),
            )
            topic = f"bms/{SWITCHED}/{key}_enabled"
            retained = suite.broker.retained(topic).get(topic)
            faults = [] if retained == state.upper() else [str(retained)]
            suite.report(f"the broker retains {state}", faults)
        suite.check_log("switches operated")

    def missing_member(self):
        def faults():
            entities = self.suite.entities_of(BANK)
            missing = entities["members_missing"]["state"]
            found = [] if missing == self.unplugged.name else [f"members_missing is {missing}"]
            for key in (*SUMS, "soc", "status", "min_cell_battery"):
                state = entities[key]["state"]
                found += [] if state == "unknown" else [f"{key} is {state!r}"]
            return found

        self.suite.eventually("member silent: the bank names it and has no sums", faults, LATER)
        self.suite.report(
            "the alarm of a silent battery has not ended", self.alarm_event_faults(["started"])
        )

    def end_alarm(self):
        self.unplugged.start()
        self.suite.eventually("the member is back, and so are the sums", self.bank_faults)
        self.suite.eventually(
            "the alarm has ended: one more event at the battery and at the bank",
            lambda: self.alarm_event_faults(["started", "ended"]),
        )
        self.suite.eventually(
            "the blueprint sends one more, although the entity was unavailable",
            lambda: self.notification_faults(["Battery alarm", "Battery alarm ended"]),
        )
        self.suite.check_log("silent member")

    def forbid_control(self):
        """Discharging is still off, and every new reader must show what the battery reports."""
        suite = self.suite
        for form, allowed in (("entity", False), ("device", True), ("device", False)):
            suite.stop_reader()
            suite.reader.start(MQTT_DISCOVERY=form, ALLOW_CONTROL=str(allowed).lower())
            control, switches = ("allowed", "there") if allowed else ("forbidden", "gone")
            suite.eventually(
                f"control {control}, {form} format: the switches are {switches}",
                partial(self.control_faults, allowed),
            )
            suite.check_log(f"control {control}, {form} format", TOPIC_CLEARED)
        retained = suite.broker.retained("homeassistant/switch/#")
        suite.report("the broker retains no switch", sorted(retained))
        suite.report("no repair issue", self.home_assistant.repairs())

    def control_faults(self, allowed):
        present, entities = self.switch_entities(), self.suite.entities_of(SWITCHED)
        names = sorted(f"{SWITCHED}_{key}" for key in expected_entities.SWITCHES)
        faults = [] if present == (names if allowed else []) else [f"switches: {present}"]
        states = {
            key: entities.get(f"{key}_enabled", {}).get("state")
            for key in ("charging", "discharging")
        }
        if states != {"charging": "on", "discharging": "off"}:
            faults.append(f"the battery reports {states}")
        return faults + self.suite.value_faults(SWITCHED)
