"""The charts of a battery: one cursor and one span for all, by pointer and by keyboard."""

import calendar
import csv
import io
import re
import time

from installation import HEALTHY
from session import PHONE, becomes_true

# A moment, and the three values of a chart at it.
AT_CURSOR = re.compile(
    r"^(\S.* \d\d:\d\d): mean [−\d]\d* W, lowest [−\d]\d* W, highest [−\d]\d* W$"
)
SHOWN = "document.querySelectorAll('.plot[role=slider] svg').length === 6"
TIMES = "document.querySelector('.range [role=status]').textContent"
IS_ZOOMED = f"/ – .* \\(.+\\)\\.$/.test({TIMES})"


def open_charts(session, page):
    session.open_view(page, HEALTHY)
    page.wait_for_selector(".plot .line", state="attached")
    return page.get_by_role("slider", name="Power")


def spoken(chart):
    return chart.get_attribute("aria-valuetext") or ""


def cursor(session):
    with session.page() as page:
        chart = open_charts(session, page)
        session.expect("six charts", page, SHOWN)
        chart.focus()
        faults = [] if re.match(r"^Now: [−\d]\d* W$", spoken(chart)) else [spoken(chart)]
        page.keyboard.press("Home")
        oldest = spoken(chart)
        page.keyboard.press("ArrowRight")
        following = spoken(chart)
        faults += [text for text in (oldest, following) if not AT_CURSOR.match(text)]
        if oldest == following:
            faults.append("the arrow keys do not move the cursor")
        session.report("arrow keys move the cursor of a chart", faults)
        page.keyboard.press("Tab")
        moment = following.split(": ")[0]
        others = page.locator(".plot[role=slider]").all()
        texts = [spoken(other) for other in others]
        faults = [text for text in texts if not text.startswith(f"{moment}: ")]
        if not page.evaluate("document.activeElement.ariaLabel.startsWith('Voltage')"):
            faults.append("Tab does not reach the next chart")
        session.report("all charts have the cursor at the same time", faults)
        page.keyboard.press("Escape")
        texts = [spoken(other) for other in others if not spoken(other).startswith("Now: ")]
        session.report("Escape hides the cursor", texts)
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
        readouts = page.locator(".readout").all_inner_texts()
        faults = [text for text in readouts if not re.search(r"\d\d:\d\d", text)]
        session.report("the pointer moves the cursor of all charts", faults)
        page.mouse.move(0, 0)
        session.expect(
            "without a cursor a chart shows the value of now",
            page,
            "[...document.querySelectorAll('.panel')].find((it) => it.querySelector('h2')?.textContent"
            ".startsWith('Power')).querySelector('.readout b').textContent.replace(/[^\\d]/g, '')"
            " === document.querySelector('.big .power').textContent.replace(/[^\\d]/g, '')",
        )


def gaps(session):
    with session.page() as page:
        chart = open_charts(session, page)
        pieces = chart.locator(".line").count()
        faults = [] if pieces == 1 else [f"{pieces} pieces in 24 h"]
        session.report("the last 24 hours are one line", faults)
        page.get_by_text("48 h").click()
        session.expect(
            "a gap in the history is a gap in the line of 48 hours",
            page,
            "document.querySelectorAll('.plot')[1].querySelectorAll('.line').length === 2",
        )
        page.get_by_text("1 year").click()
        session.expect(
            "a range before the first value names its time",
            page,
            f"/^There are values since .* \\d\\d:\\d\\d\\.$/.test({TIMES})",
        )


def zoom(session):
    with session.page() as page:
        chart = open_charts(session, page)
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 60, steps=4)
        selected = chart.locator(".selection").count()
        session.report("dragging marks the span", [] if selected == 1 else ["no mark"])
        page.mouse.up()
        session.expect("dragging zooms to the span", page, IS_ZOOMED)
        session.check_page("a battery with zoomed charts", page)
        csv_of_screen(session, page)
        page.get_by_role("button", name="Show the whole range again").click()
        session.expect("the reset shows the whole range", page, f"!{TIMES}")
        chart.focus()
        page.keyboard.press("+")
        session.expect("the keyboard zooms in", page, IS_ZOOMED)
        page.keyboard.press("0")
        session.expect("the keyboard resets the span", page, f"!{TIMES}")
        page.get_by_role("button", name="Zoom in").click()
        session.expect("a button zooms in", page, IS_ZOOMED)
        page.get_by_role("button", name="Zoom out").click()
        session.expect("a button zooms out again", page, f"!{TIMES}")
    with session.page(PHONE, "dark") as page:
        open_charts(session, page)
        page.get_by_role("button", name="Zoom in").click()
        becomes_true(page, IS_ZOOMED)
        session.check_page("zoomed charts on a phone", page)


def csv_of_screen(session, page):
    """The table has the rows of the charts, and of them only."""
    link = page.locator(".range a", has_text=re.compile("^CSV$")).get_attribute("href")
    rows = list(csv.reader(io.StringIO(session.installation.get(link))))
    # The time, and three columns for each of the eight lines.
    known = {"time", "soc (%)", "power (W)", "max_temp (°C)", "min_cell_voltage_max"}
    faults = [] if known < set(rows[0]) and len(rows[0]) == 25 else [str(rows[0])]
    span = [float(re.search(rf"[?&]{name}=([\d.]+)", link)[1]) for name in ("from", "to")]
    moments = [utc(row[0]) for row in rows[1:]]
    if not (moments and span[0] <= min(moments) <= max(moments) <= span[1]):
        faults.append(f"{len(moments)} rows of {moments[:1]} to {moments[-1:]} in {span}")
    shown = int(page.locator(".plot[role=slider]").first.get_attribute("aria-valuemax")) + 1
    if shown != len(moments):
        faults.append(f"{len(moments)} rows for {shown} points")
    session.report("the table has what the charts show", faults)


def utc(text):
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


STEPS = (cursor, gaps, zoom)
