#!/usr/bin/env python3
"""Many readers on a RabbitMQ cluster of three nodes, of which one is killed and another one loses its network.

    cluster.py BMS_READER CACHE WORK [READERS]

The readers reach the nodes through a load balancer. An observer on node 2, which stays up, checks what they publish.
"""

import collections
import json
import os
import subprocess
import sys
import time

import brokers
from balancer import Balancer
from brokers import Client, PORT, wait_until
from processes import Reader, SetupError

GATEWAY, ADDRESSES = "10.77.0.1", ("10.77.0.11", "10.77.0.12", "10.77.0.13")
WATCHED = ADDRESSES[1]
INTERVAL, REFRESH = 20, 30
# Of Home Assistant, as the discovery messages say for this interval and refresh.
EXPIRY = 120
# From the end of a read to the observer; the machine has two cores. A new connection gets the last reading, too.
LATE = INTERVAL + 10
CUT, HEAL_LIMIT = 40, 30

failed = passed = 0


def report(title, good, detail):
    global failed, passed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok  ' if good else 'FAIL'}  {title}: {detail}", flush=True)


def run(*command):
    subprocess.run(command, check=True)


def network():
    """Each node has a namespace, all of them on one bridge."""
    os.makedirs("/run/netns", exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    for command in ("link add lab type bridge", f"addr add {GATEWAY}/24 dev lab", "link set lab up"):
        run("ip", *command.split())
    for number, address in enumerate(ADDRESSES, 1):
        for command in (
            f"netns add node{number}",
            f"link add cable{number} type veth peer name eth0 netns node{number}",
            f"link set cable{number} master lab up",
            f"-n node{number} addr add {address}/24 dev eth0",
            f"-n node{number} link set eth0 up",
            f"-n node{number} link set lo up",
        ):
            run("ip", *command.split())


def nodes(cache, work):
    trixie = f"{cache}/trixie"
    root = trixie if os.path.exists(f"{trixie}/.done") else ""
    if root:
        brokers.mount_into(root)
    for number, address in enumerate(ADDRESSES, 1):
        prefix = ("ip", "netns", "exec", f"node{number}")
        yield brokers.rabbitmq(work, f"node{number}", root, address, ADDRESSES, prefix)


class Observer:
    """What a subscriber on one node knows about every reader."""

    def __init__(self, host):
        self.client = Client("bms/+/raw", "bms/bridge/+/online", host=host)

    def state(self, since=0.0):
        """Readings as battery to list of (arrival, age), and the last `online` of each program."""
        raws, online = collections.defaultdict(list), {}
        wall = time.time() - time.monotonic()
        for arrival, topic, payload, _ in list(self.client.messages):
            levels = topic.split("/")
            if topic.endswith("/raw"):
                reading = json.loads(payload)
                if arrival >= since and reading["error"] is None:
                    raws[levels[1]].append((arrival, arrival + wall - reading["status"]["last_update"]))
            else:
                online[levels[2].removeprefix("bms-reader-")] = payload == "true"
        return raws, online


def distribution(times, step):
    """Number of events in each step of time."""
    counts = collections.Counter(int(moment / step) for moment in times)
    return ", ".join(f"{slot * step:.4g} s: {counts[slot]}" for slot in sorted(counts))


class Lab:
    def __init__(self, program, cache, work, count):
        self.program, self.work = program, work
        self.ids = [f"r{number:03}" for number in range(count)]
        network()
        self.nodes = list(nodes(cache, work))
        self.balancer = Balancer((GATEWAY, PORT), [(address, PORT) for address in ADDRESSES])

    def start_cluster(self):
        # The first one waits for the others.
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()
        self.balancer.start()
        self.balancer.ready.wait(10)

    def start_readers(self):
        self.readers = []
        for identity in self.ids:
            folder = os.path.join(self.work, identity)
            os.mkdir(folder)
            reader = Reader(self.program, folder, {
                "BMS_OPTIONS_FILE": f"{folder}/none", "BMS_TYPE": "simulated", "DEVICE_ID": identity, "HTTP_LISTEN": "off",
                "MQTT_HOST": GATEWAY, "MQTT_PORT": str(PORT), "READ_INTERVAL": str(INTERVAL), "MQTT_REFRESH": str(REFRESH),
            })
            reader.start()
            self.readers.append(reader)
            time.sleep(0.1)

    def all_live(self, observer, since):
        raws, online = observer.state(since)
        return all(raws.get(identity) and online.get(identity) for identity in self.ids)

    def missing(self, observer, since):
        raws, online = observer.state(since)
        silent = [identity for identity in self.ids if not raws.get(identity)]
        offline = [identity for identity in self.ids if not online.get(identity)]
        return f"; no reading of {silent[:5]}, offline {offline[:5]}" if silent or offline else ""

    def print_recovery(self, observer, since):
        """When the first reading of each reader arrived, and when `online` was wrong."""
        raws, _ = observer.state(since)
        first = [raws[identity][0][0] - since for identity in self.ids if raws.get(identity)]
        print(f"      first readings after {distribution(first, 2)}", flush=True)
        changes = [(arrival - since, payload) for arrival, topic, payload, _ in list(observer.client.messages)
                   if topic.endswith("/online") and arrival >= since]
        for payload, title in ((b"false", "offline"), (b"true", "online")):
            times = [moment for moment, sent in changes if sent in (payload, payload.decode())]
            print(f"      `{title}` after {distribution(times, 2) or 'never'}", flush=True)

    def on_node(self, number):
        return {identity for identity, node in self.balancer.node_of.items() if node[0] == ADDRESSES[number - 1]}

    def reconnects(self, affected, since):
        """Seconds from `since` to the first new connection of each reader."""
        times = {}
        for moment, identity, _ in list(self.balancer.accepted):
            if moment >= since and identity in affected:
                times.setdefault(identity, moment - since)
        return times

    def watch_outage(self, title, number, end, limit, step, observer, since):
        affected = self.on_node(number)
        end()
        wait_until(lambda: len(self.reconnects(affected, since())) == len(affected), limit, 0.5)
        times = sorted(self.reconnects(affected, since()).values())
        report(f"{title}: its readers connect to other nodes", len(times) == len(affected),
               f"{len(times)} of {len(affected)}, {times[0] if times else 0:.2f} to {times[-1] if times else 0:.2f} s")
        print(f"      after {distribution(times, step)}", flush=True)
        most = max(collections.Counter(int(moment / 0.1) for moment in times).values(), default=0)
        report(f"{title}: they do not connect all at once", most <= len(times) * 0.6, f"at most {most} in 0.1 s")

    def kill_node(self, observer):
        moment = [0.0]

        def end():
            moment[0] = time.monotonic()
            self.nodes[0].kill()

        self.watch_outage("node 1 killed", 1, end, 60, 0.1, observer, lambda: moment[0])
        live = wait_until(lambda: self.all_live(observer, moment[0]), INTERVAL + HEAL_LIMIT, 1)
        report("node 1 killed: every reader is live on node 2", live, f"{time.monotonic() - moment[0]:.0f} s after the kill" + self.missing(observer, moment[0]))
        self.nodes[0].start()
        time.sleep(5)

    def cut_node(self, observer):
        moment = [0.0]

        def end():
            moment[0] = time.monotonic()
            run("ip", "link", "set", "cable3", "down")

        self.watch_outage("node 3 cut off", 3, end, CUT, 2, observer, lambda: moment[0])
        time.sleep(max(0.0, moment[0] + CUT - time.monotonic()))
        run("ip", "link", "set", "cable3", "up")
        healed = time.monotonic()
        live = wait_until(lambda: self.all_live(observer, healed), HEAL_LIMIT + INTERVAL, 0.5)
        report("node 3 is back: every reader is live and online on node 2", live and time.monotonic() - healed <= HEAL_LIMIT,
               f"{time.monotonic() - healed:.0f} s after the heal" + self.missing(observer, healed))
        # Wills of the old connections may arrive late.
        time.sleep(HEAL_LIMIT)
        self.print_recovery(observer, healed)
        online = observer.state()[1]
        falls = sum(topic.endswith("/online") and payload == "false" and arrival >= healed
                    for arrival, topic, payload, _ in observer.client.messages)
        report("node 3 is back: every program stays online", all(online.get(identity) for identity in self.ids),
               f"{sum(not online.get(identity) for identity in self.ids)} offline, {falls} late wills")
        with_node3 = Observer(ADDRESSES[2])
        since = time.monotonic()
        live = wait_until(lambda: len(with_node3.state(since)[0]) == len(self.ids), INTERVAL + 15, 1)
        report("node 3 is back: a subscriber there gets every reader", live, f"{len(with_node3.state(since)[0])} readers")
        with_node3.client.close()

    def check_staleness(self, observer):
        raws, _ = observer.state()
        ages = sorted(age for series in raws.values() for _, age in series)
        late = [age for age in ages if age > LATE]
        report("no reading arrives late", not late, f"{len(ages)} readings, oldest {ages[-1]:.1f} s, 99 % below {ages[len(ages) * 99 // 100]:.2f} s")
        gaps = [b[0] - a[0] for series in raws.values() for a, b in zip(series, series[1:])]
        report("no value outlives its expiry in Home Assistant", max(gaps) < EXPIRY, f"longest gap {max(gaps):.0f} s, expiry {EXPIRY} s")
        back = sum(b[1] - a[1] > (b[0] - a[0]) + 0.5 for series in raws.values() for a, b in zip(series, series[1:]))
        report("no older reading follows a newer one", not back, f"{back} of {len(ages)}")

    def figures(self, observer):
        """Memory of a reader, and what the cluster computes in half a minute of quiet."""
        beams = [int(pid) for pid in subprocess.run(["pgrep", "beam"], capture_output=True, text=True).stdout.split()]
        pids = [reader.process.child.pid for reader in self.readers]
        cpu = lambda pids: sum(sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) for pid in pids) / os.sysconf("SC_CLK_TCK")
        sizes = [dict(line.split()[:2] for line in open(f"/proc/{pid}/smaps_rollup") if " kB" in line) for pid in pids]
        mean = lambda key: sum(int(size[key]) for size in sizes) / len(sizes)
        before, begin, sent = (cpu(beams), cpu(pids)), time.monotonic(), self.balancer.sent
        raws = len(observer.client.messages)
        time.sleep(30)
        took = time.monotonic() - begin
        rss = [int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")).split()[1]) for pid in beams]
        print(f"      readers: {mean('Rss:'):.0f} kB resident, {mean('Pss:'):.0f} kB proportional, {(cpu(pids) - before[1]) / took / len(pids) * 3600:.2f} s of processor an hour each", flush=True)
        print(f"      {(self.balancer.sent - sent) / took / 1000:.1f} kB/s to the brokers, {(len(observer.client.messages) - raws) / took:.1f} readings/s; "
              f"{(cpu(beams) - before[0]) / took:.2f} cores and {', '.join(f'{size // 1024} MB' for size in rss)} in the brokers", flush=True)


def main():
    program, cache, work = sys.argv[1:4]
    lab = Lab(program, cache, work, int(sys.argv[4]) if len(sys.argv) > 4 else 200)
    lab.start_cluster()
    observer = Observer(WATCHED)
    begin = time.monotonic()
    lab.start_readers()
    live = wait_until(lambda: lab.all_live(observer, 0.0), 240, 1)
    report("every reader is live and online", live, f"{len(lab.ids)} readers, {time.monotonic() - begin:.0f} s after the first start")
    spread = collections.Counter(node[0] for node in lab.balancer.node_of.values())
    print(f"      {dict(spread)}", flush=True)
    lab.figures(observer)
    lab.kill_node(observer)
    lab.cut_node(observer)
    lab.check_staleness(observer)
    print(f"cluster: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        print(f"FAIL  cluster: {error}", flush=True)
        sys.exit(1)
