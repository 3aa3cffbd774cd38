"""Formatting: sanitizing of untrusted text, numbers, cards, and styles that the theme does not cover."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from evalsvc.gates.reports.text import plain

ALL = 1_000_000
"""Longer than any text, for texts that are truncated in the middle."""
ARROWS = {"lower": "↓", "higher": "↑", "neutral": ""}
MARKS = {
    "PASS": "✓",
    "FAIL": "✕",
    "INCONCLUSIVE": "?",
    "MISSING": "–",
    "NOT_COMPARABLE": "≠",
    "ERROR": "!",
    "UNKNOWN": "·",
}
TEXT = {
    False: {"ink": "#1A1F2B", "quiet": "#525B6B", "good": "#0B6B4F", "bad": "#A8261B"},
    True: {"ink": "#E8ECF3", "quiet": "#B4BCCA", "good": "#63D6AC", "bad": "#FF9A8B"},
}
"""Text colors of the light and the dark theme; each has a contrast of at least 4.5 on every background of its theme."""
STYLE = """
<style>
[data-testid="stMainBlockContainer"]{padding-top:2.6rem;padding-bottom:3rem;max-width:1500px}
[data-testid="stCaptionContainer"],[data-testid="stCaptionContainer"] *{opacity:1;color:var(--ev-quiet)!important}
[data-testid="stButtonGroup"] p,[data-testid="stSliderThumbValue"] p{color:var(--ev-ink)}
[data-testid="stCode"] .token{color:var(--ev-ink)!important}
[data-testid="stCode"] .token.inserted{color:var(--ev-good)!important}
[data-testid="stCode"] .token.deleted{color:var(--ev-bad)!important}
[data-stale="true"]{opacity:1!important}
[data-testid="stApp"] :not(pre)>code{font:inherit;color:inherit;background:none;padding:0;
  white-space:normal;overflow-wrap:anywhere}
.ev-card{border:1px solid color-mix(in srgb,currentColor 16%,transparent);border-radius:14px;padding:1.1rem 1.3rem;
  height:100%;background:color-mix(in srgb,currentColor 2.5%,transparent)}
.ev-kicker{font-size:.8rem;letter-spacing:.04em;opacity:.85;margin:0 0 .25rem}
.ev-big{font-size:2.1rem;line-height:1.15;font-weight:650;margin:0;overflow-wrap:anywhere;letter-spacing:-.02em}
.ev-number{font-size:1.25rem;font-variant-numeric:tabular-nums;margin:.35rem 0 0}
.ev-note{margin:.6rem 0 0;font-size:.92rem;opacity:.92;overflow-wrap:anywhere}
.ev-name{font-weight:600;overflow-wrap:anywhere}
.ev-chip{display:inline-block;border-radius:99px;padding:.08rem .6rem;font-size:.8rem;font-weight:600;
  border:1px solid color-mix(in srgb,currentColor 30%,transparent);margin-right:.35rem}
.ev-facts{border-collapse:collapse;width:100%;font-size:.92rem}
.ev-facts th{font-weight:500;text-align:left;
  padding:.3rem 1rem .3rem 0;vertical-align:top;white-space:nowrap;opacity:.85}
.ev-facts td{padding:.3rem 0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.ev-facts tr+tr th,.ev-facts tr+tr td{border-top:1px solid color-mix(in srgb,currentColor 10%,transparent)}
.ev-text{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.9rem;
  line-height:1.45;padding:.7rem .9rem;border-radius:10px;
  background:color-mix(in srgb,currentColor 5%,transparent);margin:0}
.ev-text ins{color:var(--ev-good);text-decoration:underline}
.ev-text del{color:var(--ev-bad);text-decoration:line-through}
[data-testid="stImage"] img{image-rendering:pixelated;border-radius:6px}
</style>
"""


def style(dark: bool) -> str:
    """The style sheet, with the text colors of a theme."""
    root = ";".join(f"--ev-{name}:{color}" for name, color in TEXT[dark].items())
    return f"{STYLE}<style>:root{{{root}}}</style>"


def cut(text: object, longest: int = 300) -> str:
    """Untrusted text as one line of printable characters; a long text keeps both ends."""
    whole = plain(text, ALL)
    head, tail = longest // 2, (longest - 1) // 2
    return whole if len(whole) <= longest else f"{whole[:head]}…{whole[len(whole) - tail :]}"


def safe(text: object, longest: int = 300) -> str:
    """Untrusted text for use in Markdown: as code, which is styled like its surroundings (:data:`STYLE`).

    Escaping each character is not enough: Streamlit still replaces URLs, e-mail addresses, icons, colors, emoji and
    arrows in escaped text, but not in code.
    """
    shown = cut(text, longest)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    edge = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{edge}{shown}{edge}{fence}" if shown else "–"


def html(text: object, longest: int = 300) -> str:
    """Untrusted text, escaped for HTML."""
    return escape(cut(text, longest))


def unique_labels(labels: Mapping[str, str], taken: Collection[str] = ()) -> dict[str, str]:
    """Unique labels for values, which also differ from all labels in ``taken``.

    Streamlit's lists return the label, and tables and charts identify columns and lines by it, so equal labels get a
    digest of their values.
    """
    counts, used, found = Counter(labels.values()), set(taken), {}
    for key, label in labels.items():
        shown, length = label, 0
        while shown in used or (counts[label] > 1 and not length):
            length += 8
            digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
            shown = f"{label} ~{(digest * length)[:length]}"
        used.add(shown)
        found[key] = shown
    return found


def grid(rows: Sequence[Mapping[str, Any]], **options: Any) -> Any:
    """A table of rows; headings and cells may be untrusted."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    headings = unique_labels({name: cut(name) for name in names})
    shown = [{headings[name]: cut(v, 2000) if isinstance(v, str) else v for name, v in row.items()} for row in rows]
    return st.dataframe(shown, hide_index=True, **options)


def file_name(text: str, suffix: str) -> str:
    """An untrusted name as the name of a downloaded file."""
    return re.sub(r"[^\w.-]+", "-", cut(text, 100).replace("@", "-")).strip(".-") + suffix


def number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, without an exponent if the number is readable without one."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}" if value == 0 or 1e-4 <= abs(value) < 1e6 else f"{value:.2e}"


def with_error(value: float, stderr: float | None) -> str:
    """``12.34 ± 0.25``: the standard error to two significant digits, the value to the same decimal place."""
    if not stderr:
        return number(value)
    if not 1e-4 <= stderr < 1e6:
        return f"{number(value)} ± {stderr:.1e}"
    places = max(0, 1 - int(f"{stderr:e}".partition("e")[2]))
    return f"{value:.{places}f} ± {stderr:.{places}f}"


def interval(low: float | None, high: float | None) -> str:
    """``12.1 … 12.9``."""
    return "–" if low is None or high is None else f"{number(low)} … {number(high)}"


def card(kicker: str, big: str, value: str = "", note: str = "") -> None:
    """A highlighted statement. All four arguments are HTML: pass untrusted text through :func:`html`."""
    lines = f'<p class="ev-kicker">{kicker}</p><p class="ev-big">{big}</p>'
    lines += f'<p class="ev-number">{value}</p>' if value else ""
    lines += f'<p class="ev-note">{note}</p>' if note else ""
    st.html(f'<div class="ev-card">{lines}</div>')


def facts(rows: dict[str, object]) -> None:
    """Names and values, one per line; both may be untrusted."""
    body = "".join(f"<tr><th scope=row>{html(name)}</th><td>{html(value)}</td></tr>" for name, value in rows.items())
    st.html(f'<table class="ev-facts"><tbody>{body}</tbody></table>')


def heading(title: str, note: str) -> None:
    """The title and introduction of a page."""
    st.title(title, anchor=False)
    st.caption(note)
