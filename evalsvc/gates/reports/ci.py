"""Machine-readable reports: JUnit XML, annotations, ``$GITHUB_OUTPUT``, GitLab metrics report, badge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from evalsvc.gates.reports.text import (
    absent_baseline,
    candidate,
    ended_with,
    errors_of,
    limit,
    notices,
    observed,
    plain,
    qualifiers,
    scope,
    title,
)

ANNOTATIONS = 10
"""GitHub shows at most ten errors and ten warnings per step."""
COLORS = {"PASS": "brightgreen", "FAIL": "red", "INCONCLUSIVE": "yellow"}
MAPPED = {"FAIL": "failure", "INCONCLUSIVE": "failure"}


def junit(document: Mapping[str, Any]) -> str:
    """One test case per limit.

    ``failure``: beyond the limit or not surely within it; ``error``: missing, not comparable or broken; ``skipped``:
    advisory or waived. Valid against both schemas in use: ``junit-10.xsd`` of Jenkins, and Ant's ``JUnit.xsd``, where
    timestamps have no time zone.
    """
    name = f"gate {plain(document['suite'], 100)}"
    when = datetime.fromisoformat(document["at"]).astimezone(UTC)
    suite = ElementTree.Element("testsuite", id="0", package="evalsvc", name=name, hostname="localhost", time="0")
    suite.set("timestamp", when.strftime("%Y-%m-%dT%H:%M:%S"))
    facts = ElementTree.SubElement(suite, "properties")
    named = {"outcome": title(document), **{key: document[key] for key in ("gate", "policy_digest")}}
    for fact, value in (named | ({"scope": scope(document)} if scope(document) else {})).items():
        ElementTree.SubElement(facts, "property", name=fact, value=str(value))
    counts = {"failure": 0, "error": 0, "skipped": 0}
    cases = 0
    for notice in notices(document):
        case = ElementTree.SubElement(suite, "testcase", classname=candidate(document), name="notice", time="0")
        ElementTree.SubElement(case, "skipped", {"message": notice})
        cases, counts["skipped"] = cases + 1, counts["skipped"] + 1
    for metric in document["verdict"]["metrics"]:
        limits = metric["limits"] or [
            {"kind": "", "limit": 0.0, "status": metric["status"], "reason": metric["reason"]}
        ]
        for each in limits:
            words = limit(each["kind"], each["limit"]) if each["kind"] else "reported"
            name = f"{plain(metric['metric'], 100)} {words}"
            case = ElementTree.SubElement(suite, "testcase", classname=candidate(document), name=name, time="0")
            cases += 1
            status, reason = each["status"], plain(each["reason"] or metric["reason"])
            if status == "PASS":
                continue
            kind = "skipped" if metric["tier"] == "advisory" or metric["waiver"] else _kind(metric, status)
            if kind is None:
                continue
            counts[kind] += 1
            attributes = {"message": f"{status}: {reason}"} | ({"type": status} if kind != "skipped" else {})
            ElementTree.SubElement(case, kind, attributes)
    if document["verdict"]["status"] != "PASS" and not counts["failure"] + counts["error"]:
        case = ElementTree.SubElement(suite, "testcase", classname=candidate(document), name="the gate", time="0")
        cases, counts["error"] = cases + 1, 1
        message = f"{document['verdict']['status']}: {plain(document['verdict']['reason'])}"
        ElementTree.SubElement(case, "error", {"message": message, "type": document["verdict"]["status"]})
    totals = {"tests": cases, "failures": counts["failure"], "errors": counts["error"], "skipped": counts["skipped"]}
    for name, count in totals.items():
        suite.set(name, str(count))
    ElementTree.SubElement(suite, "system-out")
    ElementTree.SubElement(suite, "system-err")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _kind(metric: Mapping[str, Any], status: str) -> str | None:
    if status == "INCONCLUSIVE" and metric["tier"] == "supporting":
        return "skipped"
    # An omitted limit does not decide; the status of its metric says whether evidence is missing.
    if status == "UNKNOWN":
        return "error" if metric["blocks"] else "skipped"
    return MAPPED.get(status, "error")


def workflow_commands(document: Mapping[str, Any]) -> str:
    """GitHub workflow commands, one per line: errors for blocking findings, warnings for the rest."""
    verdict = document["verdict"]
    blocking = [
        (f"{each['metric']} {each['status']}", each["reason"]) for each in verdict["metrics"] if each["blocks"]
    ][: ANNOTATIONS - 1]
    if verdict["status"] != "PASS":
        blocking.append((f"gate {title(document)}", candidate(document)))
    warnings = [("gate", notice) for notice in notices(document)]
    errors = blocking if ended_with(document) else []
    if not errors:
        warnings += blocking
    warnings += [("gate", warning) for warning in verdict["warnings"]]
    levels = [("error", each) for each in errors] + [("warning", each) for each in warnings[:ANNOTATIONS]]
    return "".join(f"::{level} title={_property(head)}::{_message(text)}\n" for level, (head, text) in levels)


def _message(text: str) -> str:
    return plain(text).replace("%", "%25")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def github_output(document: Mapping[str, Any]) -> str:
    """Lines for ``$GITHUB_OUTPUT``: single-line values only, so that a name cannot inject another output."""
    said = notices(document)
    fields = ({"notice": "; ".join(said)} if said else {}) | {
        "status": document["verdict"]["status"],
        "exit-code": ended_with(document),
        "passed": str(document["verdict"]["status"] == "PASS").lower(),
        "candidate": candidate(document),
        "samples": document["evidence"]["samples"],
        "gate": document["gate"],
    }
    return "".join(f"{name}={plain(value)}\n" for name, value in fields.items())


def gitlab_metrics(document: Mapping[str, Any]) -> str:
    """OpenMetrics text for GitLab's ``artifacts:reports:metrics``: values, both errors, and whether the gate passed."""
    families: dict[str, list[str]] = {}
    if absent_baseline(document):
        families["evalsvc_gate_baseline_absent"] = ["evalsvc_gate_baseline_absent 1"]
    families |= {f"evalsvc_{name}": [] for name in ("score", "score_stderr", "score_stderr_reference")}
    for metric in document["verdict"]["metrics"]:
        side = observed(document, metric["metric"])
        if side is None:
            continue
        labels = f'{{metric="{_label(metric["metric"])}"}}'
        families["evalsvc_score"].append(f"evalsvc_score{labels} {side['value']!r}")
        for name, error in errors_of(side).items():
            families[f"evalsvc_score_{name}"].append(f"evalsvc_score_{name}{labels} {error!r}")
    passed = int(document["verdict"]["status"] == "PASS")
    families["evalsvc_gate_passed"] = [f"evalsvc_gate_passed {passed}"]
    lines = [line for name, samples in families.items() for line in [f"# TYPE {name} gauge", *samples]]
    return "\n".join([*lines, "# EOF", ""])


def _label(text: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", plain(text, 100))


def badge(document: Mapping[str, Any]) -> str:
    """A shields.io endpoint document; only a pass without qualifiers is green."""
    status, said = document["verdict"]["status"], qualifiers(document)
    color = COLORS.get(status, "lightgrey")
    if said:
        color = "lightgrey" if document["shadow"] else "yellow" if status == "PASS" else "orange"
    body = {
        "schemaVersion": 1,
        "label": "gate",
        "message": "waived" if said == ["waived"] else title(document).lower().replace("_", " "),
        "color": color,
    }
    return json.dumps(body) + "\n"
