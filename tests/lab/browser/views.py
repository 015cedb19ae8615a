"""What the views of the dashboard show, and how they are operated."""

import json
import re
import time

import sample_history
from installation import ALARMED, BANK, HEALTHY, MEMBERS, NAMES, STACK
from session import DESKTOP, PHONE, becomes_true


def layouts(session):
    """In both themes, on phone and desktop: nothing overflows, everything is legible and has a name."""
    for theme in ("light", "dark"):
        for size in (PHONE, DESKTOP):
            with session.page(size, theme) as page:
                layout(session, page, f"{size[0]}-{theme}")
    session.check_console("every view")
    session.report("every link is relative", session.installation.proxy.strays)


def layout(session, page, suffix):
    page.wait_for_selector(".card .spark polyline", state="attached")
    page.wait_for_selector(".card .problems li")
    page.wait_for_selector(".bars rect", state="attached")
    page.wait_for_selector(".alarms li.ended")
    page.locator("summary").click()
    session.check_page(f"all batteries, {suffix}", page)
    session.screenshot(page, f"batteries-{suffix}")
    for device in (HEALTHY, ALARMED, BANK, STACK):
        session.open_view(page, device)
        page.wait_for_selector(".plot .line", state="attached")
        page.evaluate("document.querySelectorAll('details').forEach((details) => details.open = true)")
        becomes_true(page, "document.querySelector('details pre').textContent.length > 99")
        session.check_page(f"{NAMES[device]}, {suffix}", page)
        page.evaluate("document.querySelectorAll('details').forEach((details) => details.open = false)")
        session.screenshot(page, f"{device}-{suffix}")


def overview(session):
    with session.page() as page:
        page.wait_for_selector(".card .power small")
        state = json.loads(session.installation.get(f"api/devices/{HEALTHY}"))
        cell_info = state["status"]["cell_info"]
        card = session.card(page, HEALTHY)
        text = card.inner_text()
        faults = [
            f"{wanted!r} is not in {text!r}"
            for wanted in ("\n%", "online", " V", " A", "Δ ")
            if wanted not in text
        ]
        volts = float(re.search(r"([\d.]+) V", text)[1])
        if abs(volts - cell_info["total_voltage"]) > 0.5:
            faults.append(f"{volts} V on the card, {cell_info['total_voltage']} V in the JSON")
        soc = float(re.search(r"([\d.]+)\n%", text)[1])
        if abs(soc - cell_info["battery_soc"]) > 0.5:
            faults.append(f"{soc} % on the card, {cell_info['battery_soc']} % in the JSON")
        session.report("a card shows the values of its battery", faults)
        wanted = re.compile(r"Rack 2: cell voltage high, now \d\.\d+ V \(BMS protection\)")
        for device in (ALARMED, BANK):
            alarms = session.card(page, device).locator(".problems").inner_text()
            faults = [] if wanted.search(alarms) else [alarms]
            session.report(f"an alarm is described, {NAMES[device]}", faults)
        card.get_by_role("link").click()
        session.expect(
            "a card links to its battery",
            page,
            f"location.hash === '#/{HEALTHY}' && document.activeElement.tagName === 'H1'",
        )
        page.go_back()
        session.expect(
            "back returns to the list",
            page,
            f"document.querySelectorAll('.card').length === {len(NAMES)}",
        )


def live_values(session):
    with session.page() as page:
        session.open_view(page, HEALTHY)
        reads = (
            "[...document.querySelectorAll('.grid dt')]"
            ".find((dt) => dt.textContent === 'Good reads').nextSibling.textContent"
        )
        becomes_true(page, reads)
        before = int(page.evaluate(reads))
        page.locator("summary").last.focus()
        session.expect("values change without a reload", page, f"Number({reads}) > {before + 3}")
        focused = "document.activeElement.textContent === 'Raw JSON'"
        session.expect("an update keeps the focus", page, focused, 1)
        title = "/^\\d.* % · Rack 1/.test(document.title)"
        session.expect("the title contains the state of charge", page, title, 1)


def cells(session):
    with session.page() as page:
        session.open_view(page, HEALTHY)
        page.wait_for_selector(".cells li")
        labels = page.locator(".cells li").evaluate_all(
            "(items) => items.map((item) => item.getAttribute('aria-label'))"
        )
        faults = [] if len(labels) == 16 else [f"{len(labels)} cells"]
        faults += [label for label in labels if not re.match(r"Cell \d+: \d\.\d{3} V", label)]
        for mark in ("lowest", "highest"):
            if sum(mark in label for label in labels) != 1:
                faults.append(f"not exactly one {mark}: {labels}")
        widths = page.locator(".cells .bar i").evaluate_all(
            "(bars) => bars.map((bar) => bar.offsetWidth)"
        )
        volts = [float(re.search(r"[\d.]+ V", label)[0][:-2]) for label in labels]
        if widths[volts.index(max(volts))] != max(widths) or min(widths) < 1:
            faults.append(f"bars {widths} for {volts}")
        session.report("sixteen cells, the lowest and the highest marked", faults)


def bank(session):
    with session.page() as page:
        session.open_view(page, BANK)
        page.wait_for_selector(".panel table th a")
        rows = page.locator("table").first.locator("tr")
        texts = [row.inner_text().split("\t") for row in rows.all()]
        faults = [] if [row[0] for row in texts] == [NAMES[id] for id in MEMBERS] else [str(texts)]
        faults += [
            str(row) for row in texts if row[1] != "online" or not re.match(r"\d.* %", row[2])
        ]
        if page.locator(".cells").is_visible():
            faults.append("the bank has an empty list of cells")
        session.report("a bank lists its batteries", faults)
        link = page.get_by_role("link", name=NAMES[HEALTHY])
        link.focus()
        later = page.evaluate("performance.now()") + 2500
        focused = f"document.activeElement.textContent === '{NAMES[HEALTHY]}'"
        session.expect(
            "updates keep the focus on a battery of the bank",
            page,
            f"performance.now() > {later} && {focused}",
        )
        page.keyboard.press("Enter")
        session.expect("Enter opens that battery", page, f"location.hash === '#/{HEALTHY}'")


def modules(session):
    with session.page() as page:
        session.open_view(page, STACK)
        page.locator("summary", has_text="All values").click()
        page.wait_for_selector("tr.module")
        groups = page.locator("details:has(.module) tbody").evaluate_all(
            "(bodies) => bodies.map((body) =>"
            " [...body.querySelectorAll('th')].map((th) => th.textContent))"
        )
        faults = [
            f"{name} twice" for group in groups for name in set(group) if group.count(name) > 1
        ]
        headings = [group[0] for group in groups[1:]]
        wanted = [f"Module {number}" for number in range(1, len(headings) + 1)]
        if len(headings) < 2 or headings != wanted:
            faults.append(f"headings {headings}")
        session.report("the values of a module are below its name", faults)


def house(session):
    with session.page() as page:
        page.wait_for_selector(".house .power small")
        session.expect(
            "the power of all batteries is the sum of theirs",
            page,
            """(() => {
              const watts = (node) => Number(node?.textContent.replace("−", "-").replace(/[^-\\d.]/g, ""));
              const cards = [...document.querySelectorAll(".card")].filter((it) => !it.parentNode.matches(".bank"));
              const sum = cards.reduce((sum, card) => sum + watts(card.querySelector(".power")), 0);
              return cards.length === %d && Math.abs(watts(document.querySelector(".house .power")) - sum) < 5;
            })()"""
            % (len(NAMES) - 1),
        )
        text = page.inner_text(".house")
        wanted = (f"{len(NAMES) - 1} of {len(NAMES) - 1} online", "Power in", "Charged today")
        session.report(
            "all batteries together have power and energy",
            [f"{part!r} is not in {text!r}" for part in wanted if part not in text],
        )
        members = page.locator(".bank .cards h2").all_inner_texts()
        faults = [] if members == [NAMES[id] for id in MEMBERS] else [str(members)]
        session.report("a bank contains its batteries", faults)


def energy(session):
    """The bars, totals and table of each period, and the time for years of all batteries."""
    with session.page() as page:
        page.wait_for_selector(".bars rect", state="attached")
        count = "document.querySelectorAll('.bars rect').length / 2 ==="
        is_year = "/^\\d{4}$/.test(document.querySelector('.energy tbody th').textContent)"
        for period, condition in (
            ("Week", f"{count} 26"),
            ("Day", f"{count} 31"),
            ("Month", f"{count} 24"),
            ("Year", is_year),
        ):
            page.get_by_text(period, exact=True).click()
            session.expect(f"energy by {period.lower()}", page, condition)
        page.locator(".energy summary").click()
        rows = page.locator(".energy tbody tr").all_inner_texts()
        written = sample_history.energy_of_year(rows[1].split("\t")[0])
        batteries = len(NAMES) - 1
        wanted = [f"{batteries * energy:.0f} kWh" for energy in written]
        faults = [] if rows[1].split("\t")[1:] == wanted else [f"{rows[1]!r}, not {wanted}"]
        text = page.inner_text(".energy .grid")
        if not re.search(r"Efficiency\s+9[0-9] %", text):
            faults.append(f"no efficiency in {text!r}")
        session.report("a year has the energy of its days", faults)
        session.check_page("energy by year", page)
        start = time.monotonic()
        size = len(session.installation.get("api/energy?days=2200"))
        took = time.monotonic() - start
        print(f"      | measured: {size / 1024:.0f} KiB of energy in {took * 1000:.0f} ms")
        session.open_view(page, HEALTHY)
        page.wait_for_selector(".bars rect", state="attached")
        session.report("a battery has its energy", [])


def alarms(session):
    with session.page() as page:
        page.wait_for_selector(".alarms li.ended")
        text = page.inner_text(".alarms li.ended")
        wanted = ("Garden shed", "12 min", "51.20 V", "9 %", "Cells 3.100 V – 3.250 V")
        faults = [f"{part!r} is not in {text!r}" for part in wanted if part not in text]
        session.report("a past alarm has its time and values", faults)
        page.get_by_role("button", name="Clear list").click()
        gone = "!document.querySelector('.alarms li.ended')"
        active = "document.querySelector('.alarms li')"
        session.expect("past alarms are cleared, active ones stay", page, f"{gone} && {active}")
        page.reload()
        page.wait_for_selector(".alarms li")
        session.expect("the list stays cleared", page, gone)
        page.get_by_role("button", name="Show all").click()
        session.expect("cleared alarms are not deleted", page, "!(" + gone + ")")


def health(session):
    """A sentence, and a row for each cell with the known columns only."""
    with session.page() as page:
        session.open_view(page, HEALTHY)
        page.wait_for_selector(".health table tbody tr", state="attached")
        text = page.inner_text(".health p")
        wanted = r"Cell 7 drops first and is getting worse \(−[56]\.\d mV a month\)\."
        session.report("the cells are described", [] if re.fullmatch(wanted, text) else [text])
        text = page.inner_text(".health .grid")
        wanted = ("Spread at full", "60 mV", "Capacity (estimate)", "≈ 97.5 Ah (21 °C)")
        session.report(
            "spreads and the estimated capacity",
            [f"{part!r} is not in {text!r}" for part in wanted if part not in text],
        )
        chart = page.locator(".health .plot")
        chart.focus()
        page.keyboard.press("Home")
        text = chart.get_attribute("aria-valuetext")
        wanted = r"\w+, \w+ \d+: at full 60 mV, at rest 60 mV, at empty 60 mV"
        faults = [] if re.fullmatch(wanted, text) else [text]
        page.keyboard.press("+")
        course = page.inner_text(".spread-chart p")
        if not re.match(r"At full 60 mV on \w+, \w+ \d+, 60 mV now\. At rest", course):
            faults.append(course)
        if chart.locator(".line").count() != 3:
            faults.append(f"{chart.locator('.line').count()} lines")
        session.report("the spread over time", faults)
        page.locator(".health summary").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".health tbody td")
        heads = page.locator(".health thead th").all_inner_texts()
        wanted = ["Cell", "lowest (%)", "highest (%)", "Drift (mV a month)", "Balancing (h)"]
        faults = [] if heads == wanted else [str(heads)]
        row = page.locator(".health tbody tr").nth(6).inner_text().split("\t")
        if row[:2] != ["7", "90"] or not row[3].startswith("−"):
            faults.append(str(row))
        if page.locator(".health tbody tr").count() != 16:
            faults.append("not sixteen cells")
        session.report("a table of the cells", faults)
        session.check_page("health of the cells", page)
        session.open_view(page, BANK)
        page.wait_for_selector(".panel table th a")
        session.expect("a bank has no cells", page, "document.querySelector('.health').hidden")


def keyboard(session):
    with session.page() as page:
        page.wait_for_selector(".card h2 a")
        page.wait_for_selector(".alarms li.ended")
        focused = (
            "(document.activeElement.getAttribute('aria-label')"
            " || document.activeElement.textContent).trim()"
        )
        order = []
        for _ in range(9 + len(NAMES)):
            page.keyboard.press("Tab")
            order.append(page.evaluate(focused))
        head = ["Skip to content", "All batteries", "Set-up", "Dark colours"]
        # The chosen period has its name beside it.
        records = ["", "As a table", "Clear list"]
        wanted = [*head, *NAMES.values(), *records, "JSON", "Metrics"]
        session.report("Tab visits the page in order", [] if order == wanted else [str(order)])
        page.reload()
        page.wait_for_selector(".card h2 a")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        first = page.evaluate(focused)
        faults = [] if first == NAMES[BANK] else [first]
        session.report("the first link skips to the content", faults)


def theme(session):
    with session.page(theme="light") as page:
        background = "getComputedStyle(document.documentElement).backgroundColor"
        light = page.evaluate(background)
        page.click("#theme")
        dark = page.evaluate(background)
        page.reload()
        kept = f"'{light}' !== '{dark}' && {background} === '{dark}'"
        session.expect("the theme button changes the colours and is remembered", page, kept)


STEPS = (layouts, overview, live_values, cells, bank, modules, house, energy, alarms, health, keyboard, theme)
