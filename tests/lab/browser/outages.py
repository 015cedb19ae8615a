"""The open dashboard while a battery, the broker, events or the program are missing."""

import os
import re

from installation import BANK, NAMES, SOON, UNPLUGGED


# A battery is offline after three failed reads, and after 30 s at the earliest.
OFFLINE = 120


def broker(session):
    text = "document.querySelector('#broker').textContent"
    with session.page() as page:
        session.expect("the broker is connected", page, f"{text} === 'MQTT connected'")
        session.installation.broker.process.kill()
        session.expect("a lost broker is shown", page, f"{text} === 'MQTT not connected'")
        session.installation.broker.start()


def battery(session):
    unplugged = session.installation.batteries[UNPLUGGED]
    with session.page() as page:
        session.open_view(page, UNPLUGGED)
        page.wait_for_selector(".cells li")
        unplugged.process.kill()
        # The system may give the number of its terminal to another one.
        os.unlink(unplugged.port)
        session.expect(
            "a lost battery is offline while the page is open",
            page,
            "document.querySelector('.head .pill').textContent.startsWith('offline since')",
            OFFLINE,
        )
        check_offline_battery(session, page)
        session.open_view(page, "")
        page.wait_for_selector(".card .problems .muted")
        session.check_page("all batteries, one of them offline", page)
        session.screenshot(page, "batteries-one-lost-1280-light")
        session.open_view(page, BANK)
        check_incomplete_bank(session, page)
        session.open_view(page, "")
        unplugged.start("--seed", "9")
        # The batteries, the bank and the broker.
        online = f"document.querySelectorAll('.pill.online').length === {len(NAMES) + 1}"
        session.expect("the battery comes back by itself", page, online, OFFLINE)
    session.check_console("outages")


def check_offline_battery(session, page):
    text = page.inner_text("main")
    faults = [] if re.search(r"Last values, .* old, not live", text) else [text[:200]]
    if "charging" in text or re.match(r"\d", page.title()):
        faults.append("old values look current")
    if "does not exist" not in text.lower():
        faults.append(f"no reason in {text[:200]!r}")
    session.report("the last values are marked as old, and the reason is shown", faults)
    announced = page.inner_text("#announcement")
    faults = [] if "Garden shed is offline" in announced else [announced]
    session.report("screen readers announce the outage", faults)
    session.check_page("the page of an offline battery", page)
    session.screenshot(page, "lost-1280-light")


def check_incomplete_bank(session, page):
    page.wait_for_selector(".panel table th a")
    row = (
        "[...document.querySelectorAll('tr')]"
        f".find((row) => row.textContent.startsWith('{NAMES[UNPLUGGED]}'))"
    )
    offline = f"{row}.textContent.includes('offline since')"
    session.expect("a bank shows which battery is missing", page, offline)
    text = page.inner_text("main")
    faults = [text[:200]] if "Remaining capacity" in text else []
    session.report("an incomplete bank shows no totals", faults)
    session.check_page("the page of an incomplete bank", page)
    session.screenshot(page, "bank-one-lost-1280-light")


def events(session):
    """A proxy may hold back server-sent events, so the page also polls."""
    with session.page() as page:
        page.route("**/api/events", lambda route: route.abort())
        page.reload()
        page.wait_for_selector(".card .power small")
        page.evaluate("performance.clearResourceTimings()")
        polls = (
            "performance.getEntriesByType('resource')"
            ".filter((entry) => entry.name.endsWith('/api/overview')).length"
        )
        session.expect("without events the page polls", page, f"{polls} >= 1", SOON)
    session.console_errors = []


def program(session):
    installation = session.installation
    lost = "document.querySelector('#lost')"
    with session.page() as page:
        page.wait_for_selector(".card .power small")
        installation.reader.process.kill()
        session.expect("a lost connection is shown", page, f"!{lost}.hidden", SOON)
        session.check_page("the page without a connection", page)
        session.screenshot(page, "program-lost-1280-light")
        installation.run(installation.environment())
        back = f"{lost}.hidden && document.querySelector('.card .power small')"
        session.expect("the page recovers when the program is back", page, back)
    # The failed requests of this step are in the console.
    session.console_errors = []


STEPS = (broker, battery, events, program)
