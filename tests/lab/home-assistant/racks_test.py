"""Two batteries through both discovery formats and all kinds of outages."""

from expected_entities import OF_THE_CONNECTION
from home_assistant import TOPIC_CLEARED
from suite import DASHBOARD, LATER, RACKS

# What a user has changed by hand must survive every change of the format.
RENAMED = "sensor.my_own_name"
MAX_ENABLED = 45
DEVICE_TOPICS = {f"homeassistant/device/{name}/config" for name in RACKS}
# Log messages that belong to a lost broker.
BROKER_LOST = (
    "Failed to connect to MQTT server",
    "Disconnected from MQTT server",
    "Error returned from MQTT server",
    "MQTT server disconnected",
    "Error talking to MQTT",
)


def run(suite):
    suite.log_names.append(RENAMED)
    first_discovery(suite)
    change_by_hand(suite)
    change_format(suite, "device")
    kill_reader(suite, "device")
    unplugged = suite.racks[1]
    unplugged.process.stop(5)
    suite.eventually(
        "battery silent: its entities are unavailable, those of the other one are not",
        lambda: silent_rack_faults(suite),
        LATER,
    )
    unplugged.start()
    restart_home_assistant(suite)
    change_format(suite, "entity")
    restart_broker(suite)
    suite.disable_discovery()


# what Home Assistant and the broker have


def discovery_topic_faults(suite, form):
    """Entities that Home Assistant does not have from the topics of this format."""
    topics = suite.home_assistant.discovery_topics()
    entities = suite.home_assistant.entities().values()
    enabled = {entity["entity_id"] for entity in entities if entity["enabled"]}
    return [f"{name} has no discovery topic" for name in enabled - set(topics)] + [
        f"{name} comes from {topic}"
        for name, topic in topics.items()
        if (topic in DEVICE_TOPICS) != (form == "device")
    ]


def retained_topic_faults(suite, form):
    """Discovery topics on the broker that do not belong to this format."""
    retained = set(suite.broker.retained("homeassistant/#"))
    if form == "device":
        wrong, missing = retained - DEVICE_TOPICS, DEVICE_TOPICS - retained
    else:
        wrong, missing = retained & DEVICE_TOPICS, set()
    return [f"retained: {topic}" for topic in sorted(wrong)] + [
        f"missing: {topic}" for topic in sorted(missing)
    ]


def differing_values(suite):
    """Values that differ from those on the broker. Only steady ones are compared."""
    retained = suite.broker.retained(f"bms/{RACKS[0]}/#")
    entities = suite.entities_of(RACKS[0])
    keys = ("soh", "full_capacity", "cycle_count", "charging_enabled", "discharging_enabled")
    faults = []
    for key in keys:
        sent, shown = retained.get(f"bms/{RACKS[0]}/{key}"), entities[key]["state"]
        if sent in ("ON", "OFF"):
            same = shown == sent.lower()
        else:
            same = sent and float(shown) == float(sent)
        faults += [] if same else [f"{key}: {shown} shown, {sent} sent"]
    return faults


def silent_rack_faults(suite):
    """The second battery is unavailable and disconnected, the first one goes on."""
    entities = suite.entities_of(RACKS[1])
    faults = [
        f"{e['entity_id']} is {e['state']}"
        for key, e in entities.items()
        if e["enabled"] and e["available"] and key not in OF_THE_CONNECTION
    ]
    connection = entities["connection"]["state"]
    faults += [] if connection == "off" else [f"connection is {connection}"]
    return faults + suite.value_faults(RACKS[0])


def device_faults(suite):
    devices = suite.home_assistant.devices()
    faults = []
    for name in RACKS:
        device = devices.get(f"bms_reader_{name}", {})
        if not (device.get("name") and device.get("manufacturer")):
            faults.append(f"{name} has no device with name and manufacturer")
        elif device["configuration_url"] != f"{DASHBOARD}/#/{name}":
            faults.append(f"{name} links to {device['configuration_url']}")
    return faults


def enabled_entity_faults(suite):
    """More entities than people look at. Each battery has 16 cells."""
    enabled = {
        name: sum(entity["enabled"] for entity in suite.entities_of(name).values())
        for name in RACKS
    }
    return [f"{name} has {count}" for name, count in enabled.items() if count > MAX_ENABLED]


# steps


def first_discovery(suite):
    suite.eventually("entity format: every entity is as expected", suite.rack_entity_faults)
    suite.report("every entity is in the registry", suite.home_assistant.without_unique_id())
    title = "one device per battery, with name, manufacturer and a link to its page"
    suite.report(title, device_faults(suite))
    suite.report(f"at most {MAX_ENABLED} entities are enabled", enabled_entity_faults(suite))
    suite.report("one discovery topic per entity", discovery_topic_faults(suite, "entity"))
    suite.report("values are equal to those on the broker", differing_values(suite))
    suite.check_log("entity format")


def change_by_hand(suite):
    """Renames an entity and enables every disabled one."""
    home_assistant = suite.home_assistant
    soc = suite.entities_of(RACKS[0])["soc"]["entity_id"]
    home_assistant.change_entity(soc, new_entity_id=RENAMED)
    suite.enable_entities()


def change_format(suite, form):
    before = suite.entity_ids()
    suite.stop_reader()
    suite.reader.start(MQTT_DISCOVERY=form)
    suite.eventually(
        f"{form} format: every entity is as expected, also those enabled by hand",
        lambda: suite.rack_entity_faults(enabled_by_hand=True),
    )
    suite.eventually(
        f"the broker retains the {form} format only", lambda: retained_topic_faults(suite, form)
    )
    faults = discovery_topic_faults(suite, form)
    suite.report(f"Home Assistant uses the {form} format", faults)
    after = suite.entity_ids()
    faults = [
        f"{unique_id}: {name} became {after.get(unique_id)}"
        for unique_id, name in before.items()
        if after.get(unique_id) != name
    ]
    faults += [f"{name} is new" for unique_id, name in after.items() if unique_id not in before]
    suite.report(f"{form} format: every entity keeps its id", faults)
    suite.check_log(f"change to the {form} format", TOPIC_CLEARED)


def kill_reader(suite, form):
    suite.reader.process.kill()
    suite.eventually("reader killed: everything is unavailable", suite.available_entities)
    suite.reader.start(MQTT_DISCOVERY=form)
    suite.eventually("reader back: everything is available", suite.rack_value_faults)
    suite.check_log("reader killed")


def restart_home_assistant(suite):
    before = suite.entity_ids()
    suite.home_assistant.stop()
    suite.home_assistant.start()
    suite.eventually(
        "Home Assistant restarted: values are back, also those enabled by hand",
        lambda: suite.rack_entity_faults(enabled_by_hand=True),
    )
    after = suite.entity_ids()
    faults = [unique_id for unique_id, name in before.items() if after.get(unique_id) != name]
    suite.report("every entity keeps its id", faults)
    suite.check_log("Home Assistant restarted")


def restart_broker(suite):
    before = set(suite.broker.retained("#"))
    suite.broker.process.kill()
    suite.broker.start()

    def missing():
        retained = set(suite.broker.retained("#"))
        return [f"{topic} is missing" for topic in sorted(before - retained)]

    title = f"broker back and empty: all {len(before)} retained messages return"
    suite.eventually(title, missing)
    # Home Assistant waits 10 s and more before it reconnects.
    suite.eventually("everything is available again", suite.rack_value_faults, LATER)
    suite.check_log("broker restarted", BROKER_LOST)
