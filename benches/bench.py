"""Measures the program beside others, prints a table and writes docs/performance.md. See CONTRIBUTING.md; ./bench
builds what this needs and calls it."""
import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import tempfile

import counts
import report
from broker import Broker
from packs import CHANGING, RESTING, PacedLine, on_tcp, on_terminal
from process import start, until

HERE = os.path.dirname(os.path.abspath(__file__))
# Windows of a comparison; their spread is the noise of the machine.
WINDOWS, WINDOW = 5, 6.0
# A read is late when so many intervals have passed since the one before.
LATE = 1.2
# After this time the announcements are sent and the identity is known.
SETTLE = 8.0


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.figures = arguments, folder, {}

    def record(self, **figures):
        self.figures.update(figures)
        for name, value in figures.items():
            print(f"{name} {value}", flush=True)

    async def reader(self, broker, **variables):
        defaults = {"HTTP_LISTEN": "off", "READ_INTERVAL": 1, "MQTT_HOST": "127.0.0.1", "MQTT_PORT": broker.port}
        return await start([self.arguments.reader], self.folder, **{**defaults, **variables})

    async def standin(self, broker, path):
        command = [self.arguments.standin_python, os.path.join(HERE, "standin.py")]
        return await start(command, self.folder, MQTT_HOST="127.0.0.1", MQTT_PORT=broker.port, BMS_PORT=path,
                           READ_INTERVAL=1, DEVICE_ID="pack")

    async def floor(self, broker, path, size):
        return await start([self.arguments.floor, path, str(broker.port), str(size)], self.folder)

    async def begin(self, name, frames, launch):
        """A pack with a broker and the process that reads it, which `launch` starts."""
        (pack, path), broker = on_terminal(frames), await Broker().listen()
        process = await launch(broker, path)
        await until(lambda: broker.first_value, 30, f"the first value of {name}")
        broker.reset()
        return name, pack, broker, process

    async def side_by_side(self):
        """CPU of a cycle and memory: everything changed, nothing changed, the stand-in, and for each of the two the
        system calls alone, at the same time."""
        reader = lambda publish: lambda broker, path: self.reader(
            broker, BMS_TYPE="daren", BMS_PORT=path, DEVICE_ID="pack", MQTT_PUBLISH=publish)
        runs = [await self.begin("changed", CHANGING, reader("all")), await self.begin("rest", RESTING, reader("changes"))]
        if self.arguments.standin_python:
            runs.append(await self.begin("standin", CHANGING, self.standin))
        await asyncio.sleep(SETTLE)
        before = [(broker.reset(), pack.reads)[1] for _, pack, broker, _ in runs[:2]]
        await asyncio.sleep(4)
        for (name, pack, broker, _), reads in zip(runs[:2], before):
            # The broker also counts its own answers, which are few.
            size = broker.bytes // (pack.reads - reads)
            launch = lambda broker, path, size=size: self.floor(broker, path, size)
            runs.append(await self.begin(f"{name}_floor", RESTING, launch))
        await asyncio.sleep(2)
        cycles = {name: [] for name, *_ in runs}
        for _ in range(WINDOWS):
            before = [(broker.reset(), process.cpu(), pack.reads) for _, pack, broker, process in runs]
            await asyncio.sleep(WINDOW)
            for (name, pack, broker, process), (_, cpu, reads) in zip(runs, before):
                cycles[name].append(1e3 * (process.cpu() - cpu) / (pack.reads - reads))
                self.figures[f"{name}_topics"] = round(broker.messages / (pack.reads - reads))
        for name, _, _, process in runs:
            self.record(**{f"{name}_cpu_ms": statistics.median(cycles[name]),
                           f"{name}_cpu_spread": max(cycles[name]) / min(cycles[name]),
                           f"{name}_resident_kb": process.resident(), f"{name}_private_kb": process.private()})
            await process.stop()

    async def first_value(self):
        """Time from the start of the process to the first value on the broker, the shortest of five."""
        for name in ("reader", "standin") if self.arguments.standin_python else ("reader",):
            times = []
            for _ in range(5):
                (_, path), broker = on_terminal(CHANGING), await Broker().listen()
                began = asyncio.get_running_loop().time()
                process = await (self.standin(broker, path) if name == "standin" else
                                 self.reader(broker, BMS_TYPE="daren", BMS_PORT=path, DEVICE_ID="pack"))
                await until(lambda: broker.first_value, 30, "the first value")
                times.append(1e3 * (broker.first_value - began))
                await process.stop()
            self.record(**{f"{name}_first_value_ms": min(times)})

    async def batteries(self, count, interval, windows):
        """A process with many batteries: memory, CPU of a read, and reads that were missing."""
        packs, port = await on_tcp(CHANGING)
        broker = await Broker().listen()
        devices = [{"id": f"pack{n}", "type": "daren", "port": f"tcp://127.0.{n // 250}.{n % 250 + 1}:{port}"}
                   for n in range(count)]
        process = await self.reader(broker, DEVICES=json.dumps(devices), READ_INTERVAL=interval)
        reads = lambda: sum(pack.reads for pack in packs)
        await until(lambda: len(packs) == count and min(pack.reads for pack in packs) >= 6, 120, f"{count} packs read")
        # The announcements of a thousand batteries are 70,000 messages.
        seen = -1
        while broker.messages - seen > 200 * count * 3 / interval + 200:
            seen = broker.messages
            await asyncio.sleep(3)
        for pack in packs:
            pack.longest_gap = 0.0
        per_read = []
        for _ in range(windows):
            cpu, before = process.cpu(), reads()
            await asyncio.sleep(interval)
            per_read.append(1e3 * (process.cpu() - cpu) / (reads() - before))
        late = sum(pack.longest_gap > LATE * interval for pack in packs)
        resident = process.resident()
        await process.stop()
        return {"cpu_ms": statistics.median(per_read), "resident_kb": resident, "late": late}

    async def growth(self):
        ten, many = await self.batteries(10, 5, 6), await self.batteries(210, 5, 2)
        self.record(battery_kb=(many["resident_kb"] - ten["resident_kb"]) / 200)
        thousand = await self.batteries(1000, 5, 3)
        self.record(read_ms_10=ten["cpu_ms"], read_ms_1000=thousand["cpu_ms"], late_reads=thousand["late"],
                    growth=thousand["cpu_ms"] / ten["cpu_ms"])

    async def paced(self, name, baud, kind, addresses):
        """Time from the first byte of a read to its last MQTT message, over the time that its bytes need, the shortest
        of several reads."""
        link = os.path.join(self.folder, f"paced-{name}")
        simulator = await start([self.arguments.reader, "simulate", "--type", kind, "--address", addresses,
                                 "--port-link", link], self.folder)
        await until(lambda: os.path.exists(link), 10, "the simulator")
        line, broker = PacedLine(link, baud, 1.0), await Broker().listen()
        first = {"type": kind, "port": line.path, "baudrate": baud}
        if kind == "pylontech-sc0500":
            first["barcode"] = self.arguments.barcode
        devices = [{**first, "id": f"pack{address}", "slave_id": int(address)} if kind == "daren" else
                   {**first, "id": "pack"} for address in addresses.split(",")]
        process = await self.reader(broker, DEVICES=json.dumps(devices), READ_INTERVAL=4)
        ratios, seen = [], 0
        loop = asyncio.get_running_loop()
        end = loop.time() + 32
        while len(ratios) < 7 and loop.time() < end:
            await asyncio.sleep(0.05)
            if len(line.cycles) > seen and loop.time() - max(line.last, broker.last_publish or 0) > 1.0:
                seen = len(line.cycles)
                began, size = line.cycles[-1]
                ratios.append((broker.last_publish - began) / (size * line.byte))
        await process.stop()
        await simulator.stop()
        # The first cycles also read the identity. A busy machine only adds to the others.
        self.record(**{f"paced_{name}": min(ratios[2:])})

    def decode(self):
        """CPU time and allocations of a read from its bytes, beside aiobmsble, and the counts of a publication."""
        def cpu_of(workload, count):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([self.arguments.counts, workload, str(count)], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        def time_of(workload, few, many):
            """Microseconds of one repetition."""
            shortest = lambda count: min(cpu_of(workload, count) for _ in range(5))
            return 1e6 * (shortest(many) - shortest(few)) / (many - few)
        self.record(decode_jk_us=time_of("decode-jk", 1000, 51000), decode_jbd_us=time_of("decode-jbd", 1000, 51000),
                    changed_at_once_us=time_of("publish-changed", 100, 2100),
                    rest_at_once_us=time_of("publish-rest", 100, 2100))
        if self.arguments.aiobmsble_python:
            peer = subprocess.run([self.arguments.aiobmsble_python, os.path.join(HERE, "aiobmsble_decode.py")],
                                  check=True, capture_output=True, text=True)
            times = json.loads(peer.stdout)
            self.record(aiobmsble_jk=times["jk_whole_read"]["min_us"] / self.figures["decode_jk_us"],
                        aiobmsble_jbd=times["jbd_whole_read_basic_and_cells"]["min_us"] / self.figures["decode_jbd_us"])
        counted = counts.measure(self.arguments.counts)
        self.record(decode_jk_allocations=counted["decode-jk"]["allocations"],
                    decode_jbd_allocations=counted["decode-jbd"]["allocations"],
                    changed_instructions=counted["publish-changed"]["instructions"],
                    rest_instructions=counted["publish-rest"]["instructions"],
                    changed_allocations=counted["publish-changed"]["allocations"],
                    rest_allocations=counted["publish-rest"]["allocations"])

    async def slow(self):
        """What needs minutes: traffic of a resting pack, and what the history writes."""
        (_, path), broker = on_terminal(RESTING), await Broker().listen()
        quiet = await self.reader(broker, BMS_TYPE="daren", BMS_PORT=path, DEVICE_ID="pack", READ_INTERVAL=30)
        _, port = await on_tcp(CHANGING)
        other = await Broker().listen()
        devices = [{"id": f"pack{n}", "type": "daren", "port": f"tcp://127.0.0.{n + 1}:{port}"} for n in range(4)]
        history = await self.reader(other, DEVICES=json.dumps(devices), READ_INTERVAL=10,
                                    HISTORY_FILE=os.path.join(self.arguments.disk, "history.db"))
        await asyncio.sleep(20)
        written, period = history.written(), 300
        broker.reset()
        await asyncio.sleep(period)
        self.record(mqtt_packets_hour=broker.packets * 3600 / period, mqtt_bytes_hour=broker.bytes * 3600 / period,
                    history_mb_day=(history.written() - written) * 86400 / period / 1e6)
        await quiet.stop()
        await history.stop()


async def main(arguments):
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench, began = Bench(arguments, folder), asyncio.get_running_loop().time()
        bench.record(windows=WINDOWS, binary_mb=os.path.getsize(arguments.reader) / 1e6)
        parts = {
            "cycle": bench.side_by_side,
            "start": bench.first_value,
            "decode": lambda: asyncio.to_thread(bench.decode),
            "growth": bench.growth,
            "paced": lambda: bench.paced("daren", 9600, "daren", "1"),
            "paced3": lambda: bench.paced("bus", 9600, "daren", "1,2,3"),
            "paced_sc0500": lambda: bench.paced("sc0500", 115200, "pylontech-sc0500", "1"),
        }
        chosen = arguments.parts.split(",") if arguments.parts else [*parts, "slow"]
        slow = asyncio.create_task(bench.slow()) if "slow" in chosen else None
        for name in chosen:
            if name in parts:
                await parts[name]()
        if slow:
            await slow
        bench.record(seconds=asyncio.get_running_loop().time() - began, load=os.getloadavg()[1])
    report.write(bench.figures, arguments.output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", required=True, help="the program under test")
    parser.add_argument("--standin-python", default="", help="a Python with pyserial and paho-mqtt")
    parser.add_argument("--disk", default=HERE, help="a folder on a disk, for the history")
    parser.add_argument("--barcode", default="", help="barcode of the simulated SC0500")
    parser.add_argument("--parts", default="", help="only these parts, separated by commas")
    parser.add_argument("--counts", default="", help="the program of counts.rs")
    parser.add_argument("--floor", default="", help="the program of floor.rs")
    parser.add_argument("--aiobmsble-python", default="", help="a Python with aiobmsble")
    parser.add_argument("--output", help="write the table to this file")
    asyncio.run(main(parser.parse_args()))
