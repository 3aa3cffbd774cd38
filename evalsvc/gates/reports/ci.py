"""For machines: JUnit XML, annotations, ``$GITHUB_OUTPUT``, GitLab's metrics report, a badge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from evalsvc.gates.reports.text import candidate, limit, observed, plain

ANNOTATIONS = 10
"""GitHub shows ten errors and ten warnings of a step, and no more."""
COLOURS = {"PASS": "brightgreen", "FAIL": "red", "INCONCLUSIVE": "yellow"}
MAPPED = {"FAIL": "failure", "INCONCLUSIVE": "failure"}


def junit(document: Mapping[str, Any]) -> str:
    """A test case a limit. ``failure``: beyond the limit or not surely within; ``error``: missing, not comparable,
    broken; ``skipped``: advisory or waived.

    Valid against both schemas in use: ``junit-10.xsd`` of Jenkins, and Ant's ``JUnit.xsd``, where times have no zone.
    """
    name = f"gate {plain(document['suite'], 100)}"
    when = datetime.fromisoformat(document["at"]).astimezone(UTC)
    suite = ElementTree.Element("testsuite", id="0", package="evalsvc", name=name, hostname="localhost", time="0")
    suite.set("timestamp", when.strftime("%Y-%m-%dT%H:%M:%S"))
    facts = ElementTree.SubElement(suite, "properties")
    for fact in ("gate", "policy_digest"):
        ElementTree.SubElement(facts, "property", name=fact, value=str(document[fact]))
    counts = {"failure": 0, "error": 0, "skipped": 0}
    cases = 0
    for metric in document["verdict"]["metrics"]:
        limits = metric["limits"] or [
            {"kind": "", "limit": 0.0, "status": metric["status"], "reason": metric["reason"]}
        ]
        for each in limits:
            words = limit(each["kind"], each["limit"]) if each["kind"] else "reported"
            title = f"{plain(metric['metric'], 100)} {words}"
            case = ElementTree.SubElement(suite, "testcase", classname=candidate(document), name=title, time="0")
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
    # A limit that was left out has no say; its metric's own status tells whether that is a hole.
    if status == "UNKNOWN":
        return "error" if metric["blocks"] else "skipped"
    return MAPPED.get(status, "error")


def workflow_commands(document: Mapping[str, Any]) -> str:
    """GitHub workflow commands, one line each: errors for what blocks, warnings for the rest."""
    verdict = document["verdict"]
    lines = []
    for metric in [each for each in verdict["metrics"] if each["blocks"]][: ANNOTATIONS - 1]:
        title = f"{metric['metric']} {metric['status']}"
        lines.append(f"::error title={_property(title)}::{_message(metric['reason'])}")
    if verdict["status"] != "PASS":
        title = f"gate {verdict['status']}"
        lines.append(f"::error title={_property(title)}::{_message(candidate(document))}")
    lines += [f"::warning title=gate::{_message(warning)}" for warning in verdict["warnings"][:ANNOTATIONS]]
    return "".join(f"{line}\n" for line in lines)


def _message(text: str) -> str:
    return plain(text).replace("%", "%25")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def github_output(document: Mapping[str, Any]) -> str:
    """Lines for ``$GITHUB_OUTPUT``: single-line values only, so that no name can add an output of its own."""
    fields = {
        "status": document["verdict"]["status"],
        "exit-code": document["exit_code"],
        "passed": str(document["verdict"]["status"] == "PASS").lower(),
        "candidate": candidate(document),
        "samples": document["evidence"]["samples"],
        "gate": document["gate"],
    }
    return "".join(f"{name}={plain(value)}\n" for name, value in fields.items())


def gitlab_metrics(document: Mapping[str, Any]) -> str:
    """OpenMetrics text for GitLab's ``artifacts:reports:metrics``: values, errors, and whether the gate passed."""
    families: dict[str, list[str]] = {"evalsvc_score": [], "evalsvc_score_stderr": []}
    for metric in document["verdict"]["metrics"]:
        side = observed(document, metric["metric"])
        if side is None:
            continue
        labels = f'{{metric="{_label(metric["metric"])}"}}'
        families["evalsvc_score"].append(f"evalsvc_score{labels} {side['value']!r}")
        if isinstance(side["stderr"], float):
            families["evalsvc_score_stderr"].append(f"evalsvc_score_stderr{labels} {side['stderr']!r}")
    passed = int(document["verdict"]["status"] == "PASS")
    families["evalsvc_gate_passed"] = [f"evalsvc_gate_passed {passed}"]
    lines = [line for name, samples in families.items() for line in [f"# TYPE {name} gauge", *samples]]
    return "\n".join([*lines, "# EOF", ""])


def _label(text: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", plain(text, 100))


def badge(document: Mapping[str, Any]) -> str:
    """A shields.io endpoint."""
    status = document["verdict"]["status"]
    body = {
        "schemaVersion": 1,
        "label": "gate",
        "message": status.lower().replace("_", " "),
        "color": COLOURS.get(status, "lightgrey"),
    }
    return json.dumps(body) + "\n"
