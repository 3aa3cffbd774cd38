"""A decision as plain data, for storage and for all renderers. Evidence and verdict are separate documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evalsvc.core.provenance import git_commit
from evalsvc.gates.decide import Decision
from evalsvc.gates.evidence import Absent, Evidence, Observation
from evalsvc.gates.reports.text import notices, scope, title
from evalsvc.gates.resolution import Sides, Unscored
from evalsvc.gates.spending import seeds_of
from evalsvc.gates.verdict import MetricVerdict
from evalsvc.store.tables import Checkpoint


def document(decision: Decision, *, exit_code: int, shadow: bool = False) -> dict[str, Any]:
    """The whole decision as JSON types, without NaN."""
    candidate, baseline = _names(decision.sides, decision)
    policy = decision.policy
    body = {
        "suite": decision.suite.id,
        "modality": decision.suite.modality,
        "policy_digest": policy.digest,
        "policy": policy.model_dump(mode="json", by_alias=True),
        "candidate": candidate,
        "baseline": baseline,
        "exit_code": exit_code,
        "shadow": shadow,
        "evidence": evidence(decision),
        "verdict": verdict(decision),
    }
    return {"outcome": title(body), "notices": notices(body), "scope": scope(body), **body}


def evidence(decision: Decision) -> dict[str, Any]:
    """Numbers, intervals, counts, protocols, comparisons and looks, without statuses."""
    baselines = decision.sides.baselines
    comparisons = {
        metric.label: [_finite(asdict(found.comparison)) for found in metric.findings if found.comparison]
        for metric in decision.verdict.metrics
    }
    metrics = {}
    for name, each in decision.evidence.items():
        metrics[name] = {
            "direction": each.direction,
            "candidate": _side(each.candidate),
            "baseline": _side(each.baseline),
            **_pairing(each),
            "comparisons": comparisons.get(name, []),
        }
    return {
        "metrics": _finite(metrics),
        "looks": [asdict(step) for step in decision.steps],
        "samples": decision.samples,
        "suite_samples": decision.suite.samples,
        "suite_digest": decision.suite.digest,
        "baseline_ids": [each.id for each in baselines] if isinstance(baselines, tuple) else [],
        "spending": spending(decision),
        "git_commit": git_commit(),
    }


def spending(decision: Decision) -> dict[str, Any] | None:
    """The share of the level that the decision spent, the evidence that it saw and the decisions before it; ``None`` if
    nothing was judged.
    """
    found, history = decision.spending, decision.history
    if found is None:
        return None
    earlier = [
        {
            "gate": each.gate,
            "at": each.at,
            "status": each.status,
            "shadow": each.shadow,
            "seeds": list(each.seeds),
            "share": each.share,
            "limits_changed": each.limits != found.limits,
            "metrics": dict(each.metrics),
        }
        for each in history.decisions
    ]
    return {
        "seeds": seeds_of(decision.evidence),
        "saw": found.saw,
        "limits": found.limits,
        "samples": found.look.samples,
        "replicates": found.look.replicates,
        "fractions": list(found.look.fractions),
        "share": found.look.share,
        "spent": found.spent,
        "spent_before": history.spent,
        "repeats": found.repeats.gate if found.repeats else None,
        "earlier": earlier,
    }


def _pairing(evidence: Evidence) -> dict[str, Any]:
    """Whether the units of both sides were paired, the reason if not, and the number of independent units of the
    smaller side.
    """
    same_protocol = len({getattr(side, "protocol", None) for side in (evidence.candidate, evidence.baseline)}) == 1
    gap = evidence.gap() if same_protocol else None
    return {"paired": gap.paired, "unpaired": gap.unpaired, "independent": gap.units} if gap else {}


def verdict(decision: Decision) -> dict[str, Any]:
    """Statuses and reasons."""
    found = decision.verdict
    metrics = [_metric(metric) for metric in found.metrics]
    return {
        "status": found.status,
        "reason": found.reason,
        "warnings": list(found.warnings),
        "metrics": metrics,
    }


def _metric(metric: MetricVerdict) -> dict[str, Any]:
    waiver = metric.waiver.model_dump(mode="json") if metric.waiver else None
    limits = [
        {"kind": found.kind, "limit": found.limit, "status": found.status, "reason": found.reason}
        for found in metric.findings
    ]
    return {
        "metric": metric.label,
        "tier": metric.tier,
        "status": metric.status,
        "reason": metric.reason,
        "blocks": metric.blocks,
        "limits": limits,
        "waiver": waiver,
    }


def _names(sides: Sides, decision: Decision) -> tuple[dict[str, Any], dict[str, Any] | None]:
    policy = decision.policy
    if isinstance(sides.candidate, Checkpoint):
        candidate = _checkpoint(sides, sides.candidate)
    else:
        why = sides.candidate
        asked = why if isinstance(why, Unscored) else Unscored(why.kind, why.reason)
        candidate = {"model": asked.model, "step": asked.step, "digest": asked.digest}
    if policy.baseline is None:
        return candidate, None
    found = [_checkpoint(sides, each) for each in sides.baselines] if isinstance(sides.baselines, tuple) else []
    return candidate, {"rule": str(policy.baseline), "checkpoints": found}


def _checkpoint(sides: Sides, row: Checkpoint) -> dict[str, Any]:
    return {
        "model": row.model.name,
        "step": row.step,
        "digest": row.digest,
        "name": sides.title(row),
        "configuration": row.configuration,
        "generator": row.generator,
        "generator_version": row.generator_version,
        "options": row.options,
    }


def _side(side: Observation | Absent | None) -> dict[str, Any] | None:
    if side is None:
        return None
    if isinstance(side, Absent):
        return {"absent": side.kind, "reason": side.reason}
    plain = {key: value for key, value in vars(side).items() if key not in ("singles", "members")}
    return plain | {"facts": dict(side.facts), "stderr": side.stderr}


def _finite(value: Any) -> Any:
    """Return NaN and infinity as strings, because JSON has no numbers for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
