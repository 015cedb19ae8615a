"""Reading now, pausing, and the settings of a battery: what is asked, read back, and for whom it exists."""

import json

from installation import BANK, SWITCHED
from session import APPEARANCES

ACTIONS = ".connection > div:visible"
PANEL = ".settings:visible"
STATUS = "document.querySelector('.connection [role=status]').textContent"
ERROR = "document.querySelector('.settings .error:not([hidden])')?.textContent"
PILL = "document.querySelector('.head .pill').textContent"
# Of the form of the settings, and of that of the counters.
FORMS = "[...document.querySelectorAll('.settings form [role=status]')].map((it) => it.textContent)"


def open_settings(session, page):
    session.open_view(page, SWITCHED)
    page.wait_for_selector(PANEL)
    page.locator(f"{PANEL} summary").click()
    page.wait_for_selector("#poll_interval_s:visible")


def battery(session):
    batteries = json.loads(session.installation.get("api/overview"))["batteries"]
    return next(it for it in batteries if it["id"] == SWITCHED)


def layouts(session):
    """In both themes, on phone and desktop, and in two languages."""
    for size, theme, locale in APPEARANCES:
        with session.page(size, theme, locale) as page:
            name = f"{size[0]} px, {theme}, {locale}"
            open_settings(session, page)
            session.check_page(f"settings, {name}", page)
            session.screenshot(page, f"settings-{size[0]}-{theme}")
            page.locator(f"{ACTIONS} button").nth(1).click()
            page.wait_for_selector("dialog[open]")
            session.check_page(f"the question before a pause, {name}", page)
    session.check_console("settings")


def reading(session):
    with session.page() as page:
        session.open_view(page, SWITCHED)
        page.wait_for_selector(ACTIONS)
        page.get_by_role("button", name="Read now").click()
        done = f"/^Read at \\d\\d:\\d\\d:\\d\\d\\.$/.test({STATUS})"
        session.expect("a read on request is reported when it is over", page, done)
        page.get_by_role("button", name="Pause").click()
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        session.expect("Escape does not pause", page, f"{PILL} === 'online'", 2)
        page.get_by_role("button", name="Pause").click()
        page.locator("dialog .primary").click()
        session.expect("a paused battery is not offline by itself", page, f"{PILL} === 'paused'")
        paused = battery(session)["settings"]["paused"]
        session.report("the program has paused it", [] if paused else ["it is read"])
        page.get_by_role("button", name="Resume").click()
        session.expect("it is read again", page, f"{PILL} === 'online'")


def changing(session):
    with session.page() as page:
        open_settings(session, page)
        field = page.locator("#poll_interval_s")
        session.report("the present interval", [] if field.input_value() == "1" else ["another"])
        absent = page.locator("#address:visible, #scan_timeout_s:visible").count()
        session.report("a serial battery has no address", [] if not absent else ["an address"])
        field.fill("0.1")
        page.keyboard.press("Enter")
        invalid = "document.querySelector('#poll_interval_s:invalid') !== null"
        session.expect("an interval that is too short is not sent", page, invalid)
        field.fill("2")
        page.keyboard.press("Enter")
        done = f"{FORMS}[0] === 'In force: Read every (s): 2'"
        session.expect("the setting is confirmed", page, done)
        now = battery(session)["settings"]["poll_interval_s"]
        session.report("the setting is in force", [] if now == 2 else [f"{now} s"])
        row = (
            "[...document.querySelectorAll('.connection dt')]"
            ".find((it) => it.textContent === 'Read every').nextSibling.textContent === '2 s'"
        )
        session.expect("the connection shows what was read back", page, row)
        page.locator("#energy_charged_kwh").fill("321.5")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        text = page.inner_text("#consequence")
        session.report("a counter is asked about", [] if "321.5" in text else [text])
        page.locator("dialog .primary").click()
        done = f"{FORMS}[1]?.endsWith('321.5')"
        session.expect("the counter is confirmed", page, done)
        values = {it["key"]: it["value"] for it in battery(session)["values"]}
        kwh = values["energy_charged"]
        session.report("the counter continues", [] if 321.5 <= kwh < 322 else [f"{kwh} kWh"])


def refused(session):
    with session.page() as page:
        open_settings(session, page)
        answer = {"error": "workshop: too many commands are waiting, try again"}
        page.route("**/config", lambda route: route.fulfill(status=409, body=json.dumps(answer)))
        page.locator("#poll_interval_s").fill("1")
        page.keyboard.press("Enter")
        wanted = "Workshop: too many commands are waiting, try again"
        session.expect("a refusal is shown", page, f"{ERROR} === '{wanted}'")
        session.console_errors = [text for text in session.console_errors if "409" not in text]
        session.open_view(page, BANK)
        page.wait_for_selector(ACTIONS)
        buttons = page.locator(f"{ACTIONS} button:visible").all_inner_texts()
        faults = [] if buttons == ["Read now"] else [str(buttons)]
        faults += ["settings"] if page.locator(PANEL).count() else []
        session.report("a bank can be read now, and has no settings", faults)
    session.installation.proxy.forwarded = True
    with session.page() as page:
        session.open_view(page, SWITCHED)
        note = "document.querySelector('.switches p:not([hidden])')?.textContent"
        session.expect("a stranger is told so", page, f"{note}?.includes('HTTP_TOKEN')")
        found = page.locator(f"{ACTIONS}, {PANEL}").count()
        session.report("a stranger has no commands", [] if not found else [f"{found} panels"])
    session.installation.proxy.forwarded = False


STEPS = (layouts, reading, changing, refused)
