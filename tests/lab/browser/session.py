"""Pages of the dashboard in a browser, and the verdicts about them."""

import contextlib
import importlib.resources
import os
import sys
import time

from installation import NAMES, SOON
from playwright.sync_api import Error

PHONE, DESKTOP = (360, 740), (1280, 800)
# Size, theme and language: each of them with two others.
APPEARANCES = (
    (PHONE, "light", "de-DE"),
    (PHONE, "dark", "en-US"),
    (DESKTOP, "light", "en-US"),
    (DESKTOP, "dark", "de-DE"),
)
AXE = importlib.resources.files("axe_playwright_python") / "axe.min.js"
# What axe calls moderate or minor is a matter of taste.
RUN_AXE = """async () => (await axe.run()).violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`)"""
PAGE_CHECKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page_checks.js")


def becomes_true(page, condition, limit=SOON):
    """Polls a JavaScript condition. The content security policy of the page forbids Playwright's own waiting."""
    end = time.monotonic() + limit
    while True:
        with contextlib.suppress(Error):
            if page.evaluate(condition):
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


class Session:
    def __init__(self, installation, browser, folder):
        self.installation, self.browser, self.folder = installation, browser, folder
        self.passed = self.failed = 0
        self.console_errors = []
        with open(PAGE_CHECKS) as file:
            self.page_checks = file.read()
        self.axe = AXE.read_text() + "; undefined"

    # verdicts

    def report(self, title, faults):
        """Counts and prints a verdict: passed without faults."""
        if faults:
            self.failed += 1
        else:
            self.passed += 1
        print(f"{'FAIL ' if faults else 'ok   '} {title}")
        for fault in faults[:8]:
            print(f"      | {fault}")
        sys.stdout.flush()

    def expect(self, title, page, condition, limit=SOON):
        """Passes when a JavaScript condition becomes true in the page."""
        if becomes_true(page, condition, limit):
            self.report(title, [])
        else:
            text = page.inner_text("body")[:300].replace("\n", " / ")
            self.report(title, [f"{condition} never became true", text])

    def check_page(self, title, page):
        """Our own checks, and those of axe."""
        page.evaluate(self.axe)
        self.report(title, page.evaluate(self.page_checks) + page.evaluate(RUN_AXE))

    def check_console(self, title):
        self.report(f"{title}: no error in the console", self.console_errors)
        self.console_errors = []

    # pages

    @contextlib.contextmanager
    def page(self, size=DESKTOP, theme="light", locale="en-US"):
        width, height = size
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            reduced_motion="reduce",
            locale=locale,
        )
        page = context.new_page()
        page.on("console", self.on_console)
        page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        page.goto(self.installation.proxy.url)
        try:
            yield page
        finally:
            context.close()

    def on_console(self, message):
        if message.type in ("error", "warning"):
            self.console_errors.append(message.text)

    def open_view(self, page, device):
        """Opens a battery, or the list with "". Returns when the previous view is gone."""
        page.evaluate(
            """(hash) => location.hash === hash || new Promise((resolve) => {
                addEventListener("hashchange", resolve, { once: true });
                location.hash = hash;
            })""",
            f"#/{device}",
        )
        page.wait_for_selector("#title")

    def card(self, page, device):
        return page.locator(".card", has=page.get_by_role("link", name=NAMES[device], exact=True))

    def screenshot(self, page, name):
        page.screenshot(path=os.path.join(self.folder, f"{name}.png"), full_page=True)

    def screenshot_down_to(self, page, name, last):
        """The page from its top to the panel that contains `last`."""
        box = last.locator("xpath=ancestor::section").bounding_box()
        clip = {"x": 0, "y": 0, "width": page.viewport_size["width"]}
        clip["height"] = page.evaluate("scrollY") + box["y"] + box["height"] + 8
        path = os.path.join(self.folder, f"{name}.png")
        page.screenshot(path=path, full_page=True, clip=clip)
