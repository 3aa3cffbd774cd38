"""``gate init`` writes limits that noise seldom breaks, and ``gate explain`` tells what decided and what would."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsvc.analysis.differences import Run
from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.gates.calibrate import passing_margin
from evalsvc.gates.explanation import explain
from evalsvc.gates.first_policy import first_limits, policy_text, rounded
from evalsvc.gates.policy import load_policy, parse_policy
from evalsvc.gates.resolution import labels_of
from evalsvc.gates.runner import run_gate
from evalsvc.gates.verdict import judge
from evalsvc.store import queries
from evalsvc.store.names import find
from evalsvc.store.session import Database

from .conftest import ONCE, TODAY, evidence, seen
from .store import DIGITS, add_checkpoint, add_scores, gate_policy, point
from .test_outcomes import decided


def run(value, stderr=0.1, seed=0):
    return Run(value, stderr, value - 1.96 * (stderr or 0), value + 1.96 * (stderr or 0), 2000, "p", {}, "", seed=seed)


def invoke(*arguments):
    return CliRunner().invoke(app, ["gate", *map(str, arguments)])


@pytest.fixture
def store(home):
    database = Database(Settings().database)
    with database.write() as session:
        for step, value in ((5, 20.0), (9, 20.1)):
            made = add_checkpoint(session, step=step)
            add_scores(session, made, {"frechet_distance": value, "recall": (0.8, 0.01), "ct_score": 0.1})
        point(session, "production", find(session, "flow@5"))
    yield database
    database.engine.dispose()


def test_equal_checkpoints_pass_a_first_policy_95_times_of_100():
    """By exact normals, 2,000 pairs, within three standard errors."""
    [limits] = first_limits(DIGITS, {"frechet_distance": [run(20.0, 0.5)]})
    assert limits.margin == pytest.approx(passing_margin(0.5 * math.sqrt(2), 0.95, DIGITS.samples, 2), rel=0.1)
    policy = parse_policy(policy_text(DIGITS, "{alias: production}", [limits], "told"))
    pairs = 20.0 + 0.5 * np.random.default_rng(0).standard_normal((2000, 2))
    found = [evidence(seen(a, 0.5), seen(b, 0.5), label="frechet_distance") for a, b in pairs]
    passed = [judge(policy, {"frechet_distance": each}, ONCE, TODAY).status == "PASS" for each in found]
    assert np.mean(passed) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_the_spread_between_seeds_counts_and_a_score_without_an_error_or_a_side_is_only_reported():
    alone, spread = (first_limits(DIGITS, {"recall": runs})[0] for runs in ([run(0.8, 0.01)], [run(0.7), run(0.9)]))
    assert spread.margin > alone.margin
    assert 0.65 < alone.bound < 0.8 - alone.margin
    assert spread.bound is None, "no share lies that low"
    reported = first_limits(DIGITS, {"recall": [run(0.8, 0.01)], "ct_score": [run(0.1)], "vendi_score": [run(9, None)]})
    assert {each.label for each in reported if each.margin is None} == {"ct_score", "vendi_score"}
    with pytest.raises(InputError, match="no limit can be set"):
        first_limits(DIGITS, {"ct_score": [run(0.1)]})


@pytest.mark.parametrize(("value", "up", "expected"), [(1.234, True, 1.3), (0.0123, False, 0.012), (1234, True, 1300)])
def test_limits_are_rounded_to_the_lenient_side(value, up, expected):
    assert rounded(value, up=up) == expected
    assert rounded(expected, up=up) == expected


def test_init_writes_a_policy_that_the_next_gate_can_use_and_overwrites_none(store, tmp_path):
    file = tmp_path / "evalsvc-gate.yaml"
    assert invoke("init", file).exit_code == 0
    policy = load_policy(file)
    assert str(policy.baseline) == "alias production"
    assert policy.metrics["frechet_distance"].tier == "critical"
    assert (policy.metrics["recall"].tier, policy.metrics["ct_score"].tier) == ("supporting", "advisory")
    assert labels_of(policy, DIGITS)
    assert "From 1 run of flow@5 under digits@1." in file.read_text()
    assert run_gate(policy, store, DIGITS, today=TODAY, candidate="flow@9").document["verdict"]["status"] == "PASS"
    with store.write() as session:
        add_scores(session, find(session, "flow@9"), {"frechet_distance": 20.0}, seed=7, n=300)
    fewer = tmp_path / "fewer.yaml"
    assert invoke("init", fewer, "--baseline", "flow@9").exit_code == 0
    assert load_policy(fewer).defaults.min_samples == 300
    before = file.read_text()
    assert "exists: remove it" in str(invoke("init", file).exception)
    assert file.read_text() == before


def test_init_says_what_is_missing(store, tmp_path):
    file = tmp_path / "new.yaml"
    with store.write() as session:
        add_checkpoint(session, step=77)
    for arguments, complaint in (
        (["--suite", "faces"], "nothing has been scored under suite 'faces'"),
        (["--baseline", "flow@77"], "flow@77 has no scores under digits@1"),
        (["--baseline", "nobody"], "there is no checkpoint 'nobody'"),
    ):
        assert complaint in str(invoke("init", file, *arguments).exception)
        assert not file.exists()
    assert invoke("init", file, "--baseline", "flow@9").exit_code == 0
    assert str(load_policy(file).baseline) == "flow@9"


def limits(document):
    return {f"{each.metric} {each.limit}": each for each in explain(document)}


def test_a_pass_is_decided_by_the_limit_with_the_least_room():
    found = limits(decided(a=seen(20), b=seen(39.5)))
    assert [name for name, each in found.items() if each.decides] == ["b at most 40"]
    assert found["b at most 40"].room == pytest.approx(0.5 / (1.96 * 0.1), rel=0.1)


def test_a_failure_is_decided_by_what_failed_and_by_nothing_that_is_waived_or_advisory():
    found = limits(decided(a=seen(90), b=seen(40)))
    assert [name for name, each in found.items() if each.decides] == ["a at most 40"]
    advisory = decided(a=seen(90), b=seen(90), metrics={"a": {"max": 40}, "b": {"max": 40, "tier": "advisory"}})
    assert [each.metric for each in explain(advisory) if each.decides] == ["a"]


@pytest.mark.parametrize("distance", [0.15, 0.05, -0.05])
def test_as_many_samples_as_it_says_decide_what_was_open(distance):
    """At that many samples the same estimate is sure, at a tenth fewer it is not."""
    each = limits(decided(a=seen(40 - distance), b=seen(20)))["a at most 40"]
    assert each.decides
    for share, sure in ((1.0, True), (0.9, False)):
        error = 0.1 * math.sqrt(2000 / (share * each.samples))
        verdict = judge(
            gate_policy(metrics={"a": {"max": 40}}, baseline=None),
            {"a": evidence(seen(40 - distance, error, n=10**6), None, label="a")},
            ONCE,
            TODAY,
        )
        assert (verdict.status != "INCONCLUSIVE") == sure
    assert each.seeds == math.ceil(each.samples / DIGITS.samples)


def test_at_the_limit_no_number_of_samples_decides_and_holes_ask_for_none():
    for value in (40, 39.999):
        assert (
            "64 runs, the maximum of more_samples, would not decide"
            in limits(decided(a=seen(value)))["a at most 40"].advice
        )
    hole = limits(decided(a=seen(float("nan"))))["a at most 40"]
    assert (hole.decides, hole.samples, hole.status) == (True, None, "ERROR")


def test_explain_tells_what_earlier_decisions_spent(store):
    policy = gate_policy(candidate=None, metrics={"frechet_distance": {"max": 40, "max_worsening": 0.1}})
    for _ in range(2):
        run_gate(policy, store, DIGITS, today=TODAY, candidate="flow@9", shadow=True)
    told = json.loads(invoke("explain", "1", "--json").stdout)
    assert (told["candidate"], told["outcome"]) == ("flow@9", "INCONCLUSIVE (shadow)")
    assert told["limits"][0]["metric"] == "frechet_distance"
    assert told["limits"][0]["decides"]
    newest = invoke("explain").stdout
    assert "gate 2: flow@9 is INCONCLUSIVE (shadow)" in newest
    assert "repeats gate 1 on the same evidence; nothing was spent" in newest
    assert "a shadow gate" in newest
    assert "there is no gate 9" in str(invoke("explain", "9").exception)
    with store.read() as session:
        assert len(queries.gates(session)) == 2, "explaining decides nothing"


def test_a_gate_runs_the_file_of_a_plug_in_once(store, tmp_path):
    log, plug_in, policy = tmp_path / "log", tmp_path / "counts.py", tmp_path / "gate.yaml"
    plug_in.write_text(
        f"from evalsvc import register\nopen({str(log)!r}, 'a').write('x')\n"
        "@register('generators', 'counts')\nclass Counts: ...\n"
    )
    policy.write_text("version: 1\nsuite: digits@1\nmetrics: {frechet_distance: {max: 40}}\n")
    done = invoke("run", policy, "--candidate", "flow@9", "--stored", "--plugin", plug_in)
    assert (done.exit_code, log.read_text()) == (0, "x"), done.output
