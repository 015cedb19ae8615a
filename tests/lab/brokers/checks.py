#!/usr/bin/env python3
"""bms-reader with real brokers. What each of them does must equal the table in docs/brokers.md.

    checks.py BMS_READER CACHE WORK

CACHE is the folder of install.sh. UPDATE_DOCS=1 writes the columns of the brokers that ran into the table.
"""

import json
import os
import sys
import time

import brokers
from brokers import PORT, client
from processes import HOST, Reader, SetupError

DOCUMENT = os.path.join(os.path.dirname(__file__), "../../../docs/brokers.md")
START, END = "<!-- brokers: measured by tests/lab/brokers.sh -->", "<!-- end -->"
BASE, BRIDGE = "bms/lab", "bms/bridge/bms-reader-lab/online"
WILDCARDS = "no retained messages to subscriptions with wildcards"
BLANK = "for the blank in"
# Whatever the broker, these must work.
EVERYWHERE = ("client ID accepted", "live values", "last will after SIGKILL", "command and its result",
              "discovery and values after the birth message", "values again after a restart of the broker")


def reader(program, work, **variables):
    environment = {
        "BMS_OPTIONS_FILE": f"{work}/none", "BMS_TYPE": "simulated", "DEVICE_ID": "lab", "HTTP_LISTEN": "off",
        "MQTT_HOST": HOST, "MQTT_PORT": str(PORT), "READ_INTERVAL": "1", **variables,
    }
    folder = os.path.join(work, variables.get("DEVICE_ID", "lab"))
    os.makedirs(folder, exist_ok=True)
    started = Reader(program, folder, environment)
    started.start()
    return started


def logged(program, text):
    with open(program.log, errors="replace") as file:
        return sum(text in line for line in file)


def is_raw(message):
    return message[1] == f"{BASE}/raw" and json.loads(message[2])["error"] is None


def on(topic, payload=None):
    return lambda message: message[1] == topic and payload in (None, message[2])


def retained(topic_filter, matches):
    with client(topic_filter) as late:
        return bool(late.wait(lambda message: message[3] and matches(message), 4))


def is_config(message):
    return message[1].startswith("homeassistant/") and message[1].endswith("/config") and bool(message[2])


def announced_on_birth():
    with client("homeassistant/#", f"{BASE}/soc") as home_assistant:
        since = time.monotonic()
        home_assistant.publish("homeassistant/status", "online")
        found = [home_assistant.wait(matches, 20, since) for matches in (is_config, on(f"{BASE}/soc"))]
        return all(found)


def answers_command():
    with client(f"{BASE}/cmd/#") as controller:
        controller.publish(f"{BASE}/cmd/config", '{"poll_interval_s": 1}')
        answer = controller.wait(on(f"{BASE}/cmd/config/result"), 10)
        return bool(answer) and json.loads(answer[2])["ok"]


def takes_blanks(program, work):
    """Values under a topic with a blank; otherwise the log has to contain the remedy once."""
    with client("#") as watcher:
        blank = reader(program, work, DEVICE_ID="blank", MQTT_BASE_TOPIC="my bms/{id}")
        found = watcher.wait(lambda message: message[1] == "my bms/blank/soc", 8)
        if not found:
            brokers.wait_until(lambda: logged(blank, BLANK), 10)
        count = logged(blank, BLANK)
        blank.process.stop(5)
    return ("yes" if found else "no, logged" if count == 1 else "no"), blank.log


def restart(broker):
    """Seconds until live values arrive again, from the moment when the broker accepts clients."""
    broker.kill()
    time.sleep(3)
    broker.start()
    accepted = time.monotonic()
    with client(f"{BASE}/raw") as watcher:
        found = watcher.wait(is_raw, 30)
        return found and found[0] - accepted


def check(broker, program, work):
    """Row of the table to its cell."""
    yes = lambda value: "yes" if value else "no"
    rows = {}
    broker.start()
    running = reader(program, work)
    started = time.monotonic()
    with client("bms/#") as watcher:
        rows["live values"] = yes(watcher.wait(is_raw, 20) and watcher.wait(is_raw, 10, time.monotonic()))
        rows["client ID accepted"] = yes(logged(running, "MQTT: connected to") == 1)
        watcher.wait(on(BRIDGE, "true"), 10)
        time.sleep(1)
        rows["retained, exact topic"] = yes(retained(f"{BASE}/soc", on(f"{BASE}/soc")))
        rows["retained, wildcard"] = yes(retained("bms/#", on(f"{BASE}/soc")))
        rows["discovery for a new subscriber"] = yes(retained("homeassistant/#", is_config))
        rows["discovery and values after the birth message"] = yes(announced_on_birth())
        rows["command and its result"] = yes(answers_command())
        rows["topics with blanks"], blanks_log = takes_blanks(program, work)
        # The check of the program takes 15 s.
        time.sleep(max(0.0, started + 18 - time.monotonic()))
        rows["log line about wildcards"] = yes(logged(running, WILDCARDS) == 1)
        since = time.monotonic()
        running.process.kill()
        rows["last will after SIGKILL"] = yes(watcher.wait(on(BRIDGE, "false"), 40, since))
    running = reader(program, work)
    with client(f"{BASE}/raw") as watcher:
        watcher.wait(is_raw, 20)
    seconds = restart(broker)
    rows["values again after a restart of the broker"] = yes(seconds)
    print(f"      {broker.name}: {seconds or 0:.1f} s from the restart to values", flush=True)
    running.process.stop(5)
    broker.kill()
    return rows


def documented():
    """Column to row to cell, and the rows in their order."""
    with open(DOCUMENT) as file:
        table = file.read().split(START)[1].split(END)[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    columns = {title: {} for title in cells[0][1:]}
    for row in cells[2:]:
        for title, cell in zip(columns, row[1:]):
            columns[title][row[0]] = cell
    return columns


def write_table(columns):
    rows = list(next(iter(columns.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [f"| {row} | " + " | ".join(column.get(row, "") for column in columns.values()) + " |" for row in rows]
    with open(DOCUMENT) as file:
        head, rest = file.read().split(START)
    with open(DOCUMENT, "w") as file:
        file.write(head + START + "\n" + "\n".join(lines) + "\n" + END + rest.split(END, 1)[1])


def available(cache, work):
    """Title of the column to the broker."""
    venv, trixie = f"{cache}/venv", f"{cache}/trixie"
    rabbit = lambda root: next(
        name.split("-")[1] for name in os.listdir(f"{root}/usr/lib/rabbitmq/lib") if name.startswith("rabbitmq_server-")
    )
    yield f"Mosquitto {brokers.version('Mosquitto', venv)}", brokers.mosquitto(work)
    yield f"RabbitMQ {rabbit('')}", brokers.rabbitmq(work, "RabbitMQ 3")
    if os.path.exists(f"{trixie}/.done"):
        brokers.mount_into(trixie)
        yield f"RabbitMQ {rabbit(trixie)}", brokers.rabbitmq(work, "RabbitMQ 4", trixie)
    yield f"NATS {brokers.version('NATS', venv)}", brokers.nats(work, venv)
    yield f"amqtt {brokers.version('amqtt', venv)}", brokers.amqtt(work, venv)


def main():
    program, cache, work = sys.argv[1:4]
    only = sys.argv[4:]
    table, failed, passed = documented(), 0, 0
    for title, broker in available(cache, work):
        if only and title.split()[0] not in only:
            continue
        folder = os.path.join(work, title.replace(" ", "-"))
        os.makedirs(folder)
        try:
            rows = check(broker, program, folder)
        except SetupError as error:
            failed += 1
            print(f"FAIL  {title}: {error}", flush=True)
            if broker.process:
                broker.kill()
            continue
        for row, cell in rows.items():
            expected = "yes" if row in EVERYWHERE else table.get(title, {}).get(row)
            good = cell == expected or (os.environ.get("UPDATE_DOCS") and row not in EVERYWHERE)
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok  ' if good else 'FAIL'}  {title}: {row}: {cell}" + ("" if good else f", not {expected}"), flush=True)
        if os.environ.get("UPDATE_DOCS"):
            table[title] = rows
    if os.environ.get("UPDATE_DOCS"):
        write_table(table)
    print(f"brokers: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


main()
