"""Untrusted texts as HTML: lines are kept, and words that differ between two texts are marked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher
from html import escape

LONGEST = 20_000
"""Longest text that is shown, in characters; of a longer one both ends."""
MOST_WORDS = 600
"""Words and spaces of each text that are compared: the time grows with their square (0.3 s at worst)."""
LONGEST_WORD = 1000
_PARTS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|\w+|\s+|[^\w\s]")
"""Words, single characters of Chinese, Japanese and Korean, spaces and marks."""


def shown(text: str, longest: int = LONGEST) -> str:
    """Printable characters and line ends of an untrusted text; of a longer text both ends."""
    if len(text) > longest:
        text = f"{text[: longest // 2]}…{text[len(text) - (longest - 1) // 2 :]}"
    return "".join(
        "    " if each == "\t" else " " if each != "\n" and unicodedata.category(each)[0] in "CZ" else each
        for each in text.replace("\r\n", "\n")
    )


def paragraph(text: str, longest: int = LONGEST) -> str:
    """An untrusted text as HTML, as it was written."""
    return f'<p class="ev-text">{escape(shown(text, longest)) or "–"}</p>'


def differing(before: str, after: str) -> str:
    """Two untrusted texts as one HTML paragraph: words of ``before`` alone are ``del``, of ``after`` alone ``ins``."""
    return f'<p class="ev-text">{"".join(_marked(shown(before), shown(after))) or "–"}</p>'


def _marked(before: str, after: str) -> Iterator[str]:
    (old, more_old), (new, more_new) = _words(before), _words(after)
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            yield escape("".join(new[c:d]))
            continue
        if b > a:
            yield f"<del>{escape(''.join(old[a:b]))}</del>"
        if d > c:
            yield f"<ins>{escape(''.join(new[c:d]))}</ins>"
    if more_old or more_new:
        yield " …"


def _words(text: str) -> tuple[list[str], bool]:
    """The first words of a text, and whether there are more."""
    found = [each[0][:LONGEST_WORD] for _, each in zip(range(MOST_WORDS + 1), _PARTS.finditer(text), strict=False)]
    return found[:MOST_WORDS], len(found) > MOST_WORDS
