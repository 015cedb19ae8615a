#!/usr/bin/env python3
"""What one battery costs: messages, bytes on the wire, memory and processor time. Figures of docs/scale.md.

    traffic.py BMS_READER WORK SECONDS [VARIABLE=VALUE...]
"""

import os
import sys
import time

import brokers
from balancer import Balancer
from brokers import client
from processes import HOST, Reader, free_port


def usage(pid):
    """Seconds of processor time, and kilobytes: proportional share and private memory."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{pid}/smaps_rollup") as file:
        sizes = dict(line.split()[:2] for line in file if " kB" in line)
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(sizes["Rss:"]), int(sizes["Pss:"]), int(sizes["Private_Dirty:"])


def main():
    program, work, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    variables = dict(argument.split("=", 1) for argument in sys.argv[4:])
    brokers.PORT = free_port()
    broker = brokers.mosquitto(work)
    broker.start()
    proxy = Balancer((HOST, free_port()), [(HOST, brokers.PORT)])
    proxy.start()
    proxy.ready.wait(10)
    environment = {
        "BMS_OPTIONS_FILE": f"{work}/none", "BMS_TYPE": "simulated", "DEVICE_ID": "lab", "HTTP_LISTEN": "off",
        "MQTT_HOST": HOST, "MQTT_PORT": str(proxy.listen[1]), **variables,
    }
    reader = Reader(program, work, environment)
    reader.start()
    time.sleep(20)
    start = proxy.sent, proxy.received, usage(reader.process.child.pid)[0], usage(broker.process.child.pid)[0]
    first = f"start: {start[0]} bytes to the broker, {start[1]} back, in 20 s"
    with client("bms/#") as watcher:
        time.sleep(2)
        watcher.messages.clear()
        begin = time.monotonic()
        before = proxy.sent, proxy.received, usage(reader.process.child.pid)[0], usage(broker.process.child.pid)[0]
        time.sleep(seconds)
        took = time.monotonic() - begin
        cpu, rss, pss, dirty = usage(reader.process.child.pid)
        hour = 3600 / took
        payload = sum(len(message[1]) + len(message[2].encode()) for message in watcher.messages)
        print(first)
        print(f"measured {took:.0f} s; per hour:")
        print(f"  messages {len(watcher.messages) * hour:.0f}, raw {sum(m[1].endswith('/raw') for m in watcher.messages) * hour:.0f}")
        print(f"  topic and payload {payload * hour / 1e6:.2f} MB")
        print(f"  to the broker {(proxy.sent - before[0]) * hour / 1e6:.2f} MB, back {(proxy.received - before[1]) * hour / 1e3:.1f} kB")
        print(f"  processor of the program {(cpu - before[2]) * hour:.2f} s, of the broker {(usage(broker.process.child.pid)[0] - before[3]) * hour:.2f} s")
        print(f"memory: resident {rss} kB, proportional {pss} kB, private dirty {dirty} kB")
    reader.process.stop(5)
    broker.kill()


main()
