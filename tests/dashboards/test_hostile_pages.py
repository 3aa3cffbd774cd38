"""Pages in a browser, of a store whose names would be links, icons, formulas, markup and parts of JavaScript."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import Browser, Error, Page, expect
from sqlalchemy import update

from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation, Score, Status

from .stores import add_failure, add_gate, fill
from .test_browser import browser, new_page, pytestmark, served, settled

__all__ = ["browser", "pytestmark"]

LONG = "M" * 195
NAMES = [
    "__proto__",
    "constructor",
    "toString",
    "https://evil.test/x www.evil.test ann@evil.test",
    ":material/delete: :smile: :red[x] $x^2$ -> <img src=//evil.test/i onerror=document.title='pwned'>",
    f"{LONG}a",
    f"{LONG}b",
]
LABELS = {2: "constructor", 3: "__proto__", 4: "www.evil.test :red[label]", 5: "x.y[z]['w']", 6: "datum.value"}
LOOK = """() => ({
  links: [...document.querySelectorAll('a[href]')].map(e => e.href).filter(h => new URL(h).host !== location.host),
  pictures: [...document.images].map(e => e.src)
    .filter(s => !/^(data|blob):/.test(s) && !s.startsWith(location.origin)),
  markup: [...document.querySelectorAll('.katex, [class*=stMarkdownColored], [onerror]')].map(e => e.outerHTML),
  icons: [...document.querySelectorAll('[data-testid^=stIconMaterial], [data-testid=stMarkdownMaterialIcon]')]
    .map(e => e.textContent).filter(t => t === 'delete'),
  failed: [...document.querySelectorAll('[data-testid=stException], [role=dialog]')].map(e => e.innerText),
  pwned: document.title.includes('pwned'),
})"""
NOTHING = {"links": [], "pictures": [], "markup": [], "icons": [], "failed": [], "pwned": False}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the hostile store."""
    home = tmp_path_factory.mktemp("hostile")
    database = Database(f"sqlite:///{home}/evalsvc.db")
    fill(database, NAMES, range(0, 2000, 1000), labels=7, family=NAMES[3])
    with database.write() as session:
        for position, label in LABELS.items():
            changed = {"label": label, "quantity": label, "unit": NAMES[4]}
            session.execute(update(Score).where(Score.position == position).values(**changed))
        session.execute(update(Evaluation).where(Evaluation.id == 3).values(status=Status.QUEUED))
    for place, name in enumerate(NAMES, 1):
        add_gate(database, name, 1000)
        add_failure(database, place, 1500, name)
    with served(os.environ | {"EVALSVC_HOME": str(home), "OMP_NUM_THREADS": "1"}, home / "here") as address:
        yield address


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page that remembers in ``asked`` and ``said`` what it fetched and what was wrong."""
    opened = new_page(browser)
    opened.asked, opened.said = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("console", lambda each: opened.said.append(each.text) if each.type == "error" else None)
    yield opened
    opened.close()


def points(page: Page) -> int:
    return page.locator("path[aria-roledescription=point]").count()


@pytest.mark.parametrize(
    ("view", "least"),
    [
        ("leaderboard?which=all", 12),
        ("trends", 13),
        ("compare?" + "&".join(f"checkpoint={quote(name)}@1000" for name in (*NAMES[:4], NAMES[6])), 10),
        ("tradeoffs", 13),
        ("gates", 7),
        ("operations", 0),
        ("trends?metric=https://evil.test/login", 0),
        ("gates?gate=ann@evil.test", 0),
    ],
)
def test_names_do_nothing_and_empty_no_chart(view, least, site, page):
    page.asked.clear()
    page.said.clear()
    page.goto(f"{site}/{view}")
    settled(page)
    page.wait_for_timeout(500)
    if least:
        expect(page.locator("path[aria-roledescription=point]").nth(least - 1)).to_be_attached()
        assert points(page) >= least
        for _ in range(10):  # a chart that is still being drawn hears nothing
            with suppress(AssertionError, Error):
                page.locator("path[aria-roledescription=point]").first.hover(force=True)
                expect(page.locator("#vg-tooltip-element")).to_be_visible(timeout=2000)
                break
            page.mouse.move(0, 0)
        expect(page.locator("#vg-tooltip-element")).to_be_visible()
        shown = page.locator(".role-axis-label text, .role-legend-label text").all_text_contents()
        assert not any(text.startswith("·") for text in shown)
    assert page.evaluate(LOOK) == NOTHING
    assert [url for url in page.asked if not url.startswith((site, "data:", "blob:"))] == []
    assert [text for text in page.said if "404" not in text] == []  # Streamlit tries where its socket may be


def test_labels_that_differ_only_behind_their_ends_choose_each_its_own(site, page):
    names = (NAMES[0], f"{LONG}a", f"{LONG}b")
    page.goto(f"{site}/compare?" + "&".join(f"checkpoint={name}@1000" for name in names))
    settled(page)
    buttons = page.get_by_test_id("stButtonGroup").last.get_by_role("radio")
    expect(buttons).to_have_count(2)
    for place, end in ((1, "b@1000"), (0, "a@1000")):
        buttons.nth(place).click()
        expect(page).to_have_url(re.compile("against=M+" + quote(end)))
        assert unquote(page.url).count(end) >= 2


def test_a_page_of_another_port_can_neither_frame_a_page_nor_open_its_socket(site, browser):
    page = new_page(browser)
    body = f"<iframe src='{site}/operations' width=1300 height=1300></iframe>"
    page.route("http://127.0.0.1:1/**", lambda route: route.fulfill(content_type="text/html", body=body))
    page.goto("http://127.0.0.1:1/")
    page.wait_for_timeout(1500)
    assert [frame.get_by_role("button").count() for frame in page.frames[1:]] == [0]
    assert page.frames[1].url.startswith("chrome-error:")
    tried = """address => new Promise(done => {
      const socket = new WebSocket(address, ["streamlit"]);
      socket.onopen = () => done("opened"); socket.onerror = () => done("refused");
    })"""
    assert page.evaluate(tried, f"{site.replace('http', 'ws')}/_stcore/stream") == "refused"
    page.close()
