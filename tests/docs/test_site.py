"""The documentation site builds without a warning, and fetches nothing from elsewhere."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.site.__main__ import build, make

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"


@pytest.fixture(scope="module")
def site() -> str:
    """The site, built; what was said meanwhile."""
    code, said = make(SITE)
    assert code == 0, said
    return said


class Fetched(HTMLParser):
    """Addresses that a browser fetches by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        named = {key: value or "" for key, value in attrs}
        self.addresses += [named[key] for key in ("src", "srcset", "poster", "data") if key in named]
        if tag == "link" and named.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.addresses.append(named["href"])


def test_it_builds_without_a_warning(site):
    assert "No issues found" in site


def test_a_broken_link_fails_the_build(tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text("# Home\n\n[a page](that-is-missing.md)\n")
    (tmp_path / "zensical.toml").write_text('[project]\nsite_name = "x"\ndocs_dir = "pages"\nsite_dir = "html"\n')
    code, said = build(tmp_path)
    assert code != 0
    assert "page does not exist" in said


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = list((SITE / "html").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text, fetched = page.read_text(), Fetched()
        fetched.feed(text)
        assert fetched.addresses
        assert not [each for each in fetched.addresses if re.match(r"(?:\w+:)?//", each)], page
        # Elements for which the theme's script would load a library from elsewhere.
        assert not re.search(r'class="[^"]*\b(?:mermaid|glightbox|pyodide|arithmatex)\b', text), page
    for style in (SITE / "html").rglob("*.css"):
        assert not re.search(r"@import|url\(\s*['\"]?(?:\w+:)?//", style.read_text()), style


def test_every_page_has_its_place_in_the_navigation(site):
    def paths(entry):
        if isinstance(entry, str):
            return {entry}
        return set().union(*map(paths, entry.values() if isinstance(entry, dict) else entry))

    navigation = paths(tomllib.loads((SITE / "zensical.toml").read_text())["project"]["nav"])
    pages = {path.relative_to(SITE / "pages").as_posix() for path in (SITE / "pages").rglob("*.md")}
    assert navigation <= pages
    assert {page for page in pages - navigation if not re.match(r"design/\d|examples/|benchmarks/", page)} == set()
