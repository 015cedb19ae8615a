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
SHOWN = "document.querySelectorAll('.half > .plot > svg').length === 6"
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
        others = page.locator(".half > .plot").all()
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
        readouts = page.locator(".half .readout").all_inner_texts()
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
            "document.querySelectorAll('.half > .plot')[1].querySelectorAll('.line').length === 2",
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


class Fingers:
    """Two fingers on a chart, at shares of its width."""

    def __init__(self, page, chart):
        self.cdp, self.box = page.context.new_cdp_session(page), chart.bounding_box()
        self.cdp.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})

    def send(self, kind, shares):
        # The axis takes 44 pixels on the left, and 8 are free on the right.
        left, width = self.box["x"] + 44, self.box["width"] - 52
        points = [
            {"x": left + share * width, "y": self.box["y"] + 60, "id": number}
            for number, share in enumerate(shares)
        ]
        self.cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def move(self, start, end):
        """One after the other touches the chart, and all move to their ends."""
        for count in range(1, len(start) + 1):
            self.send("touchStart", start[:count])
        for step in range(1, 11):
            between = zip(start, end, strict=True)
            self.send("touchMove", [a + (b - a) * step / 10 for a, b in between])
        self.send("touchEnd", [])


def hours_shown(page):
    link = page.locator(".range a", has_text=re.compile("^CSV$")).get_attribute("href")
    start, end = (float(re.search(rf"[?&]{name}=([\d.]+)", link)[1]) for name in ("from", "to"))
    return (end - start) / 3600


def touch(session):
    with session.page(PHONE) as page:
        chart = open_charts(session, page)
        chart.scroll_into_view_if_needed()
        session.expect("the charts of a phone are drawn", page, SHOWN)
        fingers = Fingers(page, chart)
        fingers.send("touchStart", [0.3])
        fingers.send("touchMove", [0.6])
        text = spoken(chart)
        fingers.send("touchEnd", [])
        faults = [] if AT_CURSOR.match(text) else [text]
        faults += ["a finger zooms"] if page.evaluate(IS_ZOOMED) else []
        session.report("one finger moves the cursor", faults)
        fingers.move([0.45, 0.55], [0.2, 0.8])
        session.expect("two fingers apart zoom in", page, IS_ZOOMED)
        hours = hours_shown(page)
        session.report("what is below the fingers stays", [] if 3.8 < hours < 4.2 else [f"{hours} h"])
        session.check_page("charts that were zoomed by touch", page)
        fingers.move([0.2, 0.4], [0.5, 0.7])
        moved = becomes_true(page, IS_ZOOMED)
        hours = hours_shown(page)
        faults = [] if moved and 3.8 < hours < 4.2 else [f"{hours} h"]
        session.report("two fingers move the span", faults)
        fingers.move([0.2, 0.8], [0.47, 0.53])
        session.expect("two fingers together show the whole range", page, f"!{TIMES}")


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
    shown = int(page.locator(".half > .plot").first.get_attribute("aria-valuemax")) + 1
    if shown != len(moments):
        faults.append(f"{len(moments)} rows for {shown} points")
    session.report("the table has what the charts show", faults)


def utc(text):
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


STEPS = (cursor, gaps, zoom, touch)
