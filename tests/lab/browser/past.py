"""Two days of the past, written into the program's own history file."""

import contextlib
import math
import sqlite3
import time

MINUTE = 60_000
DAY = 1440

# Key, unit, divisor.
SERIES = (
    ("soc", "%", 100),
    ("pack_voltage", "V", 1000),
    ("pack_current", "A", 1000),
    ("power", "W", 10),
    ("min_cell_voltage", "V", 1000),
    ("max_cell_voltage", "V", 1000),
    ("min_temp", "°C", 10),
    ("max_temp", "°C", 10),
)


def minute(number, place):
    """What a house with solar panels does to a battery: mean and half the spread of each series."""
    phase = 1.7 * math.sin(2.4 * place)
    hour = (number / 60 + phase) % 24
    sun = max(0.0, math.sin((hour - 7) / 11 * math.pi)) if 7 < hour < 18 else 0.0
    cloud = 0.75 + 0.25 * math.sin(number / 17 + phase) * math.sin(number / 5)
    supper = 1.6 if 18 <= hour < 21 else 1.0
    net = 1400 * sun * cloud - 330 * supper - 60 * math.sin(number / 7)
    low = 30 + 7 * (place % 4) + 4 * math.sin(number / DAY * math.pi)
    charge = low + (55 - 6 * (place % 5)) * (0.5 - 0.5 * math.cos((hour - 6.5) / 24 * 2 * math.pi))
    if charge > 80 and net > 0:
        net *= max(0.05, (90 - charge) / 10)
    volts = 52.4 + 0.018 * charge + net / 2600
    amps = net / volts
    cell = volts / 16
    spread = 0.006 + (0.02 if charge > 84 else 0.0) + 0.002 * math.sin(number / 90)
    warmth = 20 + 4 * math.sin((hour - 10) / 24 * 2 * math.pi) + abs(amps) / 12
    return (
        (charge, 0),
        (volts, 0.03),
        (amps, 1 + abs(amps) * 0.06),
        (net, 40 + abs(net) * 0.06),
        (cell - spread / 2, 0.002),
        (cell + spread / 2, 0.002),
        (warmth, 0),
        (warmth + 1.4, 0),
    )


def write(file, batteries):
    """Fills the tables, up to a minute ago, with a gap of two hours a day ago.

    `batteries` has for each id what it says now by key; the past leads there."""
    last = int(time.time() * 1000) - 2 * MINUTE
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        for place, (battery, present) in enumerate(batteries.items()):
            # In and out of it so far, in mWh: a year of days with one charge of a few kWh each.
            counters = (
                battery,
                1_204_310_000 + place * 87_550_000,
                1_131_720_000 + place * 81_220_000,
            )
            connection.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", counters)
            numbers = []
            for key, unit, divisor in SERIES:
                name = (battery, key, unit, divisor)
                connection.execute(
                    "INSERT OR IGNORE INTO series (device, key, unit, divisor) VALUES (?, ?, ?, ?)",
                    name,
                )
                find = "SELECT id FROM series WHERE device = ? AND key = ? AND unit = ? AND divisor = ?"
                numbers.append((connection.execute(find, name).fetchone()[0], divisor))
            for ago in range(2 * DAY - 10, -1, -1):
                if DAY + 240 < ago < DAY + 360:
                    continue
                moment = time.localtime((last - ago * MINUTE) / 1000)
                since_midnight = moment.tm_hour * 60 + moment.tm_min
                values = minute(since_midnight + (0 if ago < DAY else DAY), place)
                share = max(0.0, 1 - ago / 240) ** 2
                values = [
                    (mean + share * (present.get(key, mean) - mean), half)
                    for (key, _, _), (mean, half) in zip(SERIES, values, strict=True)
                ]
                rows = (
                    (
                        last - ago * MINUTE,
                        number,
                        *(round((mean + part * half) * divisor) for part in (0, -1, 1)),
                    )
                    for (number, divisor), (mean, half) in zip(numbers, values, strict=True)
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?)", rows
                )
