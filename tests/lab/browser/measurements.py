"""Measurements of the demo with two days of history. They are printed and decide nothing."""

import re
import time

# Seconds for which a page is observed.
OBSERVED = 20
# Tasks of more than 50 ms, during which the page does not react.
RECORD_LONG_TASKS = """() => {
  window.longTasks = [];
  const record = (list) => longTasks.push(...list.getEntries().map((entry) => entry.duration));
  new PerformanceObserver(record).observe({ type: "longtask" });
}"""
SERIES = "soc,power,pack_voltage,pack_current,min_cell_voltage,max_cell_voltage,min_temp,max_temp"


def rendering(page, title):
    """The time that the browser spends on each server-sent event."""
    session, events = page.context.new_cdp_session(page), []
    # Playwright cannot call the built-in `events.append` itself.
    session.on("Network.eventSourceMessageReceived", lambda event: events.append(event))
    session.send("Network.enable")
    session.send("Performance.enable")

    def milliseconds():
        metrics = session.send("Performance.getMetrics")["metrics"]
        spent = {metric["name"]: metric["value"] * 1000 for metric in metrics}
        return spent["ScriptDuration"], spent["LayoutDuration"] + spent["RecalcStyleDuration"]

    page.evaluate(RECORD_LONG_TASKS)
    events.clear()
    before = milliseconds()
    page.wait_for_timeout(OBSERVED * 1000)
    script, layout = (end - start for start, end in zip(before, milliseconds(), strict=True))
    long_tasks, count = page.evaluate("longTasks"), max(1, len(events))
    print(
        f"measured: {title}: {len(events)} events in {OBSERVED} s, "
        f"{len(long_tasks)} long tasks {[round(task) for task in long_tasks]} ms; per event "
        f"{script / count:.2f} ms of script, {layout / count:.2f} ms of layout and style"
    )
    session.detach()


def history(installation, ids):
    """The memory of the program, and the time of a history request."""
    with open(f"/proc/{installation.reader.process.child.pid}/status") as file:
        memory = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
    durations, size = [], 0
    for battery in ids:
        begin = time.monotonic()
        size = len(installation.get(f"api/devices/{battery}/history?hours=48&keys={SERIES}"))
        durations.append((time.monotonic() - begin) * 1000)
    print(
        f"measured: {len(ids)} batteries and 48 h: {memory / 1024:.0f} MiB of memory, 48 h of 8 "
        f"series in {min(durations):.0f} to {max(durations):.0f} ms ({size / 1024:.0f} KiB)"
    )
