"""Every report is read by a parser of its format, with names that try to be more than names."""

import json
import re
import unicodedata
from datetime import timedelta
from pathlib import Path

import lxml.etree
import lxml.html
import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from evalsvc.core.errors import InputError, StorageError
from evalsvc.gates.decide import Decision, Step
from evalsvc.gates.documents import document
from evalsvc.gates.evidence import Absent
from evalsvc.gates.policy import AliasName
from evalsvc.gates.reports import ci, huggingface, markdown
from evalsvc.gates.reports.page import page
from evalsvc.gates.reports.text import plain
from evalsvc.gates.reports.write import FORMATS, requested, tell_github, write
from evalsvc.gates.resolution import Sides
from evalsvc.gates.verdict import judge
from evalsvc.store.tables import Checkpoint, Model

from .conftest import ONCE, TODAY, evidence, policy, seen
from .store import DIGITS

HOSTILE = [
    "<script>alert(1)</script>",
    "| x | y |",
    "\x1b[31mred\x1b[0m",
    "=cmd()|'/c calc'!A0",
    "two\nlines\r\n::error::forged",
    "\u202egnp.exe\u2066",
    "@everyone [click](javascript:alert(1)) ![i](https://x/y.png) #1 https://evil.example",
    '"quoted" \\ {label="x"}',
    "`code` **bold** <!-- comment --> &lt;b&gt; -->",
    "]]> %0A::set-output name=passed::true",
    "passed=true\nexit-code=0",
    "\x00\x07",
    "x" * 5000,
]
STATUSES = ["PASS", "FAIL", "INCONCLUSIVE", "MISSING", "NOT_COMPARABLE", "ERROR"]
SCHEMA = lxml.etree.XMLSchema(lxml.etree.parse(Path(__file__).with_name("junit.xsd")))


def decision(name="m", model="flow", reason="gone", alias="production"):
    """One metric of every status, and one of each tier, under names that a caller chooses."""
    waiver = {"metric": f"waived {name}", "reason": reason[:400], "by": reason[:400], "expires": TODAY + timedelta(1)}
    found = {
        f"PASS {name}": evidence(seen(20), seen(20)),
        f"FAIL {name}": evidence(seen(90), seen(20)),
        f"INCONCLUSIVE {name}": evidence(seen(22), seen(20)),
        f"MISSING {name}": evidence(Absent("missing", reason), seen(20)),
        f"NOT_COMPARABLE {name}": evidence(seen(20), seen(20, protocol="q", reference=reason)),
        f"ERROR {name}": evidence(seen(float("nan")), seen(20)),
        f"waived {name}": evidence(seen(90), seen(20)),
        f"advisory {name}": evidence(seen(90), seen(20)),
    }
    metrics = {label[:500]: {"max_worsening": 2.0} for label in found}
    metrics[f"advisory {name}"[:500]] = {"max_worsening": 2.0, "tier": "advisory"}
    found = {label[:500]: each for label, each in found.items()}
    waiver["metric"] = waiver["metric"][:500]
    gate = policy(metrics, waivers=[waiver], baseline={"alias": alias[:500]})
    rows = [Checkpoint(model=Model(name=model), step=step, digest="d" * 64) for step in (9, 5)]
    verdict = judge(gate, found, ONCE, TODAY)
    assert isinstance(gate.baseline, AliasName)
    return Decision(gate, DIGITS, Sides(rows[0], (rows[1],)), found, verdict, (Step(2000, 1, 1.96, verdict.status),))


def rendered(name="m", **names):
    texts = dict.fromkeys(("item", "prompt", "target", "baseline_answer", "candidate_answer"), f"text {name}")
    items = {"of": f"scorer {name}", "worse": 3, "paired": 9, "regressions": [{"difference": 0.5, **texts}] * 5}
    gate = {"gate": 1, "at": "2026-11-20T10:00:00+01:00", "items": [items]}
    return {**gate, **document(decision(name, **names), exit_code=1)}


@pytest.fixture(params=HOSTILE, ids=range(len(HOSTILE)))
def hostile(request):
    text = request.param
    return rendered(text, model=text, reason=text, alias=text)


@pytest.fixture
def harmless():
    return rendered()


def test_the_case_holds_every_status(harmless):
    assert {metric["status"] for metric in harmless["verdict"]["metrics"]} == set(STATUSES)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_plain_text_is_one_visible_line(text):
    shown = plain(text)
    assert len(shown) <= 300
    assert all(unicodedata.category(c)[0] != "C" for c in shown)
    assert "\n" not in shown


def test_junit_is_valid_and_counts_what_it_holds(hostile, harmless):
    root = lxml.etree.fromstring(ci.junit(hostile).encode())
    SCHEMA.assertValid(root)
    assert [(case.tag, len(case)) for case in root.iter()] == [
        (case.tag, len(case)) for case in lxml.etree.fromstring(ci.junit(harmless).encode()).iter()
    ]


def test_junit_tells_breaches_from_holes_and_skips_what_cannot_block(harmless):
    root = lxml.etree.fromstring(ci.junit(harmless).encode())
    [suite] = root
    assert suite.get("timestamp") == "2026-11-20T09:00:00"
    cases = suite.findall("testcase")
    outcome = {case.get("name").split()[0]: case[0].tag if len(case) else "passed" for case in cases}
    assert outcome == {
        "PASS": "passed",
        "FAIL": "failure",
        "INCONCLUSIVE": "failure",
        "MISSING": "error",
        "NOT_COMPARABLE": "error",
        "ERROR": "error",
        "waived": "skipped",
        "advisory": "skipped",
    }
    counted = [int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")]
    assert counted == [8, 2, 3, 2]


def tokens(text):
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        yield token
        yield from token.children or ()


def test_markdown_keeps_its_table_and_holds_no_markup_of_others(hostile, harmless):
    found = list(tokens(markdown.summary(hostile)))
    assert {token.content for token in found if token.type == "html_inline"} <= {"<code>", "</code>"}
    assert not [
        token for token in found if token.type in ("link_open", "image", "html_block", "strong_open", "em_open")
    ]
    shape = [token.type for token in found if token.type.startswith(("t", "h"))]
    assert shape == [token.type for token in tokens(markdown.summary(harmless)) if token.type.startswith(("t", "h"))]


def test_a_comment_is_found_again_and_never_too_long(hostile):
    body = markdown.comment(hostile)
    assert body.startswith(markdown.MARKER)
    assert body.count(markdown.MARKER) == 1
    hostile["verdict"]["warnings"] = ["| <b> " * 60] * 2000
    long = markdown.comment(hostile)
    assert len(long) < 65_536
    assert long.rstrip().endswith("Truncated: see the job summary for the rest.")


def test_annotations_are_lines_of_their_own_and_within_githubs_limits(hostile):
    hostile["verdict"]["metrics"] *= 5
    hostile["verdict"]["warnings"] *= 30
    lines = ci.workflow_commands(hostile).splitlines()
    assert all(re.fullmatch(r"::(error|warning) title=[^:,\r\n]*::[^\r\n]*", line) for line in lines)
    assert sum(line.startswith("::error") for line in lines) <= 10
    assert sum(line.startswith("::warning") for line in lines) <= 10
    assert not re.search(r"%(?!25|3A|2C)", "\n".join(lines))


def test_outputs_are_the_six_that_we_name_and_no_name_adds_one(hostile):
    pairs = dict(line.split("=", 1) for line in ci.github_output(hostile).splitlines())
    assert list(pairs) == ["status", "exit-code", "passed", "candidate", "samples", "gate"]
    assert pairs["passed"] == "false"
    assert pairs["exit-code"] == "1"


def test_gitlabs_metrics_are_openmetrics(hostile):
    families = {family.name: family for family in text_string_to_metric_families(ci.gitlab_metrics(hostile))}
    errors = {"evalsvc_score_stderr", "evalsvc_score_stderr_reference"}
    assert set(families) == {"evalsvc_score", "evalsvc_gate_passed"} | errors
    assert families["evalsvc_gate_passed"].samples[0].value == 0
    assert [sample.value for sample in families["evalsvc_score"].samples] == [20, 90, 22, 20, 90, 90]


def test_the_page_runs_nothing_and_fetches_nothing(hostile, harmless):
    grids = {"<img src=x onerror=alert(1)>": np.zeros((9, 3, 8, 8), np.uint8)}
    root = lxml.html.document_fromstring(page(hostile, grids))
    assert not root.xpath("//script|//iframe|//object|//link|//a|//form")
    assert not [
        name for each in root.iter() if isinstance(each.tag, str) for name in each.attrib if name.startswith("on")
    ]
    assert all(image.get("src").startswith("data:image/png;base64,") for image in root.xpath("//img"))
    expected = lxml.html.document_fromstring(page(harmless, grids))
    assert [each.tag for each in root.iter()] == [each.tag for each in expected.iter()]
    assert len(root.xpath("//svg")) == 5


def test_json_and_badge_are_json(hostile):
    assert json.loads(FORMATS["json"](hostile))["verdict"]["status"] == "ERROR"
    shown = json.loads(ci.badge(hostile))
    assert shown["schemaVersion"] == 1
    assert shown["message"] == "error"


def test_the_model_card_survives_the_hub_library(hostile):
    card = ModelCard(huggingface.model_index(hostile))
    results = card.data.eval_results
    assert [result.metric_value for result in results] == [20, 90, 22, 20, 90, 90]
    assert {result.task_type for result in results} == {"unconditional-image-generation"}
    again = ModelCard(f"---\n{card.data.to_yaml()}\n---\n")
    assert [r.metric_name for r in again.data.eval_results] == [r.metric_name for r in results]


def test_eval_results_survive_the_hub_library(hostile):
    entries = parse_eval_result_entries(yaml.safe_load(huggingface.eval_results(hostile)))
    assert [entry.value for entry in entries] == [20, 90, 22, 20, 90, 90]
    assert {entry.dataset_id for entry in entries} == {"digits@1"}


def test_reports_are_written_where_they_are_asked_for(harmless, tmp_path):
    wanted = requested([f"{name}={tmp_path / 'out' / name}" for name in (*FORMATS, "html")])
    write(harmless, wanted)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(wanted)
    with pytest.raises(InputError, match="use FORMAT=PATH"):
        requested(["pdf=x"])
    with pytest.raises(InputError, match="use FORMAT=PATH"):
        requested(["json=."])


def test_github_gets_summary_outputs_and_commands_only_where_it_asks(harmless, tmp_path):
    assert tell_github(harmless, {}) == ""
    names = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    (tmp_path / "output").write_text("earlier=1\n")
    with pytest.raises(StorageError, match="GITHUB_OUTPUT could not be written to /dev/null/x"):
        tell_github(harmless, {"GITHUB_OUTPUT": "/dev/null/x"})
    commands = tell_github(harmless, names | {"GITHUB_ACTIONS": "true"})
    assert commands.startswith("::error")
    assert (tmp_path / "summary").read_text().startswith("## ")
    assert (tmp_path / "output").read_text().startswith("earlier=1\nstatus=ERROR\n")
