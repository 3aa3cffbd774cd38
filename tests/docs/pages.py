"""The pages that people read, cut into blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^ *```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(evalsvc [a-z][^`\n]*)`")
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    if path.name != "CHANGELOG.md"
)
EXAMPLES = sorted(
    path for path in (ROOT / "examples").rglob("*") if path.is_file() and path.suffix not in (".md", ".png", ".pyc")
)


@dataclass(frozen=True)
class Block:
    """A block of code, its language, and the name of the file that a reader saves it as."""

    page: Path
    language: str
    title: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    """All blocks in these languages."""
    for page in PAGES:
        for fence in FENCE.finditer(page.read_text()):
            if fence[1] in languages:
                yield Block(page, fence[1], fence[2] or "", fence[3])


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell block; those that ``&&`` or ``|`` joins are several."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word not in ("&&", "|"):
                words.append(word)
            elif words := _without_variables(words):
                yield words
                words = []


def _without_variables(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words
