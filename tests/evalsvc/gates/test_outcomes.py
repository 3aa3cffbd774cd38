"""A decision that is waived, shadowed, warned or without a baseline looks like what it is in every report."""

import json
from datetime import timedelta
from html import unescape

import lxml.etree
import pytest
from huggingface_hub import ModelCard

from evalsvc.core.errors import InputError
from evalsvc.gates.decide import Decision, Step
from evalsvc.gates.documents import document
from evalsvc.gates.evidence import Absent
from evalsvc.gates.reports import ci, markdown
from evalsvc.gates.reports.page import page
from evalsvc.gates.reports.write import FORMATS, requested, write
from evalsvc.gates.resolution import Sides
from evalsvc.gates.verdict import judge
from evalsvc.store.tables import Checkpoint, Model

from .conftest import ONCE, TODAY, evidence, policy, seen
from .store import DIGITS
from .test_reports import SCHEMA

GOOD, BAD, CLOSE = seen(20), seen(90), seen(40)
NOBODY = Absent("none", "alias 'production' was never set")
LIMITS = {"a": {"max": 40}, "b": {"max": 40}}


def decided(a=GOOD, b=GOOD, metrics=LIMITS, baseline=GOOD, shadow=False, warn_only=False, **changes):
    gate = policy(metrics, **changes)
    found = {name: evidence(side, baseline, label=name) for name, side in (("a", a), ("b", b))}
    row = Checkpoint(model=Model(name="flow"), step=9, digest="d" * 64)
    verdict = judge(gate, found, ONCE, TODAY)
    made = Decision(gate, DIGITS, Sides(row, ()), found, verdict, (Step(2000, 1, 1.96, verdict.status),))
    code = verdict.exit_code(gate, warn_only=warn_only)
    return {"gate": 1, "at": "2026-11-20T10:00:00+00:00", **document(made, exit_code=code, shadow=shadow)}


def waived(**more):
    waiver = {"metric": "b", "reason": "known", "by": "me", "expires": TODAY + timedelta(1)}
    return decided(b=BAD, waivers=[waiver], **more)


def without_baseline(**more):
    both = {"a": {"max": 40, "max_worsening": 1}, "b": {"max": 40}}
    return decided(metrics=both, baseline=NOBODY, on_missing_baseline="absolute-only", **more)


CASES = {
    "PASS": (decided(), "pass", "brightgreen", 0),
    "PASS (waived)": (waived(), "waived", "yellow", 0),
    "PASS (no baseline)": (without_baseline(), "pass (no baseline)", "yellow", 0),
    "PASS (shadow)": (decided(shadow=True), "pass (shadow)", "lightgrey", 0),
    "FAIL": (decided(BAD), "fail", "red", 3),
    "FAIL (shadow)": (decided(BAD, shadow=True), "fail (shadow)", "lightgrey", 0),
    "FAIL (warned)": (decided(BAD, warn_only=True), "fail (warned)", "orange", 0),
    "INCONCLUSIVE (warned)": (
        decided(CLOSE, on_inconclusive={"then": "warn"}),
        "inconclusive (warned)",
        "orange",
        0,
    ),
    "PASS (waived, shadow)": (waived(shadow=True), "pass (waived, shadow)", "lightgrey", 0),
    "MISSING": (decided(Absent("missing", "gone"), warn_only=True), "missing", "lightgrey", 5),
}


@pytest.mark.parametrize("title", CASES)
def test_a_decision_looks_like_what_it_is(title):
    body, message, colour, code = CASES[title]
    assert body["outcome"] == title
    badge = json.loads(ci.badge(body))
    assert (badge["message"], badge["color"]) == (message, colour)
    assert f"Gate {title}" in markdown.summary(body).splitlines()[0]
    assert f"Gate {title}</h1>" in page(body)
    outputs = dict(line.split("=", 1) for line in ci.github_output(body).splitlines())
    assert outputs["exit-code"] == str(code)
    commands = ci.workflow_commands(body)
    # A job that goes on shows no error, and one that ends shows why.
    assert ("::error" in commands) == (code != 0)
    assert ("::warning" in commands) == (title not in ("PASS", "FAIL", "MISSING")) or "one seed" in commands
    assert (markdown.summary(body).startswith("## ✅")) == (title == "PASS")


def test_an_absent_baseline_is_the_first_thing_that_every_report_says():
    body = without_baseline()
    reason = "alias 'production' was never set"
    assert list(body)[2:4] == ["outcome", "notices"]
    assert reason in body["notices"][0]
    assert reason in unescape(markdown.summary(body)).splitlines()[2]
    assert reason in unescape(markdown.comment(body)).splitlines()[3]
    first, *_ = lxml.etree.fromstring(ci.junit(body).encode()).iter("testcase")
    assert reason in first[0].get("message")
    SCHEMA.assertValid(lxml.etree.fromstring(ci.junit(body).encode()))
    assert ci.workflow_commands(body).splitlines()[0].startswith("::warning title=gate::no baseline")
    assert ci.github_output(body).startswith("notice=no baseline")
    assert ci.gitlab_metrics(body).splitlines()[1] == "evalsvc_gate_baseline_absent 1"
    assert "no baseline" in page(body).split("</h1>")[1][:40]
    assert ModelCard(FORMATS["model-index"](body)).data.eval_results
    for name in ("model-index", "eval-results"):
        assert FORMATS[name](body).removeprefix("---\n").startswith("# no baseline")


def test_several_reports_of_one_format_are_all_written(tmp_path):
    names = [f"json={tmp_path}/a.json", f"json={tmp_path}/b.json", f"badge={tmp_path}/c.json"]
    write(decided(), requested(names))
    a, b, c = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "abc")
    assert a == b
    assert a != c
    with pytest.raises(InputError, match="two reports have the path"):
        requested([f"json={tmp_path}/a.json", f"html={tmp_path}/x/../a.json"])
