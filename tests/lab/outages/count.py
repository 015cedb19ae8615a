#!/usr/bin/env python3
"""Counts readings after random outages: each is at the other end once, in order.

    count.py READER FOLDER [--outages N] [--seed N] [--mode true|all|thingsboard]

The truth is the log of simulated batteries, whose replies are numbered. The other ends are a client of Mosquitto and a
server for line protocol.
"""
import argparse
import getpass
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

from batteries import Battery
from network import LineServer, Proxy

NAMES = ("a", "b", "c")
# What is promised: a reading that no output has confirmed is in the file within these seconds, or a tenth of the outage.
KILL_LOSS = 10.0
# A read that ends at the moment of a stop or kill may count or not.
EDGE = 0.3


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Lab:
    def __init__(self, options):
        self.options, self.random = options, random.Random(options.seed)
        self.folder = options.folder
        self.batteries = {name: Battery() for name in NAMES}
        self.broker_port = free_port()
        with open(f"{self.folder}/mosquitto.conf", "w") as config:
            config.write(f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
                         # As another user it could not write into the folder, and a restart would forget the client.
                         f"user {getpass.getuser()}\n"
                         f"persistence_location {self.folder}/\nqueue_qos0_messages true\nmax_queued_messages 0\n"
                         "max_inflight_messages 1000\n")
        self.broker = self.reader = None
        self.start_broker()
        self.proxy, self.server = Proxy(self.broker_port), LineServer()
        self.observed = open(f"{self.folder}/observed", "w+")
        topics = ["-t", "bms/+/history", "-t", "v1/gateway/telemetry", "-t", "bms/+/raw"]
        observer = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.broker_port), "-q", "1", "-c", "-i", "observer", "-F", "%t %p"]
        self.observer = subprocess.Popen(observer + topics, stdout=self.observed, stderr=subprocess.DEVNULL)
        # Times of kills with the time since when something was away, and of clean stops.
        self.kills, self.stops = [], []
        self.away_since = self.last_outage = None
        self.start_reader()

    def start_broker(self):
        command = ["mosquitto", "-c", f"{self.folder}/mosquitto.conf"]
        self.broker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.broker_port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit("Mosquitto does not start")

    def start_reader(self):
        devices = [{"id": name, "type": "jbd", "port": f"tcp://127.0.0.1:{battery.port}"} for name, battery in self.batteries.items()]
        variables = {"DEVICES": json.dumps(devices), "READ_INTERVAL": "1", "HTTP_LISTEN": "off", "MQTT_HOST": "127.0.0.1",
                     "MQTT_PORT": str(self.proxy.port), "MQTT_BACKFILL": self.options.mode, "MQTT_KEEP_ALIVE": "5",
                     "INFLUX_URL": f"http://127.0.0.1:{self.server.port}", "INFLUX_DATABASE": "lab",
                     "HISTORY_FILE": f"{self.folder}/history.db", "BMS_OPTIONS_FILE": f"{self.folder}/none",
                     "LOG_LEVEL": "DEBUG" if self.options.verbose else "INFO"}
        log = open(f"{self.folder}/reader.log", "a")
        self.reader = subprocess.Popen([self.options.reader], env=os.environ | variables, stdout=log, stderr=log)

    def stop_reader(self):
        began = time.time()
        self.reader.send_signal(signal.SIGTERM)
        assert self.reader.wait(10) == 0, "the program does not stop cleanly"
        self.stops.append((began - EDGE, time.time()))

    def kill_reader(self):
        self.reader.kill()
        self.reader.wait()
        # What was missed may not have followed yet.
        recent = self.last_outage and time.time() - self.last_outage[1] < 10
        self.kills.append((self.away_since or (self.last_outage[0] if recent else None), time.time()))

    def outage(self, kind, seconds):
        began = self.away_since = time.time()
        if kind == "broker":
            self.broker.terminate()
            self.broker.wait(10)
            time.sleep(seconds)
            self.start_broker()
        elif kind == "network":
            self.proxy.set(self.random.choice(("cut", "frozen")))
            time.sleep(seconds)
            self.proxy.set("cut")
            self.proxy.set("open")
        elif kind == "server":
            self.server.mode = self.random.choice(("busy", "cut", "lost", "frozen"))
            time.sleep(seconds)
            self.server.mode = "open"
        elif kind == "stop":
            self.stop_reader()
            self.start_reader()
        elif kind == "kill":
            self.away_since = None
            self.kill_reader()
            self.start_reader()
        else:
            # Both ends are away, and the program is stopped or killed meanwhile.
            self.proxy.set("cut")
            self.server.mode = "busy"
            time.sleep(seconds)
            self.stop_reader() if kind == "stop in an outage" else self.kill_reader()
            self.start_reader()
            time.sleep(self.random.uniform(2, 5))
            self.proxy.set("open")
            self.server.mode = "open"
        self.away_since = None
        if kind not in ("stop", "kill"):
            self.last_outage = (began, time.time())

    KINDS = ("broker", "network", "server", "stop", "kill", "stop in an outage", "kill in an outage")

    def run(self):
        time.sleep(6)
        kinds = [self.KINDS[number % len(self.KINDS)] for number in range(self.options.outages)]
        self.random.shuffle(kinds)
        for number, kind in enumerate(kinds, 1):
            long = kind == "kill in an outage"
            seconds = self.random.uniform(14, 20) if long else self.random.uniform(1, 8)
            print(f"{number:3} of {self.options.outages}: {kind}, {seconds:.1f} s", flush=True)
            self.outage(kind, seconds)
            # Sometimes the next one begins before everything has followed.
            time.sleep(self.random.uniform(1, 7))
        time.sleep(12)
        self.stop_reader()
        # The last readings are sent by one more run.
        self.start_reader()
        time.sleep(8)
        self.stop_reader()
        time.sleep(1)

    def end(self):
        for process in (self.reader, self.observer, self.broker):
            if process and process.poll() is None:
                process.kill()

    def is_optional(self, at, is_influx):
        if any(begin <= at <= end for begin, end in self.stops):
            return True
        for away, killed in self.kills:
            # Lines are collected for three seconds; the broker confirms within one.
            loss = max(KILL_LOSS, (killed - away) / 10) if away else (5 if is_influx else 1.5)
            if killed - loss - EDGE <= at <= killed + EDGE:
                return True
        return False

    def compare(self, title, found, is_influx):
        """`found`: battery -> numbers in the order of their arrival."""
        total = lost = 0
        faults = []
        for name, battery in self.batteries.items():
            numbers = found.get(name, [])
            if numbers != sorted(set(numbers)):
                wrong = [pair for pair in zip(numbers, numbers[1:]) if pair[0] >= pair[1]]
                faults.append(f"{name}: not in order: {wrong[:5]}")
            present = set(numbers)
            for number, at in battery.reads:
                if number not in present:
                    if self.is_optional(at, is_influx):
                        lost += 1
                    else:
                        faults.append(f"{name}: reading {number} of {time.strftime('%T', time.localtime(at))} is missing")
            known = {number for number, _ in battery.reads}
            unknown = [number for number in present if number not in known]
            if unknown:
                faults.append(f"{name}: {unknown[:5]} were never sent")
            total += len(present)
        verdict = f"{len(faults)} faults" if faults else "each there once and in order"
        print(f"{title}: {total} readings, {verdict}; {lost} lost or cut off at {len(self.kills)} kills and {len(self.stops)} stops")
        return [f"{title}: {fault}" for fault in faults]

    def check(self):
        self.observed.seek(0)
        history, live, repeats = {}, {}, 0
        seen = {}
        for line in self.observed:
            topic, payload = line.rstrip("\n").split(" ", 1)
            if topic.endswith("/raw"):
                raw = json.loads(payload)
                if raw["error"] is None:
                    live.setdefault(raw["id"], {})[round(raw["status"]["last_update"] * 1000)] = raw["status"]["cell_info"]["cycle_count"]
                continue
            chunks = json.loads(payload)
            chunks = chunks.items() if topic == "v1/gateway/telemetry" else [(topic.split("/")[1], chunks)]
            for name, rows in chunks:
                for row in rows:
                    if seen.setdefault((name, row["ts"]), row) is not row:
                        assert seen[name, row["ts"]] == row, f"two readings at {row['ts']}"
                        repeats += 1
                    else:
                        history.setdefault(name, []).append((row["ts"], int(row["values"]["cycle_count"])))
        faults = []
        if self.options.mode == "true":
            both = sum(ts in live.get(name, {}) for name, rows in history.items() for ts, _ in rows)
            missed = sum(len(rows) for rows in history.values())
            print(f"MQTT: {missed} of the readings came on the history topic, {both} of them live, too")
            for name, rows in history.items():
                if rows != sorted(rows):
                    faults.append(f"{name}: history is not in order")
            union = {name: sorted((live.get(name, {}) | dict(history.get(name, []))).items()) for name in NAMES}
            found = {name: [number for _, number in rows] for name, rows in union.items()}
            # As many as there were outages may be on their way when one begins.
            if both > 6 * self.options.outages:
                faults.append(f"{both} readings came twice")
        else:
            found = {name: [number for _, number in rows] for name, rows in history.items()}
        faults += self.compare(f"MQTT_BACKFILL={self.options.mode}", found, False)
        print(f"MQTT: {repeats} rows came again with the same time and values")
        points, again = {}, 0
        for line in self.server.lines:
            head, fields, second = line.split(" ")
            key = (head.split("id=")[1], int(second))
            if key in points and points[key] == fields:
                again += 1
            elif key in points and not any(0 <= killed - key[1] <= 2 for _, killed in self.kills):
                faults.append(f"Influx: two readings for {key}")
            # A kill forgets the last second of a battery.
            points[key] = fields
        found = {}
        for (name, _), fields in points.items():
            # In the order of their first arrival.
            count = dict(field.split("=") for field in fields.split(","))["cycle_count"]
            found.setdefault(name, []).append(int(float(count)))
        faults += self.compare("Influx", found, True)
        print(f"Influx: {again} lines came again with the same values")
        return faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("reader")
    parser.add_argument("folder")
    parser.add_argument("--outages", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", default="all")
    parser.add_argument("--verbose", action="store_true")
    lab = Lab(parser.parse_args())
    try:
        lab.run()
        faults = lab.check()
    finally:
        lab.end()
    for fault in faults[:20]:
        print(f"FAULT {fault}")
    sys.exit(bool(faults))


main()
