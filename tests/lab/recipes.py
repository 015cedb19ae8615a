"""Topics and JSON keys of docs/recipes.md against what the program publishes, and its recipes with real programs.

    recipes.py BMS_READER WORK [NODE_RED_FOLDER]
"""

import json
import os
import re
import subprocess
import sys
import time

from processes import HOST, Broker, Process, Reader, free_port

DOCUMENT = os.path.join(os.path.dirname(__file__), "../../docs/recipes.md")
# Not every battery reports it; the document says so.
OPTIONAL = {"bms/rack1/discharge_current_limit"}
failed = passed = 0


def check(title, good, detail=""):
    global failed, passed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok  ' if good else 'FAIL'}  {title}" + (f": {detail}" if detail and not good else ""), flush=True)


def matches(topic_filter, topic):
    pattern = re.escape(topic_filter).replace(r"\+", "[^/]+").replace("/\\#", "(/.*)?").replace("\\#", ".*")
    return re.fullmatch(pattern, topic)


def jq(expression, payload):
    run = subprocess.run(["jq", "-c", expression], input=payload, capture_output=True, text=True, timeout=10)
    return run.stdout.strip() if run.returncode == 0 else f"status {run.returncode}: {run.stderr}"


def raw_message(broker):
    command = broker.client_command("mosquitto_sub", "-t", "bms/rack1/raw", "-C", "1", "-W", "20")
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def check_document(broker):
    with open(DOCUMENT) as file:
        text = file.read()
    raw = raw_message(broker)
    topics = {*broker.retained("bms/#"), "bms/rack1/raw"}
    named = set(re.findall(r"\bbms/(?:rack1|\+)/[\w+/#]+", text)) - OPTIONAL
    check("the document names topics", len(named) > 8, str(named))
    for topic in sorted(named):
        if "/cmd/" in topic:
            command = broker.client_command("mosquitto_pub", "-t", topic, "-m", "read")
            before = json.loads(raw)["status"]["last_update"]
            subprocess.run(command, check=True)
            check(f"{topic} causes a read", json.loads(raw_message(broker))["status"]["last_update"] > before)
        else:
            check(f"{topic} is published", any(matches(topic, known) for known in topics))
    reading = json.loads(raw)
    for key in sorted(set(re.findall(r"(?<![\w.])cell_info\.(\w+)|\bc\.(\w+)", text))):
        key = key[0] or key[1]
        check(f"raw has {key} of cell_info", isinstance(reading["status"]["cell_info"].get(key), (int, float)))
    lost = json.dumps({**reading, "error": {"type": "timeout"}})
    for expression in re.findall(r"jq: '([^']+)'", text):
        check(f"jq {expression} finds a number", re.fullmatch(r"-?\d+(\.\d+)?", jq(expression, raw)), jq(expression, raw))
        check(f"jq {expression} ignores a failed read", jq(expression, lost) == "", jq(expression, lost))
    for component in {topic.split("/")[1] for topic in broker.retained("homeassistant/#")}:
        check(f"discovery as entity has {component}", component in ("sensor", "binary_sensor", "button", "event", "switch"))


def flow(broker, output):
    """The nodes that the recipe describes, with a file at the end."""
    nodes = [
        {"id": "tab", "type": "tab", "label": "lab"},
        {"id": "broker", "type": "mqtt-broker", "broker": HOST, "port": str(broker.port), "protocolVersion": "4", "autoConnect": True,
         "keepalive": "60", "cleansession": True, "credentials": {"user": broker.USER, "password": broker.PASSWORD}},
        {"id": "output", "z": "tab", "type": "file", "filename": output, "filenameType": "str", "appendNewline": True, "overwriteFile": "false", "wires": [[]]},
        {"id": "good", "z": "tab", "type": "switch", "property": "payload.error", "propertyType": "msg", "rules": [{"t": "null"}], "outputs": 1, "wires": [["power"]]},
        {"id": "power", "z": "tab", "type": "function", "outputs": 1, "wires": [["output"]],
         "func": "return {payload: 'raw ' + typeof msg.payload.status.cell_info.power};"},
        {"id": "plain", "z": "tab", "type": "function", "outputs": 1, "wires": [["output"]],
         "func": "return {payload: msg.topic + ' ' + typeof msg.payload + ' ' + msg.retain};"},
    ]
    for topic, to in (("bms/rack1/raw", "good"), ("bms/rack1/+", "plain")):
        nodes.append({"id": to + "in", "z": "tab", "type": "mqtt in", "topic": topic, "qos": "0", "datatype": "auto-detect",
                      "broker": "broker", "rap": True, "rh": 0, "wires": [[to]]})
    return nodes


def check_node_red(folder, broker, work):
    output = os.path.join(work, "node-red-output")
    settings = "module.exports = {flowFile: 'flows.json', httpAdminRoot: false, httpNodeRoot: false, uiHost: '127.0.0.1', uiPort: %d, " \
        "telemetry: {enabled: false}, externalModules: {autoInstall: false}, credentialSecret: false}" % free_port()
    nodes = flow(broker, output)
    secrets = {node["id"]: node.pop("credentials") for node in nodes if "credentials" in node}
    for name, text in (("settings.js", settings), ("flows.json", json.dumps(nodes)), ("flows_cred.json", json.dumps(secrets))):
        with open(os.path.join(work, name), "w") as file:
            file.write(text)
    argv = ["node", f"{folder}/node_modules/node-red/red.js", "-u", work, "-s", f"{work}/settings.js"]
    process = Process("Node-RED", argv, os.path.join(work, "node-red.log"))
    end, lines = time.monotonic() + 120, []
    while time.monotonic() < end and lines.count("raw number") < 3:
        time.sleep(0.5)
        if os.path.exists(output):
            with open(output) as file:
                lines = file.read().splitlines()
    process.kill()
    check("Node-RED: raw is an object, its power a number", lines.count("raw number") >= 3, str(lines[:5]))
    check("Node-RED: a retained value is a number and marked", "bms/rack1/soc number true" in lines, str(lines[:5]))
    check("Node-RED: a live value is a number", any(line.startswith("bms/rack1/") and line.endswith(" number false") for line in lines))


def main():
    program, work = sys.argv[1:3]
    broker = Broker(work)
    broker.start()
    environment = {
        "BMS_OPTIONS_FILE": f"{work}/none", "BMS_TYPE": "simulated", "DEVICE_ID": "rack1", "HTTP_LISTEN": "off", "READ_INTERVAL": "2",
        "MQTT_HOST": HOST, "MQTT_PORT": str(broker.port), "MQTT_USER": broker.USER, "MQTT_PASSWORD": broker.PASSWORD,
    }
    reader = Reader(program, work, environment)
    reader.start()
    end = time.monotonic() + 20
    while "bms/rack1/soc" not in broker.retained("bms/#") and time.monotonic() < end:
        time.sleep(0.2)
    check_document(broker)
    if len(sys.argv) > 3:
        check_node_red(sys.argv[3], broker, work)
    reader.process.stop(5)
    broker.process.kill()
    print(f"recipes: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


main()
