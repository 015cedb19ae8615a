"""The switches of a battery: a question, the result that was read back, and who may use them."""

import json

from installation import HEALTHY, SWITCHED
from session import APPEARANCES

PANEL = ".switches:not([hidden])"
STATE = "document.querySelector('.switches li .muted').textContent"
STATUS = "document.querySelector('.switches [role=status]').textContent"
CHARGING_OFF = "Charging: Switch off"


def open_switches(session, page):
    session.open_view(page, SWITCHED)
    page.wait_for_selector(f"{PANEL} button")
    return page.locator(f"{PANEL} li button").first


def question(session):
    """In both themes, on phone and desktop, and in two languages."""
    for size, theme, locale in APPEARANCES:
        with session.page(size, theme, locale) as page:
            name = f"{size[0]} px, {theme}, {locale}"
            open_switches(session, page).click()
            page.wait_for_selector("dialog[open]")
            session.check_page(f"the question before switching, {name}", page)
            session.screenshot(page, f"switches-{size[0]}-{theme}")
            page.keyboard.press("Escape")
            session.check_page(f"a battery with switches, {name}", page)
    session.check_console("switches")


def switching(session):
    with session.page() as page:
        button = open_switches(session, page)
        names = page.locator(f"{PANEL} strong").all_inner_texts()
        session.report("switches", [] if names == ["Charging", "Discharging"] else [str(names)])
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        focused = page.evaluate("document.activeElement.ariaLabel")
        session.report("Escape cancels", [] if focused == CHARGING_OFF else [str(focused)])
        for key in ("Enter", "Tab", "Enter"):
            page.keyboard.press(key)
        confirmed = f"{STATUS} === 'Charging: off. Confirmed by the battery.'"
        session.expect("the battery confirms the switch", page, confirmed)
        session.expect("the switch shows what was read back", page, f"{STATE} === 'off'")
        button.click()
        refusal = {"error": "workshop: charging on is not confirmed: no reply; check the wiring"}
        page.route(
            "**/switch", lambda route: route.fulfill(status=502, body=json.dumps(refusal))
        )
        page.locator("dialog .primary").click()
        session.expect(
            "an error is shown with its hint",
            page,
            "document.querySelector('.switches .error').textContent"
            " === 'Workshop: charging on is not confirmed: no reply; check the wiring'",
        )
        session.console_errors = [text for text in session.console_errors if "502" not in text]
        session.open_view(page, HEALTHY)
        page.wait_for_selector(".cells li")
        visible = page.locator(PANEL).count()
        session.report("a battery without switches has no panel", [] if not visible else ["a panel"])


def locked(session):
    session.installation.proxy.forwarded = True
    with session.page() as page:
        session.open_view(page, SWITCHED)
        note = "document.querySelector('.switches p:not([hidden])')?.textContent"
        session.expect("a stranger cannot switch", page, f"{note}?.includes('HTTP_TOKEN')")
        buttons = page.locator(f"{PANEL} li button:visible").count()
        session.report("a stranger has no buttons", [] if not buttons else [f"{buttons} buttons"])
    session.installation.proxy.forwarded = False


STEPS = (question, switching, locked)
