#!/usr/bin/env python3
"""Compares the points of a server with the readings that were published over MQTT.

    influx.py influxdb|victoriametrics URL FILE

FILE has a message of a `raw` topic in each line. Every reading must be one point: its time is the second in which the read
ended, or the next one, and its values are the published ones. Every query of the dashboard finds something. INFLUX_USER and INFLUX_PASSWORD are the login of InfluxDB.
"""
import base64
import json
import os
import sys
import urllib.parse
import urllib.request

CELL = {"soc": "battery_soc", "pack_voltage": "total_voltage", "pack_current": "current", "power": "power",
        "cycle_count": "cycle_count", "min_cell": "min_cell", "charging_enabled": "charging_enabled",
        "energy_charged": "energy_charged"}


def fields(status):
    cell = status["cell_info"]
    values = {field: cell.get(key) for field, key in CELL.items()}
    values["cell_1_voltage"], values["cell_16_voltage"] = cell["voltages"][0], cell["voltages"][15]
    values["alarm_cell_overvoltage"] = status["warnings"]["cell_overvoltage"]
    return {field: None if value is None else float(value) for field, value in values.items()}


def published(path):
    """Battery -> readings in their order, as time and values."""
    readings = {}
    for line in open(path):
        raw = json.loads(line)
        assert raw["error"] is None, raw["error"]
        series = readings.setdefault(raw["id"], [])
        reading = (raw["status"]["last_update"], fields(raw["status"]))
        if not series or series[-1][0] != reading[0]:
            series.append(reading)
    return readings


def get(url, path, **parameters):
    login = base64.b64encode(f"{os.environ['INFLUX_USER']}:{os.environ['INFLUX_PASSWORD']}".encode()).decode()
    request = urllib.request.Request(f"{url}{path}?{urllib.parse.urlencode(parameters)}", headers={"Authorization": f"Basic {login}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode()


def influxdb(url, battery, names):
    columns = ", ".join(f'"{name}"' for name in names)
    query = f"""SELECT {columns} FROM "battery" WHERE "id" = '{battery}'"""
    (series,) = json.loads(get(url, "/query", db="bms", epoch="s", q=query))["results"][0]["series"]
    return [(row[0], [None if value is None else float(value) for value in row[1:]]) for row in series["values"]]


def victoriametrics(url, battery, names):
    points = {}
    for column, name in enumerate(names):
        match = f'battery_{name}{{id="{battery}",db="bms"}}'
        for line in get(url, "/api/v1/export", **{"match[]": match}).splitlines():
            series = json.loads(line)
            for time, value in zip(series["timestamps"], series["values"]):
                points.setdefault(time // 1000, [None] * len(names))[column] = float(value)
    return sorted(points.items())


def dashboard_queries():
    """Every query of the dashboard, for all batteries in the last hour."""
    path = os.path.join(os.path.dirname(__file__), "../../docs/grafana-influx.json")
    dashboard = json.load(open(path))
    yield dashboard["templating"]["list"][1]["query"]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["query"].replace("$timeFilter", "time > now() - 1h").replace("$__interval", "5s")
            yield query.replace("$device", "(.*)")


def check_dashboard(url):
    for query in dashboard_queries():
        result = json.loads(get(url, "/query", db="bms", epoch="s", q=query))["results"][0]
        assert result.get("series"), f"{query}: {result}"


def main():
    server, url, path = sys.argv[1:]
    total = 0
    for battery, readings in sorted(published(path).items()):
        names = list(readings[0][1])
        points = {"influxdb": influxdb, "victoriametrics": victoriametrics}[server](url, battery, names)
        # The broker may be connected after the first read.
        points = [point for point in points if point[0] >= int(readings[0][0])]
        assert len(points) == len(readings), f"{battery}: {len(points)} points, {len(readings)} readings"
        for (second, values), (taken, expected) in zip(points, readings):
            assert second - int(taken) in (0, 1), f"{battery}: {second} for {taken}"
            assert values == list(expected.values()), f"{battery} at {taken}: {values} {expected}"
        total += len(points)
    assert total > 30, total
    if server == "influxdb":
        check_dashboard(url)
    print(f"{server}: {total} points of {len(names)} fields equal the readings of MQTT")


main()
