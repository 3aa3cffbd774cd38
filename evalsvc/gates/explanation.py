"""Explain a stored decision: which limits decided, what would decide the open ones, and what share of the level was
spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from evalsvc.gates.reports.text import limit, observed

MOST_SEEDS = 64
"""The largest number of seeds that ``more_samples`` allows."""


@dataclass(frozen=True)
class LimitExplanation:
    """One limit of a decision.

    ``decides``: the outcome depended on it. ``room`` is the fraction of its uncertainty (toward the worse side) that
    fits between the estimate and the limit; at 1 and above, the limit surely holds. ``samples`` is the approximate
    number of samples that would decide it if the estimate stayed the same; ``seeds`` is that number in whole runs of
    the suite.
    """

    metric: str
    limit: str
    tier: str
    status: str
    reason: str
    decides: bool
    room: float | None = None
    samples: int | None = None
    seeds: int | None = None
    advice: str = ""


def explain(document: Mapping[str, Any]) -> list[LimitExplanation]:
    """Every limit of a decision, the deciding ones first.

    A passed gate is decided by the limit with the least room, any other gate by all limits with its own status.
    """
    found = [
        _limit(document, metric, each)
        for metric in document["verdict"]["metrics"]
        for each in metric["limits"] or [{"kind": "", "limit": 0.0} | {k: metric[k] for k in ("status", "reason")}]
    ]
    if document["verdict"]["status"] == "PASS":
        known = [each for each in found if each.decides and each.room is not None]
        least = min(known, key=lambda each: cast(float, each.room), default=None)
        found = [replace(each, decides=each is least) for each in found]
    return sorted(found, key=lambda each: not each.decides)


def _limit(document: Mapping[str, Any], metric: Mapping[str, Any], each: Mapping[str, Any]) -> LimitExplanation:
    status = document["verdict"]["status"]
    strict = metric["tier"] != "advisory" and not metric["waiver"]
    decides = strict and each["status"] == status and bool(each["kind"]) and (status == "PASS" or metric["blocks"])
    seen = document["evidence"]["metrics"].get(metric["metric"], {})
    compared = next((c for c in seen.get("comparisons", []) if c["kind"] == each["kind"]), None)
    made = LimitExplanation(
        metric["metric"],
        limit(each["kind"], each["limit"]) if each["kind"] else "reported",
        metric["tier"],
        each["status"],
        each["reason"] or metric["reason"],
        decides,
    )
    side = observed(document, metric["metric"])
    if compared is None or side is None or any(isinstance(compared[key], str) for key in ("estimate", "low", "high")):
        return made
    bad = -1 if each["kind"] == "min" else 1
    slack = bad * (compared["limit"] - compared["estimate"])
    toward = compared["high" if (slack > 0) == (bad > 0) else "low"]
    width = abs(toward - compared["estimate"])
    made = replace(made, room=slack / width if width and slack >= 0 else None)
    if each["status"] not in ("INCONCLUSIVE", "MISSING"):
        return made
    of_reference = compared["errors"].get("reference", 0.0)
    if each["kind"] == "max_worsening_rel":  # errors are in the unit of the score, and this interval in shares of it
        baseline = observed(document, metric["metric"], "baseline") or {}
        of_reference /= abs(baseline.get("value") or math.inf)
    return replace(made, **_more(document, side, slack, width, of_reference))


def _more(
    document: Mapping[str, Any], side: Mapping[str, Any], slack: float, width: float, of_reference: float
) -> dict[str, Any]:
    """How many more samples would decide: an error decreases with the square root of their number, but not the part
    of it that comes from the reference.
    """
    evidence, least = document["evidence"], document["policy"]["defaults"]["min_samples"]
    whole = evidence["suite_samples"]
    if side.get("shared"):
        few = f" and {least} of them (min_samples)" if side["n"] < least else ""
        return {"advice": f"its error comes from the documents of the reference: only more documents{few} would decide"}
    fixed = min(evidence["looks"][-1]["z"] * of_reference, width) if evidence["looks"] else 0.0
    if fixed and abs(slack) <= fixed:
        rows = f" of {side['reference_rows']:,} rows" if side.get("reference_rows") else ""
        way_out = "use a larger reference, or 'reference: fixed'"
        return {"advice": f"more samples cannot decide it, because the reference is a sample{rows}: {way_out}"}
    if evidence["looks"] and evidence["looks"][-1]["samples"] < whole:
        return {"samples": whole, "seeds": 1, "advice": "only some of the suite's samples were used"}
    if side["n"] < least:
        return {"samples": least, "seeds": math.ceil(least / whole), "advice": f"min_samples requires {least}"}
    width, slack = (math.sqrt(max(each**2 - fixed**2, 0.0)) for each in (width, slack))
    if slack * MOST_SEEDS**0.5 < width:
        advice = f"{MOST_SEEDS} runs, the maximum of more_samples, would not decide: the estimate is at the limit"
        return {"advice": advice}
    samples = math.ceil(side["n"] * max(1.0, (width / slack) ** 2))
    seeds = math.ceil(samples / whole)
    advice = f"on_inconclusive: {{more_samples: {seeds}}} would allow them, or use a suite with more samples"
    return {"samples": samples, "seeds": seeds, "advice": advice}
