"""Text shared by all renderers, and the sanitizing of untrusted names."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from evalsvc.store.tables import Gate

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
WORDS = {
    "max": "at most",
    "min": "at least",
    "max_worsening": "worse by at most",
    "max_distance_from_reference": "from the right value at most",
}


def plain(value: object, longest: int = LONGEST) -> str:
    """One line of printable characters: without control characters, direction marks or escape sequences."""
    text = str(value)
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def stored(row: Gate) -> dict[str, Any]:
    """The fields of a stored decision that the functions below read."""
    return {
        "verdict": row.verdict,
        "evidence": row.evidence,
        "policy": row.policy,
        "exit_code": row.exit_code,
        "shadow": row.shadow,
    }


def ended_with(document: Mapping[str, Any]) -> int:
    """The exit code of the gate's process: always 0 for a shadow gate."""
    return 0 if document["shadow"] else int(document["exit_code"])


def title(document: Mapping[str, Any]) -> str:
    """The status with its qualifiers, such as ``PASS (no baseline, waived)``."""
    said = qualifiers(document)
    status = str(document["verdict"]["status"])
    return f"{status} ({', '.join(said)})" if said else status


def mark(document: Mapping[str, Any]) -> str:
    """The symbol in front of a title; the check mark is reserved for a pass without qualifiers."""
    status = document["verdict"]["status"]
    return MARKS["ERROR"] if status == "PASS" and qualifiers(document) else MARKS[status]


def qualifiers(document: Mapping[str, Any]) -> list[str]:
    """Qualifiers of a status: ``no baseline``, ``waived``, ``warned`` (not passed, but exit code 0), ``shadow``."""
    verdict = document["verdict"]
    found = ["no baseline"] if absent_baseline(document) else []
    if verdict["status"] == "PASS" and any(
        each["waiver"] and each["tier"] != "advisory" for each in verdict.get("metrics", ())
    ):
        found.append("waived")
    if document["shadow"]:
        found.append("shadow")
    elif verdict["status"] != "PASS" and not ended_with(document):
        found.append("warned")
    return found


def absent_baseline(document: Mapping[str, Any]) -> str:
    """The reason why limits against a baseline were omitted, if the policy permits that; otherwise empty."""
    for metric in document["verdict"].get("metrics", ()):
        if any(each["kind"].startswith("max_worsening") and each["status"] == "UNKNOWN" for each in metric["limits"]):
            side = document["evidence"]["metrics"].get(metric["metric"], {}).get("baseline") or {}
            return plain(side.get("reason") or "there is no baseline")
    return ""


def scope(document: Mapping[str, Any]) -> str:
    """Which references the verdict is about; empty if no gated score has one."""
    sides = [observed(document, metric) or {} for metric in document["evidence"]["metrics"]]
    if not any(side.get("reference_method") for side in sides):
        return ""
    sampled = document["policy"].get("reference") == "sampled"
    return "for references like this one" if sampled else "on this reference file"


def scoped(document: Mapping[str, Any]) -> str:
    """The scope within a sentence, with a space before it."""
    said = scope(document)
    return f" {said}" if said else ""


def notices(document: Mapping[str, Any]) -> list[str]:
    """Notices that every report shows first."""
    found = []
    if reason := absent_baseline(document):
        found.append(f"no baseline ({reason}): only absolute limits were judged")
    said = qualifiers(document)
    if "shadow" in said:
        found.append("shadow gate: the result is recorded and has no effect")
    if "warned" in said:
        status = document["verdict"]["status"]
        policy = document["policy"].get("on_inconclusive", {}).get("then") == "warn" and status == "INCONCLUSIVE"
        found.append(
            f"the gate is {status} and exits with 0 because of {'on_inconclusive.then' if policy else '--warn-only'}"
        )
    return found


def candidate(document: Mapping[str, Any]) -> str:
    """``model@step``, with the digits or options that disambiguated it when the gate was decided."""
    return plain(_name(document["candidate"]), 240)


def baseline(document: Mapping[str, Any]) -> str:
    """The baseline rule and the checkpoints that it selected."""
    side = document["baseline"]
    if side is None:
        return "none"
    named = ", ".join(map(_name, side["checkpoints"]))
    return plain(f"{side['rule']} ({named})" if named and named != side["rule"] else side["rule"], 200)


def _name(side: Mapping[str, Any]) -> str:
    return str(side.get("name") or f"{side['model']}@{side['step']}")


def limit(kind: str, value: float) -> str:
    """A limit in words."""
    return (
        f"worse by at most {value:.3g} of the baseline" if kind == "max_worsening_rel" else f"{WORDS[kind]} {value:g}"
    )


def values(document: Mapping[str, Any], metric: str) -> tuple[str, str]:
    """The values of candidate and baseline with their errors."""
    sides = document["evidence"]["metrics"].get(metric, {})
    return _value(sides.get("candidate")), _value(sides.get("baseline"))


def observed(document: Mapping[str, Any], metric: str, side: str = "candidate") -> Mapping[str, Any] | None:
    """The numbers of a side, if it has any."""
    found = document["evidence"]["metrics"].get(metric, {}).get(side)
    if not found or "absent" in found or isinstance(found["value"], str):
        return None
    return dict(found)


def errors_of(side: Mapping[str, Any]) -> dict[str, float]:
    """The known errors of a side: ``stderr``, and ``stderr_reference`` unless it is 0."""
    found = {name: side.get(name) for name in ("stderr", "stderr_reference")}
    return {name: error for name, error in found.items() if isinstance(error, float) and (error or name == "stderr")}


def _value(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "–"
    if "absent" in side:
        return str(side["absent"])
    if isinstance(side["value"], str):
        return plain(side["value"])
    words = {"stderr": " ±", "stderr_reference": ", reference ±"}
    return f"{side['value']:.4g}" + "".join(f"{words[name]} {error:.2g}" for name, error in errors_of(side).items())
