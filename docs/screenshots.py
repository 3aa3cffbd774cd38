"""The README's screenshots of every page, from what `make demo` left behind: `make pictures`."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking --no-first-run"
)
LOST = "conditional-gan-without-3%404000"
"""A checkpoint that lost one class."""
PAGES = {
    "leaderboard": ("", 860),
    "trends": ("trends", 900),
    "compare": ("compare", 1240),
    "tradeoffs": ("tradeoffs", 1000),
    "samples": ("samples", 1020),
    "items": (f"items?suite=digits-by-class%401&checkpoint={LOST}&against=conditional-gan%404000", 2180),
    "slices": (f"items?suite=digits-by-class%401&checkpoint={LOST}&view=slices&score=frechet_distance", 900),
    "memorisation": ("memorisation?checkpoint=flow%404000", 1180),
    "features": ("features?checkpoint=gan%404000", 900),
    "rate": ("rate", 900),
    "scorecard": ("scorecard?checkpoint=flow%404000", 900),
    "gates": ("gates", 1100),
    "operations": ("operations", 620),
    "checkpoint": ("checkpoint?checkpoint=flow%404000", 1100),
}
DARK = {"trends", "features"}


def main() -> None:
    """Serve, look, and keep what is seen."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "evalsvc", "dashboard", "--port", str(port)], env=os.environ)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health")
                break
            except OSError:
                time.sleep(0.2)
        look(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait()


def look(site: str) -> None:
    """A PNG of every page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        for name, (path, height) in PAGES.items():
            scheme = "dark" if name in DARK else "light"
            page = browser.new_page(viewport={"width": 1360, "height": height}, color_scheme=scheme)
            suite = "" if "suite=" in path else f"{'&' if '?' in path else '?'}suite=digits%401"
            page.goto(f"{site}/{path}{suite}")
            page.get_by_test_id("stHeading").first.wait_for(timeout=60_000)
            page.wait_for_timeout(6000)
            expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=60_000)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.save(IMAGES / f"page-{name}.png", optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
