#!/usr/bin/env python3
"""The dashboard in a real browser, told in steps.

    story.py BMS_READER CHROMIUM FOLDER

Four simulated batteries are read: one that is well, one with an alarm, one that is going to be
lost, one of several modules. The first three are a bank, too. Pictures of every view go to FOLDER. Each step prints its verdict; status 0 when all were
good, 1 when not, 2 when the test bed itself failed.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
import time
import urllib.request

import figures
import past
from bed import HOST, Battery, BedError, Broker, Reader, free_port, tail
from playwright.sync_api import Error, sync_playwright
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from proxy import Proxy

BANK, WELL, ALARMED, LOST, STACK = "bank", "rack_1", "rack_2", "shed", "stack"
# In the order of the page.
NAMES = {
    BANK: "House bank",
    WELL: "Rack 1",
    ALARMED: "Rack 2",
    LOST: "Garden shed",
    STACK: "Stack",
}
MEMBERS = [WELL, ALARMED, LOST]
MAKES = {**dict.fromkeys(MEMBERS, "daren"), STACK: "pylontech-sc0500"}
PHONE, DESK = (360, 740), (1280, 800)
# Upper limits. They only keep a failed run short.
SOON, OFFLINE = 20, 75
LOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "look.js")


def holds(page, condition, limit):
    """Waits for a condition. Not by Playwright's own waiting, which our content policy forbids."""
    end = time.monotonic() + limit
    while True:
        with contextlib.suppress(Error):
            if page.evaluate(condition):
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


class House:
    """The batteries, the broker, the program, and a proxy before it."""

    def __init__(self, program, work):
        self.program, self.work = program, work
        self.broker = Broker(work)
        self.batteries = {name: Battery(program, work, name, make) for name, make in MAKES.items()}
        self.history = os.path.join(work, "history.db")
        self.port = free_port()
        self.proxy = Proxy(self.port)
        self.reader = None

    def environment(self):
        devices = [
            {
                "id": name,
                "name": NAMES[name],
                "type": MAKES[name],
                "port": battery.port,
                "interval": 1,
            }
            for name, battery in self.batteries.items()
        ]
        return {
            "DEVICES": json.dumps(devices),
            "BANKS": json.dumps([{"id": BANK, "name": NAMES[BANK], "members": MEMBERS}]),
            "BMS_TIMEOUT": "1",
            "MQTT_HOST": HOST,
            "MQTT_PORT": str(self.broker.port),
            "MQTT_USER": self.broker.USER,
            "MQTT_PASSWORD": self.broker.PASSWORD,
            "HISTORY_FILE": self.history,
            "HTTP_LISTEN": f"{HOST}:{self.port}",
        }

    def start(self):
        self.broker.start()
        self.batteries[WELL].start("--seed", "3")
        self.batteries[ALARMED].start("--seed", "5", "--fault", "alarm=cell_overvoltage")
        self.batteries[LOST].start("--seed", "9")
        self.batteries[STACK].start()
        self.run(self.environment())
        self.wait_for_file()
        self.give_a_past(lambda: self.run(self.environment()))

    def start_demo(self):
        """What `bms-reader demo` shows, after two days of running."""
        self.history = os.path.join(self.work, "demo.db")
        environment = {
            "HISTORY_FILE": self.history,
            "HTTP_LISTEN": f"{HOST}:{self.port}",
            "MQTT_HOST": HOST,
            "MQTT_PORT": str(self.broker.port),
            "MQTT_USER": self.broker.USER,
            "MQTT_PASSWORD": self.broker.PASSWORD,
        }
        self.run(environment, "demo", "--speed", "1")
        self.wait_for_file()
        self.give_a_past(lambda: self.run(environment, "demo", "--speed", "1"))

    def wait_for_file(self):
        end = time.monotonic() + SOON
        while not self.has_tables():
            if time.monotonic() > end:
                raise BedError(f"no history file: {tail(self.reader.log)}")
            time.sleep(0.1)

    def give_a_past(self, start_again):
        """Stops the program, and starts it with two days in its file."""
        present = {}
        end = time.monotonic() + SOON
        while not (present and all(present.values())):
            if time.monotonic() > end:
                raise BedError(f"not every battery answers: {tail(self.reader.log)}")
            time.sleep(0.2)
            present = {
                battery["id"]: {value["key"]: value["value"] for value in battery["values"]}
                for battery in json.loads(self.ask("api/overview"))["batteries"]
            }
        self.stop_reader()
        past.write(self.history, present)
        start_again()

    def has_tables(self):
        return os.path.exists(self.history) and b"CREATE VIEW history" in self.bytes_of_history()

    def bytes_of_history(self):
        found = b""
        for end in ("", "-wal"):
            with contextlib.suppress(OSError), open(self.history + end, "rb") as file:
                found += file.read()
        return found

    def run(self, environment, *command):
        self.reader = Reader(self.program, self.work, environment)
        self.reader.start(*command)
        self.wait_until_it_serves()

    def wait_until_it_serves(self):
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                return self.ask("healthz")
            time.sleep(0.1)
        raise BedError(f"the program does not serve: {tail(self.reader.log)}")

    def ask(self, path):
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/{path}", timeout=10) as answer:
            return answer.read().decode()

    def stop_reader(self):
        self.reader.process.stop(10)

    def stop(self):
        for battery in self.batteries.values():
            if battery.process:
                battery.process.stop(5)
        for process in (self.reader and self.reader.process, self.broker.process):
            if process:
                process.stop(10)


class Story:
    def __init__(self, house, browser, folder):
        self.house, self.browser, self.folder = house, browser, folder
        self.passed = self.failed = 0
        self.complaints = []
        with open(LOOK) as file:
            self.look = file.read()

    # verdicts

    def verdict(self, what, faults):
        if faults:
            self.failed += 1
        else:
            self.passed += 1
        print(f"{'FAIL ' if faults else 'ok   '} {what}")
        for fault in faults[:8]:
            print(f"      | {fault}")
        sys.stdout.flush()

    def expect(self, what, page, condition, limit=SOON):
        """Waits until a condition, written in JavaScript, holds in the page."""
        if holds(page, condition, limit):
            self.verdict(what, [])
        else:
            text = page.inner_text("body")[:300].replace("\n", " / ")
            self.verdict(what, [f"{condition} never became true", text])

    # pages

    @contextlib.contextmanager
    def page(self, size=DESK, theme="light", url=None, **more):
        width, height = size
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            reduced_motion="reduce",
            **more,
        )
        page = context.new_page()
        page.on("console", lambda message: self.hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(url or self.house.proxy.url)
        try:
            yield page
        finally:
            context.close()

    def hear(self, kind, text):
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def no_complaint(self, what):
        self.verdict(f"{what}: no error in the console", self.complaints)
        self.complaints = []

    def picture(self, page, name, whole=True):
        page.screenshot(path=os.path.join(self.folder, f"{name}.png"), full_page=whole)

    def picture_down_to(self, page, name, last):
        """The page from its top to the panel around `last`."""
        box = last.locator("xpath=ancestor::section").bounding_box()
        clip = {"x": 0, "y": 0, "width": page.viewport_size["width"]}
        clip["height"] = page.evaluate("scrollY") + box["y"] + box["height"] + 8
        path = os.path.join(self.folder, f"{name}.png")
        page.screenshot(path=path, full_page=True, clip=clip)

    def card(self, page, place):
        return page.locator(".card", has=page.get_by_role("link", name=NAMES[place], exact=True))

    def go(self, page, place):
        """To a battery, or to all of them; the view before has gone when this returns."""
        page.evaluate(
            """(hash) => location.hash === hash || new Promise((done) => {
                addEventListener("hashchange", done, { once: true });
                location.hash = hash;
            })""",
            f"#/{place}",
        )
        page.wait_for_selector("#title")

    # steps

    def every_view(self):
        """Both themes, phone and desk: nothing overflows, everything can be read and has a name."""
        for theme in ("light", "dark"):
            for size in (PHONE, DESK):
                with self.page(size, theme) as page:
                    name = f"{size[0]}-{theme}"
                    page.wait_for_selector(".card .spark polyline", state="attached")
                    page.wait_for_selector(".card .worry li")
                    self.verdict(f"all batteries, {name}", page.evaluate(self.look))
                    self.picture(page, f"batteries-{name}")
                    for place in (WELL, ALARMED, BANK, STACK):
                        self.go(page, place)
                        page.wait_for_selector(".plot .line", state="attached")
                        page.locator("summary").first.click()
                        page.locator("summary").last.click()
                        holds(
                            page,
                            "document.querySelector('details pre').textContent.length > 99",
                            SOON,
                        )
                        self.verdict(f"{NAMES[place]}, {name}", page.evaluate(self.look))
                        for summary in page.locator("summary").all():
                            summary.click()
                        self.picture(page, f"{place}-{name}")
        self.no_complaint("every view")
        self.verdict("every link is relative", self.house.proxy.strays)

    def overview(self):
        with self.page() as page:
            page.wait_for_selector(".card .power small")
            state = json.loads(self.house.ask(f"api/devices/{WELL}"))["status"]["cell_info"]
            card = self.card(page, WELL)
            text = card.inner_text()
            faults = []
            for wanted in (f"{int(state['battery_soc'])}\n%", "online", " V", " A", "Δ "):
                if wanted not in text:
                    faults.append(f"{wanted!r} is not in {text!r}")
            volts = float(re.search(r"([\d.]+) V", text)[1])
            if abs(volts - state["total_voltage"]) > 0.5:
                faults.append(f"{volts} V on the card, {state['total_voltage']} V in the JSON")
            self.verdict("a card shows what the battery says", faults)
            wanted = re.compile(r"Cell overvoltage: cell \d+ of Rack 2 at \d\.\d+ V")
            for place in (ALARMED, BANK):
                alarms = self.card(page, place).locator(".worry").inner_text()
                self.verdict(
                    f"an alarm is said in words, {NAMES[place]}",
                    [] if wanted.search(alarms) else [alarms],
                )
            card.get_by_role("link").click()
            self.expect(
                "a card leads to its battery",
                page,
                f"location.hash === '#/{WELL}' && document.activeElement.tagName === 'H1'",
            )
            page.go_back()
            self.expect(
                "back leads back",
                page,
                f"document.querySelectorAll('.card').length === {len(NAMES)}",
            )

    def live(self):
        with self.page() as page:
            self.go(page, WELL)
            reads = "[...document.querySelectorAll('.grid dt')].find((dt) => dt.textContent === 'Good reads').nextSibling.textContent"
            holds(page, reads, SOON)
            before = int(page.evaluate(reads))
            page.locator("summary").last.focus()
            self.expect("values move without a reload", page, f"Number({reads}) > {before + 3}")
            self.expect(
                "the focus stays meanwhile",
                page,
                "document.activeElement.textContent === 'Raw JSON'",
                1,
            )
            self.expect(
                "the title tells the charge", page, "/^\\d.* % · Rack 1/.test(document.title)", 1
            )

    def cells(self):
        with self.page() as page:
            self.go(page, WELL)
            page.wait_for_selector(".cells li")
            told = page.locator(".cells li").evaluate_all(
                "(all) => all.map((li) => li.getAttribute('aria-label'))"
            )
            faults = [] if len(told) == 16 else [f"{len(told)} cells"]
            faults += [label for label in told if not re.match(r"Cell \d+: \d\.\d{3} V", label)]
            for mark in ("lowest", "highest"):
                if sum(mark in label for label in told) != 1:
                    faults.append(f"not exactly one {mark}: {told}")
            widths = page.locator(".cells .bar i").evaluate_all(
                "(all) => all.map((bar) => bar.offsetWidth)"
            )
            volts = [float(re.search(r"[\d.]+ V", label)[0][:-2]) for label in told]
            if widths[volts.index(max(volts))] != max(widths) or min(widths) < 1:
                faults.append(f"bars {widths} for {volts}")
            self.verdict("sixteen cells, the lowest and the highest marked", faults)

    def bank(self):
        with self.page() as page:
            self.go(page, BANK)
            page.wait_for_selector(".panel table th a")
            rows = page.locator("table").first.locator("tr")
            told = [row.inner_text().split("\t") for row in rows.all()]
            faults = (
                [] if [row[0] for row in told] == [NAMES[id] for id in MEMBERS] else [str(told)]
            )
            faults += [
                str(row) for row in told if row[1] != "online" or not re.match(r"\d.* %", row[2])
            ]
            if page.locator(".cells").is_visible():
                faults.append("cells of nobody")
            self.verdict("a bank shows its batteries", faults)
            link = page.get_by_role("link", name=NAMES[WELL])
            link.focus()
            focused = "document.activeElement.textContent"
            self.expect(
                "the focus stays on a battery of the bank",
                page,
                f"performance.now() > {page.evaluate('performance.now()')} + 2500 && {focused} === '{NAMES[WELL]}'",
            )
            page.keyboard.press("Enter")
            self.expect("which leads to it", page, f"location.hash === '#/{WELL}'")

    def modules(self):
        with self.page() as page:
            self.go(page, STACK)
            page.locator("summary").first.click()
            page.wait_for_selector("tr.module")
            parts = page.locator("details tbody").evaluate_all(
                "(all) => all.map((part) => [...part.querySelectorAll('th')].map((th) => th.textContent))"
            )
            faults = [
                f"{name} twice" for part in parts for name in set(part) if part.count(name) > 1
            ]
            headings = [part[0] for part in parts[1:]]
            if len(headings) < 2 or headings != [
                f"Module {number}" for number in range(1, len(headings) + 1)
            ]:
                faults.append(f"headings {headings}")
            self.verdict("the values of a module stand below its name", faults)

    def charts(self):
        with self.page() as page:
            self.go(page, WELL)
            page.wait_for_selector(".plot .line", state="attached")
            chart = page.get_by_role("slider", name="Power")
            chart.focus()
            newest = chart.get_attribute("aria-valuetext")
            page.keyboard.press("Home")
            oldest = chart.get_attribute("aria-valuetext")
            page.keyboard.press("ArrowRight")
            following = chart.get_attribute("aria-valuetext")
            shape = re.compile(r"^\S.* \d\d:\d\d: [−\d]\d* W$")
            faults = [text for text in (newest, oldest, following) if not shape.match(text or "")]
            if len({newest, oldest, following}) != 3:
                faults.append("the arrow keys do not move the cursor")
            self.verdict("arrow keys move the cursor of a chart", faults)
            box = chart.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
            cursor = chart.locator(".cursor")
            readout = chart.locator("xpath=ancestor::section").locator(".keys")
            faults = (
                []
                if cursor.count() == 1 and re.search(r"\d\d:\d\d", readout.inner_text())
                else [readout.inner_text()]
            )
            self.verdict("the pointer moves it, too", faults)
            lines = chart.locator(".line").count()
            self.verdict(
                "a gap in the past is a gap in the line",
                [] if lines == 1 else [f"{lines} pieces in 24 h"],
            )
            page.get_by_text("48 h").click()
            self.expect(
                "48 hours show the gap",
                page,
                "document.querySelectorAll('.plot')[1].querySelectorAll('.line').length === 2",
            )
            self.verdict(
                "six charts", [] if page.locator(".plot svg").count() == 6 else ["other charts"]
            )

    def keyboard(self):
        with self.page() as page:
            page.wait_for_selector(".card h2 a")
            described = "(document.activeElement.getAttribute('aria-label') || document.activeElement.textContent).trim()"
            order = []
            for _ in range(5 + len(NAMES)):
                page.keyboard.press("Tab")
                order.append(page.evaluate(described))
            wanted = [
                "Skip to the content",
                "All batteries",
                "Dark colours",
                *NAMES.values(),
                "JSON",
                "Metrics",
            ]
            self.verdict(
                "tab goes through the page in order", [] if order == wanted else [str(order)]
            )
            page.reload()
            page.wait_for_selector(".card h2 a")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.keyboard.press("Tab")
            first = page.evaluate(described)
            self.verdict(
                "the first link skips to the content", [] if first == NAMES[BANK] else [first]
            )

    def theme(self):
        with self.page(theme="light") as page:
            ground = "getComputedStyle(document.documentElement).backgroundColor"
            light = page.evaluate(ground)
            page.click("#theme")
            dark = page.evaluate(ground)
            page.reload()
            kept = page.evaluate(ground)
            faults = (
                [] if light != dark == kept else [f"{light}, then {dark}, after a reload {kept}"]
            )
            self.verdict("the switch changes the colours and is remembered", faults)

    def lost_battery(self):
        with self.page() as page:
            self.go(page, LOST)
            page.wait_for_selector(".cells li")
            self.house.batteries[LOST].process.kill()
            # Somebody else may get the number of its terminal.
            os.unlink(self.house.batteries[LOST].port)
            self.expect(
                "a lost battery is offline while the page is open",
                page,
                "document.querySelector('.head .pill').textContent.startsWith('offline since')",
                OFFLINE,
            )
            text = page.inner_text("main")
            faults = [
                f"{name} is still shown"
                for name in ("Pack voltage", "State of health", "charging")
                if name in text
            ]
            if "Does not exist" not in text and "does not exist" not in text:
                faults.append(f"no reason in {text[:200]!r}")
            self.verdict("its values are gone, and the reason is there", faults)
            said = page.inner_text("#said")
            self.verdict("it is said aloud", [] if "Garden shed is offline" in said else [said])
            self.verdict("the page of a lost battery", page.evaluate(self.look))
            self.picture(page, "lost-1280-light")
            self.go(page, "")
            page.wait_for_selector(".card .worry .quiet")
            self.verdict("all batteries, one of them lost", page.evaluate(self.look))
            self.picture(page, "batteries-one-lost-1280-light")
            self.go(page, BANK)
            page.wait_for_selector(".panel table th a")
            row = f"[...document.querySelectorAll('tr')].find((row) => row.textContent.startsWith('{NAMES[LOST]}'))"
            self.expect(
                "a bank says who is missing", page, f"{row}.textContent.includes('offline since')"
            )
            text = page.inner_text("main")
            self.verdict(
                "a bank does not show the sum of the others",
                [text[:200]] if "Remaining capacity" in text else [],
            )
            self.verdict("the page of a bank without a member", page.evaluate(self.look))
            self.picture(page, "bank-one-lost-1280-light")
            self.go(page, "")
            self.house.batteries[LOST].start("--seed", "9")
            self.expect(
                "it comes back by itself",
                page,
                # The batteries, the bank and the broker.
                f"document.querySelectorAll('.pill.online').length === {len(NAMES) + 1}",
                OFFLINE,
            )

    def lost_broker(self):
        with self.page() as page:
            self.expect(
                "the broker has us",
                page,
                "document.querySelector('#broker').textContent === 'MQTT connected'",
            )
            self.house.broker.process.kill()
            self.expect(
                "a lost broker is told",
                page,
                "document.querySelector('#broker').textContent === 'MQTT not connected'",
            )
            self.house.broker.start()

    def lost_program(self):
        with self.page() as page:
            page.wait_for_selector(".card .power small")
            self.house.reader.process.kill()
            self.expect(
                "a lost program is told", page, "!document.querySelector('#lost').hidden", 40
            )
            self.verdict("the page without a program", page.evaluate(self.look))
            self.picture(page, "program-lost-1280-light")
            self.house.run(self.house.environment())
            self.expect(
                "it goes on when the program is back",
                page,
                "document.querySelector('#lost').hidden && document.querySelector('.card .power small')",
            )
        # A program that is gone is the point of this step.
        self.complaints = []

    def without_events(self):
        """Behind a proxy that holds events back, the page asks now and then."""
        with self.page() as page:
            page.route("**/api/events", lambda route: route.abort())
            page.reload()
            page.wait_for_selector(".card .power small")
            page.evaluate("performance.clearResourceTimings()")
            asked = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/api/overview')).length"
            self.expect("without events it asks", page, f"{asked} >= 1", 40)
        self.complaints = []

    def set_up(self):
        self.house.stop_reader()
        self.house.run({"HTTP_LISTEN": f"{HOST}:{self.house.port}"})
        for theme in ("light", "dark"):
            for size in (PHONE, DESK):
                with self.page(size, theme) as page:
                    name = f"{size[0]}-{theme}"
                    page.wait_for_selector("h1")
                    text = page.inner_text("main")
                    faults = page.evaluate(self.look)
                    faults += [
                        f"{wanted} is missing"
                        for wanted in ("No battery is configured", "BMS_PORT=", "BMS_TYPE=")
                        if wanted not in text
                    ]
                    self.verdict(f"the set-up page, {name}", faults)
                    self.picture(page, f"set-up-{name}")
        with self.page() as page:
            page.get_by_role("button", name="Copy").first.click()
            self.expect(
                "lines can be copied",
                page,
                "/Cop|Select/.test(document.querySelector('.found button').textContent)",
            )
        self.no_complaint("the set-up page")

    def demo(self):
        """What the README shows."""
        self.house.stop_reader()
        self.house.start_demo()
        ids = [battery["id"] for battery in json.loads(self.house.ask("api/overview"))["batteries"]]
        cards = f"document.querySelectorAll('.card').length === {len(ids)}"
        drawn = (
            f"{cards} && [...document.querySelectorAll('.spark')].every((spark) =>"
            " spark.querySelector('polyline')?.points.length > 200)"
        )
        calm = (
            f"{cards} && !document.querySelector('.worry li')"
            " && !document.querySelector('.card .pill:not(.online)')"
        )
        with self.page((1280, 860)) as page:
            # Nine batteries with two days of past are loaded from the file first.
            self.expect("every card shows the last day", page, drawn, 180)
            # In the demo something goes wrong every two minutes.
            self.expect("the demo is calm at times", page, calm, 150)
            self.verdict("the demo", page.evaluate(self.look))
            self.picture(page, "demo-batteries")
            figures.fluid(page, "all batteries")
        with self.page((1280, 1100), "dark") as page:
            self.go(page, ids[0])
            page.wait_for_selector(".plot .line", state="attached")
            self.verdict("a battery of the demo", page.evaluate(self.look))
            self.picture_down_to(page, "demo-battery", page.locator(".plot").nth(1))
            page.get_by_text("48 h").click()
            figures.fluid(page, "one battery with 48 h of charts")
        figures.past(self.house, ids)
        self.no_complaint("the demo")

    def metrics(self):
        end = time.monotonic() + SOON
        # Before the first read there is nothing of a battery yet.
        while (faults := self.wrong_metrics()) and time.monotonic() < end:
            time.sleep(0.2)
        self.verdict("a strict reader takes the metrics", faults)

    def wrong_metrics(self):
        try:
            told = text_string_to_metric_families(self.house.ask("metrics"))
            families = {family.name for family in told}
        except ValueError as error:
            return [f"no OpenMetrics: {error}"]
        wanted = (
            "bms_up",
            "bms_soc_percent",
            "bms_cell_voltage_volts",
            "bms_reads",
            "bms_mqtt_connected",
        )
        return [f"{name} is missing" for name in wanted if name not in families]

    def tell(self):
        self.metrics()
        self.every_view()
        for step in (
            self.overview,
            self.live,
            self.cells,
            self.bank,
            self.modules,
            self.charts,
            self.keyboard,
            self.theme,
        ):
            step()
        self.no_complaint("using it")
        self.lost_broker()
        self.lost_battery()
        self.no_complaint("losing things")
        self.without_events()
        self.lost_program()
        self.set_up()
        self.demo()


def main(program, chromium, folder):
    with (
        tempfile.TemporaryDirectory(prefix="bms-browser.") as work,
        sync_playwright() as playwright,
    ):
        house = House(program, work)
        try:
            house.start()
            # A container has no user namespaces for Chromium's own sandbox; it sees our page only.
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            story = Story(house, browser, folder)
            story.tell()
            browser.close()
        except BedError as error:
            print(f"FAIL  the test bed: {error}")
            return 2
        finally:
            house.stop()
    print(f"browser: {story.passed} passed, {story.failed} failed; pictures in {folder}")
    return 1 if story.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
