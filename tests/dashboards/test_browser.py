"""The dashboards as a person meets them: a real server, a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

from benchmarks.items import fill
from evalsvc.builtin.demo import WEIGHTS
from evalsvc.core.settings import Settings
from evalsvc.dashboards.i18n import phrases
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.references import add_reference
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Rating

from .test_server import hostile_place

PAGES = (
    "leaderboard",
    "trends",
    "compare",
    "tradeoffs",
    "samples",
    "items",
    "memorization",
    "features",
    "rate",
    "scorecard",
    "gates",
    "operations",
)  # as the sidebar lists them
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking --no-first-run"
)
# Without it Axe writes down all that is well, too: most of its time.
BARRIERS_ONLY = {"resultTypes": ["violations"]}
# By rule, what Streamlit draws itself and we cannot mend: a div between the sidebar's list and the links of a section.
THEIRS = {"list": "ul[data-testid=stSidebarNavItems]", "listitem": "ul[data-testid=stSidebarNavItems] li"}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("EVALSVC_BROWSER_TESTS") != "required", reason="Chromium is not installed"
)
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def home(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo that may be written to, and beside it a suite of items."""
    made = Path(shutil.copytree(demo, tmp_path_factory.mktemp("browser") / "home"))
    settings = Settings(home=made, database_url="", artifacts="")
    fill(Database(settings.database), open_artifacts(settings), 40, 2, 2, "<b> $x$ :red[a] ")
    score_videos(settings, made)
    return made


def score_videos(settings: Settings, folder: Path) -> None:
    """Two checkpoints of six short videos, of an item each, beside videos of a reference."""
    context = EvaluationContext(settings, Plugins(), "cpu")
    clips = np.random.default_rng(0).integers(0, 256, (6, 5, 12, 16, 3), dtype=np.uint8)
    for name in ("real", "moving_1", "moving_2"):
        np.save(folder / f"{name}.npy", clips)
    add_reference(context.database, context.plugins, "clips", folder / "real.npy", None)
    (folder / "items.jsonl").write_text("".join(f'{{"prompt": "scene {i}"}}\n' for i in range(6)))
    suite = {
        **{"name": "clips", "version": 1, "modality": "video", "reference": "clips", "shard": 6, "gallery": 6},
        "items": {"file": str(folder / "items.jsonl"), "prompt": "prompt"},
        "scorers": {"time": {"use": "timing"}},
        "extractors": {"frames": {"use": "frame-wise", "options": {"frames": "pixels"}}},
        "metrics": [
            {"metric": "mean", "of": "time/seconds"},
            {"metric": "frechet_distance", "features": "frames/pixels"},
        ],
    }
    (folder / "clips.yaml").write_text(json.dumps(suite))
    for step in (1, 2):
        checkpoint = Checkpoint.open(folder / f"moving_{step}.npy", "moving", step)
        evaluate(plan(context, checkpoint, "samples", {}, load_suite(str(folder / "clips.yaml"))), context)
    context.database.engine.dispose()


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """Of every process here."""
    return os.environ | {"EVALSVC_HOME": str(home), "OMP_NUM_THREADS": "1"}


@contextmanager
def served(environment: dict[str, str], folder: Path) -> Iterator[str]:
    """The address of a running server, started where a settings file and variables would open everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = environment | hostile_place(folder) | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "evalsvc", "dashboard", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health")
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.2)
    yield address
    server.send_signal(signal.SIGTERM)
    server.wait(30)


@pytest.fixture(scope="module")
def site(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the demo."""
    with served(environment, tmp_path_factory.mktemp("here")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "Chromium is required here"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield opened
        opened.close()


def new_page(browser: Browser, scheme: str = "light") -> Page:
    page = browser.new_page(viewport={"width": 1360, "height": 1400}, color_scheme=scheme)
    page.set_default_timeout(30_000)
    return page


def settled(page: Page) -> None:
    """Wait until the page is written, has its style, which Streamlit loads apart, and no run is going on."""
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    expect(page.locator("html")).to_have_css("--ev-quiet", re.compile("#"))
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def test_a_person_finds_the_leader_compares_looks_rates_and_reads_a_failed_gate(site, browser, home):
    page = new_page(browser)
    page.goto(f"{site}?suite=digits@1")
    settled(page)
    expect(page.get_by_text("Shares the first place with")).to_be_visible()

    page.get_by_label("Metric").click()
    page.get_by_role("option", name="Recall").click()
    expect(page).to_have_url(re.compile("metric=recall"))
    page.get_by_text("all", exact=True).click()
    board = page.get_by_test_id("stDataFrame").first
    recalls = column(board, 4)
    expect(recalls).to_have_count(4)
    expect(page.locator("path[aria-roledescription=point]")).to_have_count(4)  # the plot above has grown, too
    best_first = recalls.all_text_contents()
    board.click(position={"x": 390, "y": 18})  # sort by the heading: the worst comes first
    expect(recalls).to_have_text(best_first[::-1])

    board.click(position={"x": 20, "y": 56})  # open the checkpoint on top
    expect(page).to_have_url(re.compile("checkpoint=gan%401000"))
    expect(page.get_by_text("Provenance", exact=True)).to_be_visible()

    page.get_by_role("link", name="Compare", exact=True).first.click()
    expect(page.get_by_text("flow@4000 · baseline").first).to_be_attached()
    page.get_by_test_id("stMultiSelect").get_by_label("Clear all").click()
    expect(page).not_to_have_url(re.compile("checkpoint="))
    for name in ("gan@1000", "flow@2000"):
        page.get_by_role("combobox", name="Checkpoints, the baseline first").click()
        page.get_by_role("option", name=name).click()
        expect(page).to_have_url(re.compile(name.replace("@", "%40")))
    page.keyboard.press("Escape")  # an open list hides the rest of the page from roles
    expect(page.get_by_text("flow@2000 against gan@1000")).to_be_visible()
    expect(page.locator("td", has_text="▲").first).to_be_attached()

    page.get_by_role("link", name="Samples", exact=True).first.click()
    slider = page.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", "4,000")
    slider.press("ArrowLeft")
    expect(page).to_have_url(re.compile("step=2000"))
    expect(page.get_by_text("gan@1000").first).to_be_visible()

    page.get_by_role("link", name="Rate", exact=True).first.click()
    settled(page)
    ratings = column(page.get_by_test_id("stDataFrame").first, 2)
    for number, key in enumerate("0112112112"):
        expect(page.get_by_role("button", name="Left is better")).to_be_visible()
        settled(page)
        for _ in range(4):  # a key pressed before the page has taken up the new pair is not heard
            page.wait_for_timeout(700)
            page.keyboard.press(key)
            if rated(home, number + 1):
                break
        if number == 0:
            expect(ratings).to_have_text(["–", "–"])  # nothing but a tie rates nobody
    expect(column(page.get_by_test_id("stDataFrame").first, 4)).to_have_text(["10", "10"])

    page.get_by_role("link", name="Features", exact=True).first.click()
    opened = page.get_by_role("heading", name=re.compile(r"(real|manifold|outside) · \d+"))
    for _ in range(10):  # a map that is still being drawn hears no click, and a chart of the page before leaves
        with suppress(AssertionError, Error):
            page.locator("path[aria-roledescription=point]").first.click(force=True)
            expect(opened).to_be_visible(timeout=6000)
            break
    expect(opened).to_be_visible()
    expect(page.get_by_alt_text(re.compile(r"Samples of .* \d+"))).to_be_visible()

    page.get_by_role("link", name="Gates", exact=True).first.click()
    page.get_by_role("combobox", name="Decision").click()
    page.get_by_role("option", name=re.compile("FAIL · gan@1000")).click()
    expect(page.get_by_text("Evidence for each limit")).to_be_visible()
    expect(page.get_by_text("✕ FAIL").first).to_be_visible()
    page.close()


def column(table: Locator, index: int) -> Locator:
    """The cells of a column from top to bottom, as a screen reader gets them from the drawn table."""
    return table.locator(f"[id^='glide-cell-{index}-']")


def rated(home: Path, count: int) -> bool:
    """Whether there come to be so many ratings within ten seconds."""
    database = Database(f"sqlite:///{home}/evalsvc.db")
    for _ in range(100):
        with database.read() as session:
            if session.query(Rating).count() >= count:
                return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_barrier_that_is_ours_or_fetches_anything_from_elsewhere(scheme, site, browser):
    page = new_page(browser, scheme)
    found, elsewhere = [], []
    page.on("request", lambda each: elsewhere.append(each.url) if not each.url.startswith((site, "data:")) else None)
    page.goto(f"{site}/checkpoint?suite=digits@1")
    links = page.get_by_test_id("stSidebarNavLink")
    for number, view in enumerate(["checkpoint", *PAGES]):
        if number:
            links.nth(number - 1).click()
            expect(page.get_by_test_id("stHeading").first).to_have_text(phrases("en")[f"{view}.title"])
        found += [(view, *each) for each in barriers(page)]
    page.goto(f"{site}/items?suite=spoken@1&checkpoint=reader@2&against=reader@1")
    expect(page.get_by_role("heading", name="Item item-")).to_be_visible()
    found += [("an item", *each) for each in barriers(page)]
    page.close()
    assert not found
    assert not elsewhere


def barriers(page: Page) -> list[tuple[str, str]]:
    """Serious barriers of a page that are ours: the rule and the element."""
    settled(page)
    page.wait_for_timeout(700)
    found = []
    for violation in Axe().run(page, options=BARRIERS_ONLY).response["violations"]:
        if violation["impact"] in ("serious", "critical"):
            nodes = [node["html"][:200] for node in violation["nodes"] if not theirs(page, violation["id"], node)]
            found += [(violation["id"], node) for node in nodes]
    return found


def test_a_row_of_the_table_opens_its_item_and_the_link_says_which(site, browser):
    page = new_page(browser)
    page.goto(f"{site}/items?suite=spoken@1&checkpoint=reader@2&of=cer")
    settled(page)
    item = column(page.get_by_test_id("stDataFrame").first, 1)
    third = item.nth(2).text_content()
    page.get_by_test_id("stDataFrame").first.click(position={"x": 20, "y": 36 + 2 * 35 + 18})
    expect(page).to_have_url(re.compile(f"sample=./?.*{third}"))
    expect(page.get_by_role("heading", name=f"Item {third}")).to_be_visible()
    expect(page.locator(".ev-text ins").first).to_be_visible()
    page.close()


@pytest.mark.parametrize(
    "address",
    [
        "samples?suite=clips@1",
        "items?suite=clips@1&checkpoint=moving@1&of=seconds",
    ],
)
def test_videos_play(address, site, browser):
    page = new_page(browser)
    page.goto(f"{site}/{address}")
    settled(page)
    image = page.locator("[data-testid=stImage] img").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 240
    content = page.request.get(image.evaluate("image => image.src")).body()
    assert content.count(b"fcTL") == 5, "an animated PNG with all five frames"
    page.close()


def theirs(page: Page, rule: str, node: dict) -> bool:
    return rule in THEIRS and page.locator(node["target"][0]).evaluate("(e, own) => e.matches(own)", THEIRS[rule])


def test_a_bar_moves_and_a_row_appears_while_a_worker_scores(site, browser, environment):
    page, board = new_page(browser), new_page(browser)
    board.goto(f"{site}?suite=digits@1")
    settled(board)
    row = board.locator("td", has_text="ddpm")
    expect(row).to_have_count(0)
    page.goto(f"{site}/operations")
    settled(page)
    command = [sys.executable, "-m", "evalsvc"]
    checkpoint = str(WEIGHTS / "ddpm" / "step_4000.safetensors")
    subprocess.run(
        [*command, "submit", checkpoint, "--suite", "digits@1", "--generator", "ddpm"], env=environment, check=True
    )
    expect(page.get_by_text("no worker is running")).to_be_visible()
    worker = subprocess.Popen([*command, "worker", "--devices", "cpu", "--batch-size", "40"], env=environment)
    try:
        seen: set[str] = set()
        ends = time.monotonic() + 120
        while time.monotonic() < ends and not row.count():
            for text in page.get_by_test_id("stProgress").all_inner_texts():
                seen.update(re.findall(r"\d+%", text))
            page.wait_for_timeout(200)
        expect(row.first).to_be_attached()  # nobody loaded the page again
        assert len(seen) >= 3, seen
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    board.close()
    page.close()
