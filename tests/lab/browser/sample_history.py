"""Writes two days of plausible values, and years of energy, into the program's history file."""

import contextlib
import datetime
import json
import math
import sqlite3
import time

MINUTE = 60_000
DAY = 1440
EPOCH = datetime.date(1970, 1, 1)

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
LAYOUT = json.dumps([[key, unit, divisor, 0] for key, unit, divisor in SERIES])


def minute(number, index):
    """Battery `index` of a home with solar panels in this minute of two days.

    Mean and half the spread of each series."""
    phase = 1.7 * math.sin(2.4 * index)
    hour = (number / 60 + phase) % 24
    sun = max(0.0, math.sin((hour - 7) / 11 * math.pi)) if 7 < hour < 18 else 0.0
    cloud = 0.75 + 0.25 * math.sin(number / 17 + phase) * math.sin(number / 5)
    cooking = 1.6 if 18 <= hour < 21 else 1.0
    power = 1400 * sun * cloud - 330 * cooking - 60 * math.sin(number / 7)
    lowest = 30 + 7 * (index % 4) + 4 * math.sin(number / DAY * math.pi)
    daily = 0.5 - 0.5 * math.cos((hour - 6.5) / 24 * 2 * math.pi)
    charge = lowest + (55 - 6 * (index % 5)) * daily
    if charge > 80 and power > 0:
        power *= max(0.05, (90 - charge) / 10)
    volts = 52.4 + 0.018 * charge + power / 2600
    amps = power / volts
    cell = volts / 16
    spread = 0.006 + (0.02 if charge > 84 else 0.0) + 0.002 * math.sin(number / 90)
    temperature = 20 + 4 * math.sin((hour - 10) / 24 * 2 * math.pi) + abs(amps) / 12
    return (
        (charge, 0),
        (volts, 0.03),
        (amps, 1 + abs(amps) * 0.06),
        (power, 40 + abs(power) * 0.06),
        (cell - spread / 2, 0.002),
        (cell + spread / 2, 0.002),
        (temperature, 0),
        (temperature + 1.4, 0),
    )


def write(file, batteries):
    """Fills the tables up to two minutes ago, with a gap of two hours about a day ago.

    `batteries` has the present values by id and key, which the history approaches."""
    last = int(time.time() * 1000) - 2 * MINUTE
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        for index, (battery, present) in enumerate(batteries.items()):
            write_counters(connection, battery, index)
            write_days(connection, battery)
            if battery.startswith("rack"):
                write_health(connection, battery)
            layout = add_layout(connection, battery)
            for ago in range(2 * DAY - 10, -1, -1):
                if DAY + 240 < ago < DAY + 360:
                    continue
                time_ms = last - ago * MINUTE
                row = (time_ms << 16 | layout, json.dumps(samples(time_ms, ago, index, present)))
                connection.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", row)


def write_counters(connection, battery, index):
    # Energy in and out in mWh, as after a year with one charge of a few kWh per day.
    counters = (battery, 1_204_310_000 + index * 87_550_000, 1_131_720_000 + index * 81_220_000)
    connection.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", counters)


def energy_of(day):
    """Energy in and out in mWh on a day since 1970."""
    charged = 4_000_000 + day % 365 * 10_000
    return charged, charged * 95 // 100


def energy_of_year(year):
    """In kWh."""
    start, end = (datetime.date(int(year) + n, 1, 1) for n in (0, 1))
    days = range((start - EPOCH).days, (end - EPOCH).days)
    return [sum(energy_of(day)[way] for day in days) / 1e6 for way in (0, 1)]


def write_days(connection, battery):
    # Six years, so that the year before is complete.
    today = (datetime.date.today() - EPOCH).days
    rows = [(day, battery, *energy_of(day)) for day in range(today - 2190, today)]
    connection.executemany("INSERT OR REPLACE INTO days VALUES (?, ?, ?, ?)", rows)


def write_health(connection, battery):
    """A month in which cell 7 drops by 6 mV more than the other 15 cells, in hours of full, rest and empty."""
    today = (datetime.date.today() - EPOCH).days
    for ago in range(30, 0, -1):
        # Tenths of a millivolt below the others, of which the mean has a sixteenth.
        below = 450 + (30 - ago) * 2 * 16 // 15
        samples = 60
        # Ranked, resistances, balancing, runs, capacity, temperatures, temperature; samples and spreads.
        numbers = [600, 0, 600 * 60, ago % 7 == 1, 97_500 if ago % 7 == 1 else 0]
        numbers += [ago % 7 == 1, 212 if ago % 7 == 1 else 0, *[samples] * 3, *[samples * 60] * 3]
        for cell in range(1, 17):
            deviation = -below * 15 // 16 if cell == 7 else below // 16
            lowest = 540 if cell == 7 else 4
            highest = 300 if cell == 2 else 20
            numbers += [lowest, highest, 120, 0, *[deviation * samples] * 3]
        row = (today - ago, battery, json.dumps([int(number) for number in numbers]))
        connection.execute("INSERT OR REPLACE INTO health VALUES (?, ?, ?)", row)


def write_alarm(file, battery, name):
    """An alarm of yesterday."""
    values = {"pack_voltage": 51.2, "soc": 9.0, "min_cell_voltage": 3.1, "max_cell_voltage": 3.25}
    details = {
        "name": "limit_soc_low",
        "battery": battery,
        "words": f"{name}: charge low, 9 % (limit 10 %)",
        "source": "limit",
        "severity": "warning",
        "values": values,
    }
    start = int(time.time() * 1000) - DAY * MINUTE
    row = (start, battery, details["name"], start + 12 * MINUTE, json.dumps(details))
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO alarms VALUES (?, ?, ?, ?, ?)", row)


def add_layout(connection, battery):
    row = (battery, LAYOUT)
    return connection.execute("INSERT INTO layouts (device, series) VALUES (?, ?)", row).lastrowid


def samples(time_ms, ago, index, present):
    """Mean, and the distance of the minimum and the maximum from it, of each series."""
    local = time.localtime(time_ms / 1000)
    since_midnight = local.tm_hour * 60 + local.tm_min
    values = minute(since_midnight + (0 if ago < DAY else DAY), index)
    # The last four hours move towards the present values.
    weight = max(0.0, 1 - ago / 240) ** 2
    numbers = []
    for (key, _, divisor), (mean, half) in zip(SERIES, values, strict=True):
        mean += weight * (present.get(key, mean) - mean)
        distance = round(half * divisor)
        numbers += [round(mean * divisor), distance, distance]
    return numbers
