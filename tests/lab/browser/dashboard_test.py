#!/usr/bin/env python3
"""The dashboard in a real browser.

    dashboard_test.py BMS_READER CHROMIUM FOLDER

Runs the program with simulated batteries and a broker. Prints a verdict for each check and writes
screenshots of every view to FOLDER. Status 0: passed, 1: failed, 2: the test could not be set up.
"""

import contextlib
import json
import sqlite3
import sys
import tempfile
import time

import charts
import languages
import measurements
import outages
import settings
import setup
import switches
import views
from installation import HEALTHY, SOON, Installation
from playwright.sync_api import sync_playwright
from processes import SetupError
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from session import Session

METRICS = (
    "bms_up",
    "bms_soc_percent",
    "bms_cell_voltage_volts",
    "bms_reads",
    "bms_mqtt_connected",
)


def metrics(session):
    end = time.monotonic() + SOON
    # The metrics of a battery appear with its first read.
    while (faults := metrics_faults(session)) and time.monotonic() < end:
        time.sleep(0.2)
    session.report("a strict OpenMetrics parser accepts the metrics", faults)


def metrics_faults(session):
    try:
        parsed = text_string_to_metric_families(session.installation.get("metrics"))
        families = {family.name for family in parsed}
    except ValueError as error:
        return [f"no OpenMetrics: {error}"]
    return [f"{name} is missing" for name in METRICS if name not in families]


def history_file(session):
    """Other programs read the file with the view `history`."""
    query = "SELECT mean, low, high, unit FROM history WHERE device = ? AND key = 'soc'"
    with contextlib.closing(sqlite3.connect(session.installation.history)) as connection:
        rows = connection.execute(query, (HEALTHY,)).fetchall()
    faults = [] if len(rows) > 2000 else [f"{len(rows)} rows"]
    faults += [
        str(row)
        for row in rows
        if not 0 <= row[1] <= row[0] <= row[2] <= 100 or row[3] != "%"
    ][:5]
    session.report("the history file has a view with plain values", faults)


def demo(session):
    """Checks the demo and prints measurements. The pictures of the documents: scripts/screenshots."""
    session.installation.start_demo()
    overview = json.loads(session.installation.get("api/overview"))
    ids = [battery["id"] for battery in overview["batteries"]]
    cards = f"document.querySelectorAll('.card').length === {len(ids)}"
    drawn = (
        f"{cards} && [...document.querySelectorAll('.spark')].every((spark) =>"
        " spark.querySelector('polyline')?.points.length > 200)"
    )
    calm = (
        f"{cards} && !document.querySelector('.card .problems li')"
        " && !document.querySelector('.card .pill:not(.online)')"
    )
    with session.page((1280, 860)) as page:
        # The program loads two days of nine batteries from the file first.
        session.expect("every card shows the last day", page, drawn, 180)
        # The demo simulates a fault every two minutes.
        session.expect("the demo has moments without an alarm", page, calm, 150)
        session.check_page("the demo", page)
        session.screenshot(page, "demo-batteries")
        measurements.rendering(page, "all batteries")
    with session.page((1280, 1100), "dark") as page:
        session.open_view(page, ids[0])
        page.wait_for_selector(".plot .line", state="attached")
        session.check_page("a battery of the demo", page)
        session.screenshot_down_to(page, "demo-battery", page.locator(".plot").nth(1))
        page.get_by_text("48 h").click()
        measurements.rendering(page, "one battery with 48 h of charts")
    measurements.history(session.installation, ids)
    session.check_console("the demo")


def run_all(session):
    metrics(session)
    history_file(session)
    for step in (*views.STEPS, *charts.STEPS, *switches.STEPS, *settings.STEPS):
        step(session)
    session.check_console("using the page")
    languages.languages(session)
    for step in outages.STEPS:
        step(session)
    session.installation.stop_reader()
    for step in setup.STEPS:
        step(session)
    demo(session)


def main(program, chromium, folder):
    with (
        tempfile.TemporaryDirectory(prefix="bms-browser.") as work,
        sync_playwright() as playwright,
    ):
        installation = Installation(program, work)
        try:
            installation.start()
            # A container has no user namespaces for Chromium's sandbox. The browser opens only our page.
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            session = Session(installation, browser, folder)
            run_all(session)
            browser.close()
        except SetupError as error:
            print(f"FAIL  set-up: {error}")
            return 2
        finally:
            installation.stop()
    print(f"browser: {session.passed} passed, {session.failed} failed; screenshots in {folder}")
    return 1 if session.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
