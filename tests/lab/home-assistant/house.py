"""The second chapter: a bank of the two batteries, a board with switches, an alarm, and the energy
dashboard. Chapter one has ended with a Home Assistant that knows nothing of us."""

import json
from functools import partial

import core
import expected
from bed import Battery

BANK, BOARD = "house", "garage"
IDS = (BANK, BOARD)
SOON, PATIENT = 30, 90
ALARM = "short_circuit"
# Home Assistant makes the first statistics of an entity at the next full five minutes.
NOT_YET = "statistics_not_defined"
# Key and digits of what a bank adds up.
SUMS = {"pack_current": 2, "power": 1, "remaining_capacity": 2, "full_capacity": 2}


def tell(story):
    chapter = House(story)
    try:
        chapter.tell()
    finally:
        chapter.board.stop()


class House:
    def __init__(self, story):
        self.story, self.core = story, story.core
        self.members = [battery.name for battery in story.batteries]
        self.lost = story.batteries[1]
        self.board = Board(story)
        self.alarms = {}

    def tell(self):
        self.begin()
        self.first_sight()
        self.alarm_starts()
        # A battery is missing after half a minute only; meanwhile there is something to do.
        self.lost.process.stop(5)
        self.energy_dashboard()
        self.press()
        self.member_is_silent()
        self.alarm_ends()
        self.without_control()

    def begin(self):
        story = self.story
        story.reader.process.stop(2)
        self.board.battery.start("--seed", "7")
        devices = json.loads(story.reader.environment["DEVICES"])
        devices.append({"id": BOARD, "type": "daly", "port": self.board.battery.port})
        story.reader.environment |= {
            "DEVICES": json.dumps(devices),
            "BANKS": json.dumps([{"id": BANK, "name": "House bank", "members": self.members}]),
        }
        story.reader.start(MQTT_DISCOVERY="entity", ALLOW_CONTROL="true")

    # what is shown

    def entity(self, device, key):
        return self.story.of(device).get(key, {"entity_id": None, "state": "no entity"})

    def bank_as_expected(self):
        faults = self.story.as_expected(BANK, wanted=expected.BANK) or self.wrong_sums()
        missing = self.entity(BANK, "members_missing")["state"]
        return faults + ([] if missing == "none" else [f"members_missing is {missing}"])

    def wrong_sums(self):
        """Sums that differ from those of the members by more than rounding can do."""
        entities = self.core.entities()
        faults = []
        for key, digits in SUMS.items():
            parts = [entities[f"{name}_{key}"]["state"] for name in self.members]
            told = entities[f"{BANK}_{key}"]["state"]
            try:
                good = abs(float(told) - sum(map(float, parts))) < 1.5 * 10**-digits
            except ValueError:
                good = False
            faults += [] if good else [f"{key} is {told}, those of the members are {parts}"]
        return faults

    def switches(self, wanted):
        """Where a switch, or what the board says of it, is not so."""
        entities = self.story.of(BOARD)
        faults = []
        for key, on in wanted.items():
            for name in (f"{key}_switch", f"{key}_enabled"):
                state = entities.get(name, {}).get("state")
                faults += [] if state == on else [f"{name} is {state}"]
        return faults

    def switch_entities(self):
        ours = self.core.entities().items()
        return sorted(name for name, one in ours if one["component"] == "switch")

    # the steps

    def first_sight(self):
        story = self.story
        story.within(
            SOON, "a bank is one device, its sums are those of its members", self.bank_as_expected
        )
        device = self.core.devices().get(f"bms_reader_{BANK}")
        story.verdict(
            "the bank has its name",
            [] if device and device["name"] == "House bank" else [str(device)],
        )
        story.within(
            SOON,
            "control allowed: a switch for charging and one for discharging, both on",
            lambda: self.switches({"charging": "on", "discharging": "on"}),
        )
        entities = story.of(BOARD)
        faults = [expected.faults(key, entities[key]) for key in expected.SWITCHES & set(entities)]
        story.verdict("the switches are as they must be", sum(faults, []))
        story.verdict(
            "nobody else has switches",
            [name for name in self.switch_entities() if not name.startswith(f"{BOARD}_")],
        )
        story.nothing_complained("Home Assistant did not complain about bank and switches")

    def alarm_starts(self):
        for name in (self.lost.name, BANK):
            self.alarms[name] = self.core.watch(self.entity(name, "alarm")["entity_id"])
        self.lost.process.stop(5)
        self.lost.start("--fault", f"alarm={ALARM}")
        self.story.within(
            SOON,
            "an alarm fires one event, at its battery and at the bank",
            lambda: self.other_events(["started"]),
        )

    def other_events(self, wanted):
        """What else Home Assistant has seen of the alarm's events; unavailable is not one."""
        faults = []
        for name, watched in self.alarms.items():
            # An event's state is its time, which comes again when the entity does.
            events = {}
            for state in self.core.seen(watched):
                if state["state"] not in ("unavailable", "unknown"):
                    about = state["attributes"]
                    events[state["state"]] = (about["event_type"], about["name"], about["battery"])
            told = [events[time] for time in sorted(events)]
            same = told == [(kind, ALARM, self.lost.name) for kind in wanted]
            faults += [] if same else [f"{name}: {told}"]
        return faults

    def energy_dashboard(self):
        """The silent battery is not asked about."""
        known, faults, sources = self.core.statistics(), [], []
        for name in (self.members[0], BOARD, BANK):
            entities = self.story.of(name)
            into = entities["energy_charged"]["entity_id"]
            out = entities["energy_discharged"]["entity_id"]
            for entity in (into, out):
                about = known.get(entity) or {}
                kind = [
                    about.get(f) for f in ("has_sum", "unit_class", "display_unit_of_measurement")
                ]
                faults += [] if kind == [True, "energy", "kWh"] else [f"{entity}: {about}"]
            charge = {"stat_soc": entities["soc"]["entity_id"]}
            ways = {"stat_energy_from": out, "stat_energy_to": into}
            sources.append({"type": "battery", **ways, **charge})
        self.story.verdict("the energy dashboard offers the counters of batteries and bank", faults)
        devices = [{"stat_consumption": source["stat_energy_to"]} for source in sources]
        issues = self.core.energy_issues(energy_sources=sources, device_consumption=devices)
        self.story.verdict(
            "it takes them without an issue",
            [f"{what}: {detail}" for what, detail in issues.items() if what[0] != NOT_YET],
        )

    def press(self):
        story = self.story
        for key, on in (("charging", False), ("charging", True), ("discharging", False)):
            word, other = ("on", "off") if on else ("off", "on")
            self.core.turn(self.entity(BOARD, f"{key}_switch")["entity_id"], on)
            wanted = {key: word, "discharging" if key == "charging" else "charging": "on"}
            story.within(
                SOON, f"{key} turned {word}: the board says so", partial(self.switches, wanted)
            )
            topic = f"bms/{BOARD}/{key}_enabled"
            kept = story.broker.retained(topic).get(topic)
            story.verdict(
                f"the broker keeps {word}, not {other}", [] if kept == word.upper() else [str(kept)]
            )
        story.nothing_complained("Home Assistant did not complain about the switches")

    def member_is_silent(self):
        def faults():
            entities = self.story.of(BANK)
            missing = entities["members_missing"]["state"]
            found = [] if missing == self.lost.name else [f"members_missing is {missing}"]
            for key in (*SUMS, "soc", "status", "min_cell_battery"):
                state = entities[key]["state"]
                found += [] if state == "unknown" else [f"{key} is {state!r}"]
            return found

        story = self.story
        story.within(PATIENT, "a member silent: the bank names it and has no sum any more", faults)
        story.verdict(
            "an alarm of which nothing is heard has not ended", self.other_events(["started"])
        )

    def alarm_ends(self):
        story = self.story
        self.lost.start()
        story.within(SOON, "the member is back: so are the sums", self.bank_as_expected)
        story.within(
            SOON,
            "its alarm is gone: one more event, at the battery and at the bank",
            lambda: self.other_events(["started", "ended"]),
        )
        story.nothing_complained("Home Assistant did not complain about a silent member")

    def without_control(self):
        """The board was left with discharging off: what a new reader finds is the board's word."""
        story = self.story
        for form, allowed in (("entity", False), ("device", True), ("device", False)):
            story.stop_reader()
            story.reader.start(MQTT_DISCOVERY=form, ALLOW_CONTROL=str(allowed).lower())
            word = "allowed" if allowed else "forbidden"
            story.within(
                SOON,
                f"control {word}, {form} format: the switches are {'there' if allowed else 'gone'}",
                partial(self.only_shown, allowed),
            )
            story.nothing_complained(
                "Home Assistant did not complain about that", core.TOPIC_CLEARED
            )
        kept = story.broker.retained("homeassistant/switch/#")
        story.verdict("the broker keeps no switch", sorted(kept))
        story.verdict("no repair issue was raised", self.core.repairs())

    def only_shown(self, allowed):
        present, entities = self.switch_entities(), self.story.of(BOARD)
        shown = {
            key: entities.get(f"{key}_enabled", {}).get("state")
            for key in ("charging", "discharging")
        }
        wanted = sorted(f"{BOARD}_{key}" for key in expected.SWITCHES) if allowed else []
        faults = [] if present == wanted else [f"switches: {present}"]
        if shown != {"charging": "on", "discharging": "off"}:
            faults.append(f"the board says {shown}")
        return faults + self.story.wrong_values(BOARD)


class Board:
    """A battery with switches on a wire."""

    def __init__(self, story):
        self.battery = Battery(story.reader.program, story.broker.work, BOARD, "daly")

    def stop(self):
        if self.battery.process:
            self.battery.process.stop(5)
