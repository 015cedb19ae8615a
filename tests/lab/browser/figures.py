"""Figures of the demo after two days: printed only, none of them is a verdict."""

import re
import time

# Seconds for which a page is watched.
WATCHED = 20
# Tasks of more than 50 ms: so long the page answers nobody.
LONG_TASKS = """() => {
  window.longTasks = [];
  new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((one) => one.duration)))
    .observe({ type: "longtask" });
}"""
SERIES = "soc,power,pack_voltage,pack_current,min_cell_voltage,max_cell_voltage,min_temp,max_temp"


def fluid(page, what):
    """What the browser does while news come in."""
    session, news = page.context.new_cdp_session(page), []
    session.on("Network.eventSourceMessageReceived", lambda one: news.append(one))
    session.send("Network.enable")
    session.send("Performance.enable")

    def spent():
        metrics = session.send("Performance.getMetrics")["metrics"]
        told = {one["name"]: one["value"] * 1000 for one in metrics}
        return told["ScriptDuration"], told["LayoutDuration"] + told["RecalcStyleDuration"]

    page.evaluate(LONG_TASKS)
    news.clear()
    before = spent()
    page.wait_for_timeout(WATCHED * 1000)
    script, layout = (late - early for early, late in zip(before, spent(), strict=True))
    long, count = page.evaluate("longTasks"), max(1, len(news))
    print(
        f"figures: {what}: {len(news)} events in {WATCHED} s, "
        f"{len(long)} long tasks {[round(one) for one in long]} ms; for each event "
        f"{script / count:.2f} ms of script, {layout / count:.2f} ms of layout and style"
    )
    session.detach()


def past(house, ids):
    """Memory of the program, and how long the past of a battery takes."""
    with open(f"/proc/{house.reader.process.child.pid}/status") as file:
        memory = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
    took, size = [], 0
    for battery in ids:
        begin = time.monotonic()
        size = len(house.ask(f"api/devices/{battery}/history?hours=48&keys={SERIES}"))
        took.append((time.monotonic() - begin) * 1000)
    print(
        f"figures: {len(ids)} batteries and 48 h: {memory / 1024:.0f} MiB of memory, 48 h of 8 "
        f"series in {min(took):.0f} to {max(took):.0f} ms ({size / 1024:.0f} KiB)"
    )
