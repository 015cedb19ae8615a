#!/usr/bin/env python3
"""The pictures of the dashboard in the documents, from the demo.

    screenshots.py BMS_READER CHROMIUM FOLDER
"""

import base64
import json
import os
import sys
import tempfile

from installation import Installation
from playwright.sync_api import sync_playwright
from session import Session, becomes_true

MAX_BYTES = 150_000
# Name, size, theme, battery of the demo or "" for all, and the last panel in the picture.
PICTURES = (
    ("batteries", (1280, 1240), "light", "", None),
    ("battery", (1280, 1100), "dark", "demo_rack_1", ".plot >> nth=1"),
    ("batteries-phone", (360, 1000), "light", "", None),
    ("battery-phone", (360, 1000), "dark", "demo_camper", None),
)
DRAWN = """document.querySelectorAll(".card").length > 7
    && [...document.querySelectorAll(".spark")].every((it) => it.querySelector("polyline"))
    && !document.querySelector(".card .problems li, .card .pill:not(.online)")"""
# Only browsers are sure to have an encoder. The page's own policy forbids images.
ENCODE = """async ([png, quality]) => {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/webp", quality });
  return [...new Uint8Array(await blob.arrayBuffer())];
}"""


def take(session, encoder, picture):
    name, size, theme, device, last = picture
    with session.page(size, theme) as page:
        # The demo simulates a fault every two minutes.
        if not becomes_true(page, DRAWN, 150):
            sys.exit(f"{name}: the demo is not ready: {page.inner_text('body')[:300]}")
        if device:
            session.open_view(page, device)
            page.wait_for_selector(".plot .line", state="attached")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1]}
        if last:
            box = page.locator(last).locator("xpath=ancestor::section").bounding_box()
            clip["height"] = box["y"] + box["height"] + 8
        png = base64.b64encode(page.screenshot(full_page=True, clip=clip)).decode()
    for quality in (0.95, 0.9, 0.8, 0.7):
        content = bytes(encoder.evaluate(ENCODE, [png, quality]))
        if len(content) <= MAX_BYTES:
            break
    path = os.path.join(session.folder, f"{name}.webp")
    with open(path, "wb") as file:
        file.write(content)
    print(f"{path}: {len(content)} bytes")


def main(program, chromium, folder):
    with (
        tempfile.TemporaryDirectory(prefix="bms-pictures.") as work,
        sync_playwright() as playwright,
    ):
        installation = Installation(program, work)
        try:
            # Its past is simulated, so it needs no file.
            installation.run({"HTTP_LISTEN": f"127.0.0.1:{installation.port}"}, "demo")
            count = len(json.loads(installation.get("api/overview"))["batteries"])
            print(f"{count} batteries and banks")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            session = Session(installation, browser, folder)
            encoder = browser.new_context().new_page()
            for picture in PICTURES:
                take(session, encoder, picture)
            browser.close()
        finally:
            installation.stop()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
