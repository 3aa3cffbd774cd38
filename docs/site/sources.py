"""Pages that are written by hand, at their places on the site and with links that hold there."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2`*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")


def copy_sources(target: Path) -> None:
    """Copy README, docs and examples below ``target``; Markdown with its links rewritten."""
    for source in sources():
        path = target / site_path(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text(rewrite_links((ROOT / source).read_text(), source))
        else:
            shutil.copyfile(ROOT / source, path)


def sources() -> list[str]:
    """Paths in the repository of all that the site is made from."""
    folders = [path for name in ("docs", "examples") for path in sorted((ROOT / name).rglob("*"))]
    files = [
        *sorted(ROOT.glob("*.md")),
        ROOT / "benchmarks" / "RESULTS.md",
        *(path for path in folders if path.is_file()),
    ]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    left_out = re.compile(r"docs/site/|docs/\w+\.py$|.*__pycache__|.*\.ipynb$")
    return [name for name in names if not left_out.match(name)]


def site_path(source: str) -> str:
    """Where a file of the repository lies on the site: README is its first page, and docs/ its root."""
    return "index.md" if source == "README.md" else source.removeprefix("docs/")


def rewrite_links(text: str, source: str) -> str:
    """Turn relative links of a page of the repository into those of its page on the site; code stays as it is."""
    folder = posixpath.dirname(source)
    here = posixpath.dirname(site_path(source))

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1])).replace(".ipynb", ".md")
        if (ROOT / target).is_dir():
            target += "/README.md"
        return posixpath.relpath(site_path(target), here or ".")

    return "".join(part if code else LINK.sub(moved, part) for code, part in _parts(text))


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """Pieces of a page in order, and whether each is a block of code."""
    start = 0
    for fence in FENCE.finditer(text):
        yield False, text[start : fence.start()]
        yield True, fence[0]
        start = fence.end()
    yield False, text[start:]
