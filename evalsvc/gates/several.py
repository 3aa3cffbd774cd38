"""Run a policy of several suites: one gate per suite, and one verdict over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalsvc.core.deadline import TimeLimit
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.gates.policy import Policy, name_in
from evalsvc.gates.reports.text import notices, title
from evalsvc.gates.runner import Recorded, run_gate
from evalsvc.gates.verdict import SEVERITY, Status
from evalsvc.inputs.suites import Suite
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint


def run_policy(
    policy: Policy, database: Database, suites: Sequence[Suite], context: EvaluationContext | None = None, **more: Any
) -> Recorded:
    """Decide and store one gate per suite, as :func:`run_gate` does, and combine them.

    The result has the number of the last gate, the most severe status and its exit code. Scores of further suites are
    named ``SUITE/SCORE``. The correction for multiple limits covers all suites.
    """
    more["timeout"] = limit if isinstance(limit := more.get("timeout"), TimeLimit) else TimeLimit(limit)
    judged: list[Recorded] = []
    for part, suite in zip(policy.parts, suites, strict=True):
        judged.append(run_gate(part, database, suite, context, **more))
        first = judged[0].decision.sides.candidate
        if isinstance(first, Checkpoint):
            more["candidate"] = first.id
    return judged[0] if len(judged) == 1 else Recorded(judged[-1].id, judged[0].decision, _combined(policy, judged))


def _combined(policy: Policy, judged: Sequence[Recorded]) -> dict[str, Any]:
    documents = [each.document for each in judged]
    by_severity = sorted(documents, key=lambda each: SEVERITY.index(Status(each["verdict"]["status"])))
    worst = by_severity[0]["verdict"]["status"]
    seen: dict[str, Any] = {}
    metrics, looks, reasons = [], [], []
    for place, (part, document) in enumerate(zip(policy.parts, documents, strict=True)):
        for metric in document["verdict"]["metrics"]:
            name = name_in(part.suite, metric["metric"], place)
            metrics.append(metric | {"metric": name})
            if metric["metric"] in document["evidence"]["metrics"]:
                seen[name] = document["evidence"]["metrics"][metric["metric"]]
        looks += document["evidence"]["looks"]
        if document["verdict"]["status"] == worst:
            reasons.append(f"{document['suite']}: {document['verdict']['reason']}")
    warnings = dict.fromkeys(warning for each in documents for warning in each["verdict"]["warnings"])
    verdict = {"status": worst, "reason": "; ".join(reasons), "warnings": list(warnings), "metrics": metrics}
    samples = sum(each["evidence"]["samples"] for each in documents)
    last = documents[-1]
    body = dict(documents[0]) | {
        "suite": ", ".join(each["suite"] for each in documents),
        "policy_digest": policy.digest,
        "policy": policy.model_dump(mode="json", by_alias=True),
        "exit_code": next((each["exit_code"] for each in by_severity if each["exit_code"]), 0),
        "evidence": documents[0]["evidence"] | {"metrics": seen, "looks": looks, "samples": samples, "spending": None},
        "verdict": verdict,
    }
    return body | {
        "gate": last["gate"],
        "gates": [each["gate"] for each in documents],
        "at": last["at"],
        "outcome": title(body),
        "notices": notices(body),
    }
