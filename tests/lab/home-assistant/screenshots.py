#!/usr/bin/env python3
"""Pictures of the pages of Home Assistant that the documents show.

    screenshots.py BMS_READER HASS CHROMIUM FOLDER
"""

import json
import os
import shutil
import sys
import tempfile
import urllib.request

from home_assistant import CLIENT_ID, HomeAssistant, http
from playwright.sync_api import sync_playwright
from processes import HOST, Broker, Reader, SimulatedBattery, free_port

DEVICE = {"id": "house", "name": "House battery", "type": "daren", "interval": 1}
SIZE = {"width": 1280, "height": 1180}
# The frontend lists the services of all integrations. These packages of the voice pipeline are not installed.
STUBS = {"pymicro_vad": "MicroVad = None\n", "pyspeex_noise": "AudioProcessor = None\n"}
# Nothing of the page moves after this time.
SETTLED_MS = 3000


def add_stubs(work):
    folder = os.path.join(work, "stubs")
    os.mkdir(folder)
    for name, text in STUBS.items():
        with open(os.path.join(folder, f"{name}.py"), "w") as file:
            file.write(text)
    os.environ["PYTHONPATH"] = folder


def finish_onboarding(home_assistant):
    for step, data in (
        ("core_config", {}),
        ("analytics", {}),
        ("integration", {"client_id": CLIENT_ID, "redirect_uri": CLIENT_ID}),
    ):
        url = f"{home_assistant.url}/api/onboarding/{step}"
        http("POST", url, data, home_assistant.token)


def log_in(context, home_assistant):
    """The frontend takes the login of an earlier visit from its local storage."""
    tokens = {
        "access_token": home_assistant.token,
        "token_type": "Bearer",
        "refresh_token": "none",
        "expires_in": 1800,
        "expires": 4102444800000,
        "hassUrl": home_assistant.url,
        "clientId": CLIENT_ID,
    }
    script = f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(tokens))})"
    context.add_init_script(script)


def wait_for_device(home_assistant):
    home_assistant.wait_until(60, "battery", lambda: "bms_reader_house" in home_assistant.devices())
    entities = home_assistant.entities

    def is_complete():
        soc = entities().get("house_soc")
        return soc and soc["available"]

    home_assistant.wait_until(60, "reading", is_complete)
    return home_assistant.devices()["bms_reader_house"]["id"]


def add_dashboard(home_assistant, url):
    """Creates a dashboard from the generated text, as a user does in the raw configuration editor. Returns its path."""
    with urllib.request.urlopen(url, timeout=30) as response:
        config = home_assistant.parse_yaml(response.read().decode())
    path, call = "battery-dashboard", home_assistant.socket.call
    call("lovelace/dashboards/create", url_path=path, title="Batteries", mode="storage")
    call("lovelace/config/save", url_path=path, config=config)
    return path


def add_to_energy_dashboard(home_assistant):
    """Saves what docs/recipes.md recommends, as the dialog does."""
    battery = {
        "type": "battery",
        "stat_energy_from": "sensor.house_energy_discharged",
        "stat_energy_to": "sensor.house_energy_charged",
        "stat_soc": "sensor.house_soc",
        "power_config": {"stat_rate_inverted": "sensor.house_power"},
    }
    home_assistant.socket.call("energy/save_prefs", energy_sources=[battery])


def take_energy_dialog(page, home_assistant, path):
    """The dialog of the battery in the settings of the energy dashboard, with the type of power measurement."""
    page.goto(f"{home_assistant.url}/config/energy/electricity")
    settings = page.locator("ha-energy-battery-settings")
    settings.wait_for(timeout=120_000)
    settings.locator(".row ha-icon-button").first.click()
    dialog = page.locator("dialog-energy-battery-settings")
    dialog.get_by_text("Inverted").first.wait_for(timeout=60_000)
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=path)


def take(home_assistant, chromium, folder, dashboard):
    device = wait_for_device(home_assistant)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport=SIZE, color_scheme="light", locale="en-GB")
        log_in(context, home_assistant)
        page = context.new_page()
        page.goto(f"{home_assistant.url}/config/devices/device/{device}")
        page.get_by_text("State of health").first.wait_for(timeout=120_000)
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=os.path.join(folder, "home-assistant-device.png"))
        page.goto(f"{home_assistant.url}/{add_dashboard(home_assistant, dashboard)}")
        page.get_by_text("House battery").first.wait_for(timeout=120_000)
        page.wait_for_timeout(SETTLED_MS)
        for text in ("Entity not found", "Configuration error", "Unknown type"):
            if page.get_by_text(text).count():
                raise SystemExit(f"The dashboard shows: {text}")
        page.screenshot(path=os.path.join(folder, "home-assistant-dashboard.png"))
        add_to_energy_dashboard(home_assistant)
        take_energy_dialog(page, home_assistant, os.path.join(folder, "home-assistant-energy.png"))
        browser.close()


def main():
    program, hass, chromium, folder = sys.argv[1:]
    work = tempfile.mkdtemp(prefix="bms-pictures-")
    add_stubs(work)
    broker = Broker(work)
    battery = SimulatedBattery(program, work, "house")
    environment = {
        "DEVICES": json.dumps([{**DEVICE, "port": battery.port}]),
        "MQTT_HOST": HOST,
        "MQTT_PORT": str(broker.port),
        "MQTT_USER": broker.USER,
        "MQTT_PASSWORD": broker.PASSWORD,
        "HTTP_LISTEN": f"{HOST}:{free_port()}",
        "HTTP_URL": "http://192.168.1.10:8099",
    }
    reader = Reader(program, work, environment)
    home_assistant = HomeAssistant(hass, work, broker, "frontend:\nhistory:\nlogbook:\nenergy:\n")
    try:
        broker.start()
        home_assistant.start()
        finish_onboarding(home_assistant)
        battery.start()
        reader.start()
        address = environment["HTTP_LISTEN"]
        dashboard = f"http://{address}/api/homeassistant/dashboard.yaml"
        take(home_assistant, chromium, folder, dashboard)
    finally:
        for process in (reader.process, battery.process, broker.process):
            if process:
                process.stop(5)
        home_assistant.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
