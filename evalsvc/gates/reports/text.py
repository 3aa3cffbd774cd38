"""What every renderer says, and how foreign text is made harmless before any of them says it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

LONGEST = 300
MARKS = {
    "PASS": "✅",
    "FAIL": "❌",
    "INCONCLUSIVE": "❔",
    "MISSING": "⬜",
    "NOT_COMPARABLE": "≠",
    "ERROR": "⚠️",
    "UNKNOWN": "·",
}
WORDS = {"max": "at most", "min": "at least", "max_worsening": "worse by at most"}


def plain(value: object, longest: int = LONGEST) -> str:
    """One line without anything that is not seen: no control characters, no direction marks, no escapes."""
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in str(value))
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def candidate(document: Mapping[str, Any]) -> str:
    """``model@step``."""
    side = document["candidate"]
    return plain(f"{side['model']}@{side['step']}", 120)


def baseline(document: Mapping[str, Any]) -> str:
    """The rule, and the checkpoints that it named."""
    side = document["baseline"]
    if side is None:
        return "none"
    named = ", ".join(f"{each['model']}@{each['step']}" for each in side["checkpoints"])
    return plain(f"{side['rule']} ({named})" if named and named != side["rule"] else side["rule"], 200)


def limit(kind: str, value: float) -> str:
    """A limit in words."""
    return f"worse by at most {value:.3g} of it" if kind == "max_worsening_rel" else f"{WORDS[kind]} {value:g}"


def values(document: Mapping[str, Any], metric: str) -> tuple[str, str]:
    """Candidate's and baseline's value with their errors."""
    sides = document["evidence"]["metrics"].get(metric, {})
    return _value(sides.get("candidate")), _value(sides.get("baseline"))


def observed(document: Mapping[str, Any], metric: str, side: str = "candidate") -> Mapping[str, Any] | None:
    """The numbers of a side, where it has any."""
    found = document["evidence"]["metrics"].get(metric, {}).get(side)
    if not found or "absent" in found or isinstance(found["value"], str):
        return None
    return dict(found)


def _value(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "–"
    if "absent" in side:
        return str(side["absent"])
    if isinstance(side["value"], str):
        return plain(side["value"])
    error = side["stderr"]
    return f"{side['value']:.4g}" + (f" ± {error:.2g}" if isinstance(error, float) else "")
