"""The set-up page: from an empty configuration to a battery, in the app and in a container."""

import json
import os

from installation import ALARMED, HEALTHY, SOON
from session import DESKTOP, PHONE, becomes_true
from supervisor import Supervisor

NAME = "Garage"
PASSWORD = "correct-horse"
OWN_OPTIONS = {"devices": [], "banks": [], "read_interval": 1, "mqtt_password": "!secret broker"}
PACK = "document.querySelectorAll('.pack').length === 1"


class App:
    """The program as an app of Home Assistant."""

    def __init__(self, session):
        self.installation = session.installation
        self.supervisor = Supervisor(dict(OWN_OPTIONS))
        self.supervisor.restart = self.restart
        self.file = os.path.join(self.installation.work, "options.json")

    def start(self):
        with open(self.file, "w") as file:
            json.dump(self.supervisor.options, file)
        self.installation.run_unconfigured(
            {**self.supervisor.environment, "BMS_OPTIONS_FILE": self.file}
        )

    def restart(self):
        self.installation.stop_reader()
        self.start()


def test_battery(session, page, port):
    """Types the port and presses Enter. Returns when the battery has answered."""
    field = page.get_by_label("Address of an RS485-to-Ethernet adapter")
    field.fill(port)
    field.press("Enter")
    session.expect("a test reads the battery", page, PACK, 2 * SOON)


def in_the_app(session):
    app = App(session)
    app.start()
    port = session.installation.batteries[HEALTHY].port
    with session.page() as page:
        page.wait_for_selector("h1")
        test_battery(session, page, port)
        text = page.inner_text(".pack")
        faults = [f"{wanted} is not in {text}" for wanted in ("Daren", " V", " %") if wanted not in text]
        session.report("a test shows the values", faults)
        focused = "document.activeElement.textContent.startsWith('Test of')"
        session.expect("the focus moves to the result", page, focused)
        for theme in ("light", "dark"):
            for width, height in (PHONE, DESKTOP):
                page.emulate_media(color_scheme=theme)
                page.set_viewport_size({"width": width, "height": height})
                session.check_page(f"a test, {width}-{theme}", page)
                session.screenshot(page, f"set-up-test-{width}-{theme}")
        page.get_by_label("Name", exact=True).fill(NAME)
        page.get_by_role("button", name="Add and restart").click()
        card = f"[...document.querySelectorAll('.card h2, h1')].some((h2) => h2.textContent === '{NAME}')"
        session.expect("the added battery is on the dashboard", page, card, 2 * SOON)
        device = {"id": "garage", "name": NAME, "type": "daren", "port": port, "slave_id": 1}
        check_options(session, app, "adding", [device])

        page.get_by_role("link", name="Set-up").click()
        row = page.locator(".device", has=page.get_by_text("garage", exact=True))
        row.wait_for()
        session.check_page("configured batteries", page)
        row.get_by_role("textbox").fill("Shed")
        row.get_by_role("button", name="Rename").click()
        session.expect("a battery is renamed", page, card.replace(NAME, "Shed"), 2 * SOON)
        check_options(session, app, "renaming", [{**device, "name": "Shed"}])

        page.get_by_role("link", name="Set-up").click()
        row.wait_for()
        row.get_by_role("button", name="Remove garage").click()
        unchanged = [] if app.supervisor.restarts == 2 else ["one press removes"]
        session.report("removing asks back", unchanged)
        row.get_by_role("button", name="Really remove").click()
        empty = "document.querySelector('main').textContent.includes('No battery is configured')"
        session.expect("a battery is removed", page, empty, 2 * SOON)
        check_options(session, app, "removing", [])
    # The requests during the restarts failed.
    session.console_errors = []
    session.installation.stop_reader()


def check_options(session, app, what, devices):
    wanted = {**OWN_OPTIONS, "devices": devices}
    faults = [] if app.supervisor.options == wanted else [json.dumps(app.supervisor.options)]
    unasked = [line for line in app.supervisor.refused if line != "GET /services/mqtt"]
    session.report(f"{what} a battery changes nothing else", faults + unasked)


def in_a_container(session):
    environment = {"container": "docker", "HTTP_TOKEN": PASSWORD}
    session.installation.run_unconfigured(environment)
    battery = session.installation.batteries[ALARMED]
    with session.page() as page:
        page.wait_for_selector("input[type=password]")
        session.check_page("the login", page)
        session.screenshot(page, "login-1280-light")
        page.get_by_role("textbox", name="Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_label("Address of an RS485-to-Ethernet adapter").wait_for()
        test_battery(session, page, battery.port)
        page.get_by_label("Name", exact=True).fill(NAME)
        page.get_by_role("button", name="Show the settings").click()
        panel = page.locator(".panel", has_text="Finished settings")
        panel.wait_for()
        texts = panel.locator("pre").all_inner_texts()
        lines = [f"DEVICE_NAME={NAME}", "BMS_TYPE=daren", f"BMS_PORT={battery.port}"]
        faults = [f"{line} is not in {texts[0]}" for line in lines if line not in texts[0]]
        faults += [] if "services:" in texts[1] else [texts[1]]
        session.report("the finished settings are shown", faults)
        session.check_page("finished settings", page)
        session.screenshot(page, "set-up-settings-1280-light")
        copy = panel.get_by_role("button").first
        copy.click()
        copied = "/Copied|Selected/.test(document.querySelector('.panel pre ~ div button').textContent)"
        session.expect("the settings can be copied", page, copied)
        with page.expect_download() as download:
            panel.get_by_role("link", name="Download").first.click()
        with open(download.value.path()) as file:
            saved = file.read()
        session.report("the settings can be saved", [] if saved.strip() == texts[0] else [saved])
    # The first requests were answered with 401.
    session.console_errors = []
    session.installation.stop_reader()


def from_another_machine(session):
    """Without a password the page shows what was found, and how to unlock the rest."""
    session.installation.run_unconfigured({"container": "docker"})
    session.installation.proxy.forwarded = True
    for theme in ("light", "dark"):
        for size in (PHONE, DESKTOP):
            with session.page(size, theme) as page:
                suffix = f"{size[0]}-{theme}"
                becomes_true(page, "document.querySelector('main').textContent.includes('HTTP_TOKEN=')")
                text = page.inner_text("main")
                faults = page.evaluate(session.page_checks)
                faults += [
                    f"{wanted} is missing"
                    for wanted in ("No battery is configured", "HTTP_TOKEN=", "BMS_TYPE=")
                    if wanted not in text
                ]
                if page.get_by_role("button", name="Search").is_visible():
                    faults.append("searching is offered")
                session.report(f"the locked set-up page, {suffix}", faults)
                session.screenshot(page, f"set-up-locked-{suffix}")
    session.installation.proxy.forwarded = False
    session.check_console("the set-up page")
    session.installation.stop_reader()


STEPS = (in_the_app, in_a_container, from_another_machine)
