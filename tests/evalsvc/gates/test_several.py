"""A policy may hold several suites: each is a gate of its own, and all of them have one verdict."""

import json

import pytest
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.gates.policy import Policy, parse_policy
from evalsvc.gates.promote import PromotionError, promote, protect
from evalsvc.gates.reports import ci, markdown
from evalsvc.gates.runner import run_gate
from evalsvc.gates.several import run_policy
from evalsvc.gates.verdict import judge
from evalsvc.inputs.suites import Suite
from evalsvc.store import queries
from evalsvc.store.names import find
from evalsvc.store.session import Database

from .conftest import ONCE, TODAY, evidence, seen
from .store import DIGITS, add_checkpoint, add_scores, gate_policy, point

FACES = Suite.model_validate(DIGITS.model_dump() | {"name": "faces"})
SUITES = (DIGITS, FACES)
HEAD = "version: 1\nsuite: digits@1\nbaseline: {alias: production}\nmetrics: {frechet_distance: {max_worsening: 2}}\n"
BOTH = HEAD + "also: [{suite: faces@1, metrics: {frechet_distance: {max: 40, max_worsening: 2}}}]\n"


@pytest.fixture
def store(home):
    """``flow@6`` is good under both suites, ``flow@7`` collapsed under the second; production is ``flow@5``."""
    database = Database(Settings().database)
    with database.write() as session:
        for step, faces in ((5, 20.0), (6, 19.5), (7, 90.0)):
            made = add_checkpoint(session, step=step)
            for suite, value in ((DIGITS, 20.0), (FACES, faces)):
                add_scores(session, made, {"frechet_distance": value, "recall": (0.8, 0.01)}, suite=suite)
        point(session, "production", find(session, "flow@5"))
    yield database
    database.engine.dispose()


def decided(database, candidate, text=BOTH, **more):
    policy = parse_policy(text)
    return run_policy(policy, database, SUITES, today=TODAY, candidate=candidate, **more)


def test_the_worst_suite_is_the_verdict_and_every_report_shows_both(store):
    good, bad = decided(store, "flow@6"), decided(store, "flow@7")
    assert (good.document["verdict"]["status"], good.exit_code) == ("PASS", 0)
    assert (bad.document["verdict"]["status"], bad.exit_code) == ("FAIL", 3)
    statuses = {each["metric"]: each["status"] for each in bad.document["verdict"]["metrics"]}
    assert statuses == {"frechet_distance": "PASS", "faces@1/frechet_distance": "FAIL"}
    assert bad.document["verdict"]["reason"].startswith("faces@1: frechet_distance: surely beyond")
    assert bad.document["suite"] == "digits@1, faces@1"
    assert "faces@1/frechet_distance" in ci.workflow_commands(bad.document)
    assert "90 ±" in markdown.summary(bad.document)
    with store.read() as session:
        assert [(row.suite, row.status) for row in queries.gates(session)][:2] == [
            ("faces@1", "FAIL"),
            ("digits@1", "PASS"),
        ]


def test_a_hole_under_one_suite_is_never_a_pass(store):
    with store.write() as session:
        add_scores(session, add_checkpoint(session, step=8), {"frechet_distance": 20.0})
    done = decided(store, "flow@8", warn_only=True)
    assert (done.document["verdict"]["status"], done.exit_code) == ("MISSING", 5)


def test_failing_is_corrected_over_the_limits_of_all_suites():
    """A worsening that one limit alone surely breaks is open where it is one of forty."""
    found = {"frechet_distance": evidence(seen(22.3), seen(20), label="frechet_distance")}
    many = ", ".join(f"m{number}: {{max: 1, tier: supporting}}" for number in range(40))
    alone = parse_policy(HEAD)
    more = f"{{{many}, frechet_distance: {{max: 40,"
    part = parse_policy(BOTH.replace("{frechet_distance: {max: 40,", more)).parts[0]
    assert (alone.family, part.family) == (1, 43)
    assert judge(alone, found, ONCE, TODAY).status == "FAIL"
    assert judge(part, found, ONCE, TODAY).status == "INCONCLUSIVE"


def test_policies_of_one_suite_keep_their_digest_and_parts_know_their_whole():
    policy = parse_policy(BOTH)
    assert parse_policy(HEAD).parts == (parse_policy(HEAD),)
    assert parse_policy(HEAD + "also: []\n").digest == parse_policy(HEAD).digest
    assert {part.part_of.digest for part in policy.parts} == {policy.digest}
    assert len({part.digest for part in (*policy.parts, policy, parse_policy(HEAD))}) == 4
    assert Policy.model_validate(policy.parts[1].model_dump(mode="json", by_alias=True)) == policy.parts[1]


def test_a_waiver_names_the_suite_of_its_metric():
    waiver = "waivers: [{metric: faces@1/frechet_distance, reason: r, by: b, expires: 2026-12-01}]\n"
    first, second = parse_policy(BOTH + waiver).parts
    assert (first.waivers, [each.metric for each in second.waivers]) == ((), ["frechet_distance"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BOTH.replace("faces@1", "digits@1"), "a suite is listed twice"),
        (BOTH.replace("{max: 40", "{tier: supporting, max: 40"), "no metric under faces@1 is critical"),
        (BOTH.replace("{alias: production}", "last-passing"), "last-passing supports only one suite"),
        (BOTH.replace("max: 40", "maximum: 40"), "unknown key also.0.metrics.frechet_distance.maximum"),
        (HEAD + "part_of: {digest: x, suites: 1, place: 0, limits: 99}\n", "unknown key part_of"),
        (BOTH + "waivers: [{metric: recall, reason: r, by: b, expires: 2026-12-01}]\n", "a waiver names 'recall'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_several_suites_is_one_sentence(text, complaint):
    with pytest.raises(InputError, match=complaint):
        parse_policy(text)


def test_a_protected_alias_takes_a_pass_under_every_suite(store):
    policy = parse_policy(BOTH)
    with store.write() as session:
        assert protect(session, "production", policy, SUITES, "boss").suite == "digits@1, faces@1"
    first = run_gate(policy.parts[0], store, DIGITS, today=TODAY, candidate="flow@6")
    with pytest.raises(PromotionError, match="the others were not judged"):
        promote(store, "production", "flow@6", first.id)
    bad = decided(store, "flow@7")
    for number in bad.document["gates"]:
        with pytest.raises(PromotionError, match="is FAIL"):
            promote(store, "production", "flow@7", number)
    other = run_gate(gate_policy(), store, DIGITS, today=TODAY, candidate="flow@6")
    with pytest.raises(PromotionError, match="is protected by policy"):
        promote(store, "production", "flow@6", other.id)
    good = decided(store, "flow@6")
    assert promote(store, "production", "flow@6", good.id) == "flow@6"
    with pytest.raises(PromotionError, match="is older than the last move"):
        promote(store, "production", "flow@6", good.document["gates"][0])


def test_no_way_to_gate_looks_at_the_first_suite_alone(store, tmp_path):
    with pytest.raises(InputError, match="several suites"):
        run_gate(parse_policy(BOTH), store, DIGITS, today=TODAY, candidate="flow@6")
    file = tmp_path / "gate.yaml"
    file.write_text(BOTH)
    for candidate, code in (("flow@6", 0), ("flow@7", 3)):
        done = CliRunner().invoke(app, ["gate", "run", str(file), "--candidate", candidate, "--stored", "--json"])
        assert done.exit_code == code
        assert len(json.loads(done.stdout)["verdict"]["metrics"]) == 2
    refused = CliRunner().invoke(app, ["alias", "set", "release", "flow@7", "--require-gate", str(file), "--stored"])
    assert refused.exit_code == 3
    assert CliRunner().invoke(app, ["gate", "check", str(file)]).exit_code == 0
