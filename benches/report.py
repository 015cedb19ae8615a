"""The table of docs/performance.md. Times depend on the machine, so each stands beside another program of the same
run."""
import os
import platform
from collections import namedtuple

# A figure, its value, what was measured beside it, its goal as text, how many times the goal the value is, and what
# limits it where it misses the goal. Empty for figures without a goal.
Row = namedtuple("Row", "figure value beside goal times limit", defaults=("", "", None, ""))

ROWS = [
    Row("CPU of a cycle, {changed_topics} topics changed and sent", "{changed_cpu_ms:.2f} ms",
        "stand-in with {standin_topics} topics {standin_cpu_ms:.2f} ms; system calls alone {changed_floor_cpu_ms:.2f} ms",
        "0.20 ms", lambda it: it["changed_cpu_ms"] / 0.20,
        "The system calls alone need {changed_floor_cpu_ms:.2f} ms. Deriving, sending and receiving all values takes "
        "{changed_at_once_us:.0f} µs when it is repeated without a pause (the broker included). The rest is mostly code and "
        "data that the caches have lost in the second since the read before."),
    Row("CPU of a cycle in which nothing changed", "{rest_cpu_ms:.2f} ms", "system calls alone {rest_floor_cpu_ms:.2f} ms",
        "0.06 ms", lambda it: it["rest_cpu_ms"] / 0.06,
        "The kernel alone needs {rest_floor_cpu_ms:.2f} ms for a timer, the request, the reply, one write to the broker "
        "and its answer, so 0.06 ms is out of reach on this machine. A cycle wakes the program five times instead of "
        "three: timers of more than 64 ms wake tokio twice, and a terminal reports that it can be written to."),
    Row("resident memory, one battery and MQTT", "{changed_resident_mb:.1f} MB", "stand-in {standin_resident_mb:.1f} MB",
        "3.5 MB", lambda it: it["changed_resident_mb"] / 3.5,
        "{changed_private_mb:.1f} MB are heap and stacks. The rest are pages of the program file that it has executed; "
        "they are shared, and the kernel drops them when memory is short."),
    Row("memory of a further battery (210 against 10 on TCP)", "{battery_kb:.0f} kB", "", "30 kB",
        lambda it: it["battery_kb"] / 30,
        "About 15 kB are its state and what was published, which is kept to send only what changes (`batteries` in "
        "`benches/counts.json`); 10 kB is the task of its line with all that it may have to wait for; the rest are "
        "driver, buffers, and room that the allocator does not use."),
    Row("start of the process to the first value on the broker", "{reader_first_value_ms:.0f} ms",
        "stand-in {standin_first_value_ms:.0f} ms", "30 ms", lambda it: it["reader_first_value_ms"] / 30,
        "The first publication contains the identity of the battery, which takes four more requests with 10 ms pauses, "
        "and follows the discovery messages and the values that the broker has retained. Live values before the identity "
        "left switches behind in Home Assistant and were given up."),
    Row("read on a paced 9600 line over the time of its bytes", "{paced_daren:.2f}", "", "1.03",
        lambda it: it["paced_daren"] / 1.03, "{PACED}"),
    Row("three packs on a paced 9600 bus over the time of their bytes", "{paced_bus:.2f}", "", "1.05",
        lambda it: it["paced_bus"] / 1.05, "{PACED}"),
    Row("SC0500 console at 115200 over the time of its bytes", "{paced_sc0500:.2f}", "", "1.10",
        lambda it: it["paced_sc0500"] / 1.10, "{PACED}"),
    Row("growth of CPU for a read from 10 to 1,000 batteries", "{growth:.2f}", "", "1.05", lambda it: it["growth"] / 1.05,
        "A thousand connections exceed the caches: each read finds its battery in main memory."),
    Row("late reads of 1,000 batteries", "{late_reads}", "", "0", lambda it: 1 + it["late_reads"],
        "The machine was busy with the simulated batteries and the broker, which are Python."),
    Row("JK read decoded", "{decode_jk_us:.2f} µs", "aiobmsble {aiobmsble_jk:.0f} times as long", "1/200",
        lambda it: 200 / it["aiobmsble_jk"], "{DECODE}"),
    Row("JBD read decoded", "{decode_jbd_us:.2f} µs", "aiobmsble {aiobmsble_jbd:.0f} times as long", "1/200",
        lambda it: 200 / it["aiobmsble_jbd"], "{DECODE}"),
    Row("allocations of a JK read", "{decode_jk_allocations:g}", "", "2", lambda it: it["decode_jk_allocations"] / 2,
        "{ALLOCATIONS}"),
    Row("allocations of a JBD read", "{decode_jbd_allocations:g}", "", "2", lambda it: it["decode_jbd_allocations"] / 2,
        "{ALLOCATIONS}"),
    Row("instructions of a publication, everything changed", "{changed_instructions:,}",
        "nothing changed {rest_instructions:,}"),
    Row("allocations of a publication, everything changed", "{changed_allocations:g}", "nothing changed {rest_allocations:g}"),
    Row("MQTT of a resting pack with 16 cells, packets an hour", "{mqtt_packets_hour:.0f} ({mqtt_kb_hour:.0f} kB)",
        "batmon-ha {batmon_packets_hour:,}", "1/50", lambda it: 50 * it["mqtt_packets_hour"] / BATMON_PACKETS_HOUR,
        "Each read is confirmed by the broker, and `raw` is published for each."),
    Row("written by `HISTORY_FILE`, 4 batteries at 10 s, a day", "{history_mb_day:.1f} MB", "", "10 MB",
        lambda it: it["history_mb_day"] / 10,
        "Measured over five minutes, which contain one write. The first one of a new file also creates its tables and indexes. A test counts what a whole day of four batteries writes: 6.6 MB."),
    Row("size of the program under test", "{binary_mb:.2f} MB", "", "6.0 MB", lambda it: it["binary_mb"] / 6,
        "0.76 MB are unwind tables, which let a panic end only its own task, 0.7 MB TLS, 0.6 MB Bluetooth over D-Bus, 0.5 MB "
        "SQLite."),
]
# With its documented defaults, batmon-ha reads every second and publishes each of about 47 values.
BATMON_PACKETS_HOUR = 47 * 3600

# Reasons that hold for several figures.
LIMITS = {
    "PACED": "The pauses before requests, the time that the relay of this measurement wakes up too late for each piece "
    "of 16 bytes, and one publication are in it. A loaded machine delays all of them.",
    "DECODE": "A JK read assembles 16 notifications, adds up 300 bytes and decodes sixty values; half of a JBD read is "
    "allocating and copying. aiobmsble took 107 µs and 75 µs on the machine and the Python of the day the goal was set.",
    "ALLOCATIONS": "A reading owns its cells, temperature sensors, states and alarms, and each request its bytes. Two "
    "allocations need readings that are reused, which sinks that keep the last one prevent.",
}

TEXT = """# Performance

Written by `./bench` ({minutes:.0f} minutes). All figures are of one run on one machine ({machine}, load average {load:.1f}).
The CPU time of the same cycle differed between {windows} windows of that run by a factor of up to {noise:.1f}, so compare
figures of one table, not of two.

| figure | measured | beside it, in the same run | goal | |
|---|---|---|---|---|
{rows}

* A cycle reads a Daren pack with 16 cells on a pseudo-terminal every second. The stand-in is a minimal Python
  program with pyserial and paho-mqtt, which reads and publishes what such programs do
  (`benches/standin.py`). *System calls alone* is a loop that sleeps, sends the request, receives the reply and
  writes as many bytes to the broker, and computes nothing (`benches/floor.rs`). All run at the same time.
* A cycle of a second finds little of its code and data in the caches, so its time depends on what else the machine
  does. Instructions and allocations do not: valgrind counts them, and `./test` compares them with
  `benches/counts.json`.
* The packets of batmon-ha are counted from its documented defaults, about 47 topics a second.
* `cargo build --release` from nothing took 192 s on such a machine, measured apart from this run: 353 s of CPU time, so both
  cores were busy for 92 % of it. The goal is 100 s.
* `./test` from nothing took 521 s, of which 352 s were the tests; since then those that wait longest begin first, and the tests took
  247 s, so about 415 s. It needed 724 s of CPU time, so two cores need at least 362 s; the goal is 240 s. A third of it compiles
  the libraries, a third the program and its tests while clippy checks them, and a third runs them. Before, clippy needed every
  library a second time, and `./test` 787 s (1,305 s of CPU time).
"""


def explained(rows, figures):
    """What limits the figures that miss their goal."""
    reasons = {}
    for row in rows:
        if row.times and row.times(figures) > 1 and row.limit:
            reasons.setdefault(row.limit.format(**LIMITS, **figures), []).append(row.figure.format(**figures))
    if not reasons:
        return ""
    items = (f"* **{'; '.join(names)}**: {reason}" for reason, names in reasons.items())
    return "\n## What limits the figures that miss their goal\n\n" + "\n".join(items) + "\n"


def complete(figures):
    """The figures with those that follow from them."""
    figures = dict(figures, batmon_packets_hour=BATMON_PACKETS_HOUR)
    for name in [name for name in figures if name.endswith(("_resident_kb", "_private_kb"))]:
        figures[name.replace("_kb", "_mb")] = figures[name] * 1024 / 1e6
    if "mqtt_bytes_hour" in figures:
        figures["mqtt_kb_hour"] = figures["mqtt_bytes_hour"] / 1e3
    return figures


def cells(row, figures):
    verdict = ""
    if row.times:
        times = row.times(figures)
        verdict = "met" if times <= 1 else f"{times:.1f} times the goal" if times > 1.05 else "nearly met"
    try:
        beside = row.beside.format(**figures)
    except KeyError:
        beside = ""  # The peer is not installed.
    return row.figure.format(**figures), row.value.format(**figures), beside, row.goal, verdict


def write(figures, output):
    figures = complete(figures)
    rows, lines = [], []
    for row in ROWS:
        try:
            lines.append("| " + " | ".join(cells(row, figures)) + " |")
            rows.append(row)
        except KeyError:
            pass  # The part was not requested.
    noise = max((value for name, value in figures.items() if name.endswith("_cpu_spread")), default=1)
    text = TEXT.format(rows="\n".join(lines), noise=noise, windows=figures["windows"], minutes=figures["seconds"] / 60,
                       load=figures["load"], machine=f"{platform.machine()}, {os.cpu_count()} cores") + explained(rows, figures)
    print(text)
    if output:
        with open(output, "w") as file:
            file.write(text)
