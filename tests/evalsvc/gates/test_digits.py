"""The facts that the demo's digits must show, and the command line on them."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsvc.builtin.demo import WEIGHTS
from evalsvc.builtin.demo.digits import splits
from evalsvc.cli.main import app
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.gates import evidence_collection, sources
from evalsvc.plugins.registry import Plugins
from evalsvc.store import names, queries
from evalsvc.store.session import Database

from .store import DIGITS

PARTS = ("pixels", "labels")

POLICY = """
version: 1
suite: digits@1
baseline: {model: flow, step: 2000}
allow_same: true
on_inconclusive: {more_samples: 4, then: fail}
metrics:
  frechet_distance: {max: 40, max_worsening: 2.0}
  recall: {min: 0.6, max_worsening_rel: 0.05}
  vendi: {tier: advisory}
"""
WIDE = POLICY.replace("2.0", "5.0").replace("0.05", "0.15").replace("{model: flow, step: 2000}", "{alias: production}")


@contextmanager
def production(folder):
    """A home in which one checkpoint is scored, once, and in production."""
    (folder / "gate.yaml").write_text(POLICY)
    (folder / "wide.yaml").write_text(WIDE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALSVC_HOME", str(folder / "home"))
        patch.delenv("EVALSVC_DATABASE_URL", raising=False)
        flow = WEIGHTS / "flow" / "step_2000.safetensors"
        invoke("score", str(flow), "--generator", "flow", "--device", "cpu", "--suite", "digits@1")
        invoke("alias", "set", "production", "flow@2000")
        yield folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    with production(tmp_path_factory.mktemp("gates")) as folder:
        yield folder


@pytest.fixture
def fresh(tmp_path):
    """A home without the seeds that other tests score: what is stored decides there."""
    with production(tmp_path) as folder:
        yield folder


def invoke(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def gate(workspace, policy, checkpoint, *more):
    family, step = checkpoint.split("@")
    file = WEIGHTS / family / f"step_{step}.safetensors"
    return invoke(
        "gate",
        "run",
        workspace / policy,
        "--candidate",
        file,
        "--generator",
        family,
        "--device",
        "cpu",
        "--json",
        *more,
    )


def test_a_better_flow_passes(workspace):
    done = gate(workspace, "gate.yaml", "flow@4000")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["verdict"]["status"] == "PASS"
    assert document["baseline"]["checkpoints"][0]["step"] == 2000


@pytest.mark.parametrize(("alike", "status"), [((), "PASS"), ((5, 6, 7, 8, 9), "FAIL")])
def test_a_file_in_order_of_class_is_judged_on_a_random_part_of_it(workspace, alike, status):
    """Its first tenths are zeros and ones, alike in both: the good file must not fail on them, nor the bad one pass."""
    train, heldout = splits()
    pixels, labels = (np.concatenate([np.asarray(getattr(split, of)) for split in (train, heldout)]) for of in PARTS)
    chosen = np.random.default_rng(0).choice(len(labels), 2000)
    chosen = chosen[labels[chosen].argsort(kind="stable")]
    made = np.where(np.isin(labels[chosen], alike)[:, None, None, None], pixels[chosen[-1]], pixels[chosen])
    file = workspace / f"sorted-{status.lower()}" / "step_1.npz"
    file.parent.mkdir()
    np.savez(file, images=made)
    command = ("gate", "run", workspace / "wide.yaml", "--candidate", file, "--generator", "samples", "--device", "cpu")
    document = json.loads(invoke(*command, "--json").stdout)
    assert document["verdict"]["status"] == status, document["verdict"]
    assert document["evidence"]["samples"] <= (200 if status == "FAIL" else 2000)


def test_a_collapsed_gan_fails_on_recall_with_a_tenth_of_the_samples(workspace):
    done = gate(workspace, "gate.yaml", "gan@500")
    assert done.exit_code == 3
    document = json.loads(done.stdout)
    recall = next(metric for metric in document["verdict"]["metrics"] if metric["metric"] == "recall")
    assert [limit["status"] for limit in recall["limits"]] == ["FAIL", "FAIL"]
    assert document["evidence"]["samples"] < 0.2 * document["evidence"]["suite_samples"]
    with Database(Settings().database).read() as session:
        assert not queries.replicates(session, names.find(session, "gan@500"), "digits@1")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_checkpoint_against_itself_passes_under_any_seed(workspace, seed):
    done = gate(workspace, "wide.yaml", "flow@2000", "--seed", seed)
    document = json.loads(done.stdout)
    assert (done.exit_code, document["verdict"]["status"]) == (0, "PASS")


def test_a_run_against_itself_is_equal_and_costs_nothing(fresh):
    done = invoke("gate", "run", fresh / "gate.yaml", "--candidate", "flow@2000", "--json", "--stored")
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document["evidence"]["metrics"]["recall"]["comparisons"][1]["estimate"] == 0


def test_a_timeout_ends_with_six_and_is_recorded(workspace):
    done = gate(workspace, "gate.yaml", "gan@1000", "--timeout", "0.01")
    assert done.exit_code == 6
    with Database(Settings().database).read() as session:
        newest = queries.gates(session)[0]
    assert (newest.status, newest.exit_code) == ("ERROR", 6)
    assert "timed out after" in newest.verdict["reason"]


def test_promotion_needs_the_gate_and_leaves_a_trace(fresh):
    assert gate(fresh, "gate.yaml", "gan@500").exit_code == 3
    refused = invoke("alias", "set", "release", "gan@500", "--require-gate", fresh / "gate.yaml", "--device", "cpu")
    assert refused.exit_code == 3
    assert json.loads(invoke("alias", "list", "--json").stdout) == [{"alias": "production", "checkpoint": "flow@2000"}]
    allowed = invoke("alias", "set", "release", "flow@2000", "--require-gate", fresh / "gate.yaml", "--stored")
    assert allowed.exit_code == 0
    newest = json.loads(invoke("gate", "history", "--json").stdout)[0]
    assert (newest["status"], newest["promoted"], newest["candidate"]) == ("PASS", ["release"], "flow@2000")


def test_commands_say_what_is_wrong_with_their_exit_code(workspace, tmp_path):
    (tmp_path / "bad.yaml").write_text(POLICY.replace("max:", "maximum:"))
    assert invoke("gate", "check", workspace / "gate.yaml").exit_code == 0
    assert json.loads(invoke("gate", "schema").stdout)["title"] == "evalsvc gate policy"
    for command in ("check", "run"):
        refused = invoke("gate", command, tmp_path / "bad.yaml")
        assert "unknown key metrics.frechet_distance.maximum" in str(refused.exception)
    empty = invoke("gate", "run", workspace / "gate.yaml", "--candidate", "nobody@1", "--stored")
    assert empty.exit_code == 5


def test_a_store_that_does_not_answer_ends_with_six(workspace, monkeypatch):
    monkeypatch.setenv("EVALSVC_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert invoke("gate", "run", workspace / "gate.yaml", "--stored").exit_code == 6


@pytest.mark.parametrize("place", ["/nowhere/step_2000.safetensors", WEIGHTS / "flow" / "step_0.safetensors"])
def test_a_baseline_whose_scores_are_stored_needs_no_file_here(workspace, place):
    """Its file is on another machine, or another one lies in its place by now."""
    database = Database(Settings().database)

    def put(path):
        with database.write() as session:
            row = names.find(session, "production")
            before, row.path = row.path, str(path)
        return before

    before = put(place)
    try:
        done = gate(workspace, "wide.yaml", "flow@1500")
    finally:
        put(before)
    document = json.loads(done.stdout)
    assert document["evidence"]["metrics"]["frechet_distance"]["baseline"]["value"] > 0
    assert document["verdict"]["status"] in ("PASS", "FAIL", "INCONCLUSIVE")
    assert document["evidence"]["samples"] >= 2000, "no part of it could be compared"


def test_the_first_samples_are_those_of_the_whole_and_their_shards_are_kept(workspace):
    context = EvaluationContext(Settings(), Plugins(), "cpu")
    source = sources.Computed(context, DIGITS, frozenset({"precision"}))
    with context.database.read() as session:
        checkpoint = names.find(session, "flow@2000")
    part = evidence_collection._observe(source.part(checkpoint, 1000, None), "precision", "", None, shared=False)
    whole = evidence_collection._observe(source.full(checkpoint, 1, None), "precision", "", None, shared=False)
    assert part.n == 1000
    assert abs(part.value - whole.value) < 4 * part.stderr
    assert part.facts["samples"] == 1000
    assert part.protocol != whole.protocol


def test_more_seeds_of_stored_samples_are_no_more_samples(workspace):
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 8, 8, 1), np.uint8)
    np.savez(workspace / "noise_1.npz", pixels)
    scored = ("--generator", "samples", "--model", "noise", "--device", "cpu", "--suite", "digits@1")
    assert invoke("score", workspace / "noise_1.npz", *scored).exit_code == 0
    with Database(Settings().database).read() as session:
        distance = {row.label: row.value for row in queries.scores(session, model="noise")}["frechet_distance"]
    policy = {
        "version": 1,
        "suite": "digits@1",
        "on_inconclusive": {"more_samples": 4},
        "metrics": {"frechet_distance": {"max": distance}},
    }
    (workspace / "noise.yaml").write_text(json.dumps(policy))
    document = json.loads(invoke("gate", "run", workspace / "noise.yaml", "--candidate", "noise@1", "--json").stdout)
    assert document["verdict"]["status"] == "INCONCLUSIVE"
    seen = document["evidence"]
    assert [look["replicates"] for look in seen["looks"]] == [1, 1], "after the second seed there is no third"
    assert seen["samples"] == 2000
    refused = invoke("gate", "calibrate", workspace / "noise.yaml", "--candidate", "noise@1", "--runs", 2)
    assert "at least 2 distinct runs, and frechet_distance has only 1:" in str(refused.exception)


def test_calibration_on_the_digits_raises_no_false_alarm(workspace):
    done = invoke("gate", "calibrate", workspace / "wide.yaml", "--candidate", "flow@2000", "--runs", "3", "--json")
    found = json.loads(done.stdout)
    assert found["runs"] >= 3, "every seed that was ever run"
    assert (found["pairs"], found["failed"]) == (found["runs"] * (found["runs"] - 1), 0)
    distance = found["noise"][0]
    assert distance["spread"] < 3 * distance["claimed"]
    assert 1 < distance["margin"] < 10


def test_likelihoods_over_the_same_documents_are_compared_in_pairs(workspace):
    policy = POLICY.replace(
        "recall: {min: 0.6, max_worsening_rel: 0.05}", "bits_per_dim_heldout: {max_worsening: 0.05}"
    )
    (workspace / "pairs.yaml").write_text(policy)
    done = gate(workspace, "pairs.yaml", "flow@1500")
    seen = json.loads(done.stdout)["evidence"]["metrics"]["bits_per_dim_heldout"]
    apart = seen["candidate"]["stderr"] ** 2 + seen["baseline"]["stderr"] ** 2
    assert (seen["paired"], seen["unpaired"]) == (True, "")
    [compared] = seen["comparisons"]
    errors = compared["errors"]
    assert 0 < errors["below"] ** 2 + errors["spread"] ** 2 < apart / 4, "pairs make the interval narrower"
