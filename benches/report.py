"""The table of docs/performance.md. Times depend on the machine, so each stands beside a peer of the same run."""
import os
import platform

# Figure, its text, and the goal.
ROWS = [
    ("CPU of a cycle, {changed_topics} topics changed and sent", "{changed_cpu_ms:.2f} ms", "0.20 ms"),
    ("CPU of a cycle of the stand-in, {standin_topics} topics", "{standin_cpu_ms:.2f} ms", ""),
    ("CPU of a cycle in which nothing changed", "{rest_cpu_ms:.2f} ms", "0.06 ms"),
    ("resident memory, one battery and MQTT", "{changed_resident_mb:.1f} MB", "3.5 MB"),
    ("resident memory of the stand-in", "{standin_resident_mb:.1f} MB", ""),
    ("memory of a further battery (210 against 10 on TCP)", "{battery_kb:.0f} kB", "30 kB"),
    ("start of the process to the first value on the broker", "{reader_first_value_ms:.0f} ms", "30 ms"),
    ("the same, stand-in", "{standin_first_value_ms:.0f} ms", ""),
    ("growth of CPU for a read from 10 to 1,000 batteries", "{growth:.2f}, {late_reads} reads late", "1.05, none late"),
    ("read on a paced 9600 line over the time of its bytes", "{paced_daren:.2f}", "1.03"),
    ("three packs on a paced 9600 bus over the time of their bytes", "{paced_bus:.2f}", "1.05"),
    ("SC0500 console at 115200 over the time of its bytes", "{paced_sc0500:.2f}", "1.10"),
    ("JK read decoded", "{decode_jk_us:.2f} µs, {decode_jk_allocations:g} allocations", "2 allocations"),
    ("JK read in aiobmsble, times as long", "{aiobmsble_jk:.0f}", "200"),
    ("JBD read decoded", "{decode_jbd_us:.2f} µs, {decode_jbd_allocations:g} allocations", "2 allocations"),
    ("JBD read in aiobmsble, times as long", "{aiobmsble_jbd:.0f}", "200"),
    ("instructions of a publication, everything changed / nothing", "{changed_instructions} / {rest_instructions}", ""),
    ("allocations of a publication, everything changed / nothing", "{changed_allocations:g} / {rest_allocations:g}", ""),
    ("MQTT of a resting pack with 16 cells, an hour", "{mqtt_packets_hour:.0f} packets, {mqtt_kb_hour:.0f} kB", ""),
    ("the same, share of the packets of batmon-ha", "1/{batmon_share:.0f}", "1/50"),
    ("written by `HISTORY_FILE`, 4 batteries at 10 s, a day", "{history_mb_day:.0f} MB", "10 MB"),
    ("size of the program under test", "{binary_mb:.2f} MB", "6.0 MB (static)"),
]
# With its documented defaults, batmon-ha reads every second and publishes each of about 47 values.
BATMON_PACKETS_HOUR = 47 * 3600

TEXT = """# Performance

Written by `./bench`. All figures are of one run on one machine ({machine}). The CPU time of the same
cycle differed between {windows} windows of that run by a factor of up to {noise:.1f}: compare figures of one
table, not of two.

| figure | measured | goal |
|---|---|---|
{rows}

* A cycle reads a Daren pack with 16 cells on a pseudo-terminal every second. The stand-in is a minimal Python
  program with pyserial and paho-mqtt, which reads and publishes what such programs do
  (`benches/standin.py`). Both run at the same time.
* Instructions and allocations are counted by valgrind and do not depend on the load of the machine.
  `./test` compares them with `benches/counts.json`.
* The packets of batmon-ha are counted from its documented defaults, about 47 topics a second.
"""


def table(figures):
    figures = dict(figures)
    for name in [name for name in figures if name.endswith("_resident_kb")]:
        figures[name.replace("_kb", "_mb")] = figures[name] * 1024 / 1e6
    if "mqtt_bytes_hour" in figures:
        figures["mqtt_kb_hour"] = figures["mqtt_bytes_hour"] / 1e3
        figures["batmon_share"] = BATMON_PACKETS_HOUR / figures["mqtt_packets_hour"]
    rows = []
    for name, text, goal in ROWS:
        try:
            rows.append(f"| {name.format(**figures)} | {text.format(**figures)} | {goal} |")
        except KeyError:
            pass  # The part was not requested, or the peer is not installed.
    noise = max((value for name, value in figures.items() if name.endswith("_cpu_spread")), default=1)
    return TEXT.format(rows="\n".join(rows), noise=noise, windows=figures.get("windows", 0),
                       machine=f"{platform.machine()}, {os.cpu_count()} cores")


def write(figures, output):
    text = table(figures)
    print(text)
    if output:
        with open(output, "w") as file:
            file.write(text)
