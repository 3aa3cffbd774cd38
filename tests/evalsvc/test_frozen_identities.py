"""Digests, keys and names by which stored results are found: whatever moves in the code, these do not.

The values in ``frozen_identities.json`` were computed on 2026-11-28, before the modules were moved into rooms.
"""

import json
from dataclasses import replace
from importlib.metadata import Distribution, entry_points
from pathlib import Path

import pytest
from sqlalchemy import select

from evalsvc.builtin.demo import shipped
from evalsvc.builtin.demo.text import shipped_texts
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite, shipped_suites
from evalsvc.metrics.registry import METRICS
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.store.tables import Artifact, Evaluation, Protocol

FROZEN = json.loads(Path(__file__).with_name("frozen_identities.json").read_text())


def demo_spec(context, name):
    if name == "digits@1":
        run = next(run for run in shipped() if run.family == "flow" and run.step == 4000)
        return plan(context, Checkpoint.open(run.path, run.family, run.step), "flow", {}, load_suite(name))
    run = next(run for run in shipped_texts() if run.step == 1200)
    return plan(context, Checkpoint.open(run.path, run.model, run.step), "causal-lm", {}, load_suite(name))


def identities(spec):
    return {
        "fingerprint": spec.fingerprint,
        "configuration": spec.configuration,
        "checkpoint": spec.checkpoint,
        "samples_key": spec.samples_key,
        "features_key": spec.features_key,
        "likelihood_keys": {split: spec.likelihood_key(split) for split in spec.likelihood_splits},
        "extractors": spec.extractors,
        "reference": spec.reference,
    }


def test_every_shipped_suite_keeps_its_digest():
    assert {name: load_suite(name).digest for name in shipped_suites()} == FROZEN["suites"]


@pytest.fixture(autouse=True)
def first_errors(monkeypatch):
    """Identities of values: a better error changes the fingerprints of a metric's evaluations, and nothing else."""
    for name, spec in list(METRICS.items()):
        monkeypatch.setitem(METRICS, name, replace(spec, error_version=1))


@pytest.mark.parametrize("name", ["digits@1", "text-tiny@1"])
def test_an_evaluation_keeps_its_fingerprint_and_the_keys_of_its_shards(context, name):
    assert identities(demo_spec(context, name)) == FROZEN["specs"][name]


def test_a_better_error_of_a_metric_changes_the_fingerprint_alone(context, monkeypatch):
    monkeypatch.setitem(METRICS, "kernel_distance", replace(METRICS["kernel_distance"], error_version=2))
    found = identities(demo_spec(context, "digits@1"))
    assert found.pop("fingerprint") != FROZEN["specs"]["digits@1"]["fingerprint"]
    assert FROZEN["specs"]["digits@1"].items() >= found.items()


def test_a_release_changes_no_fingerprint(home, monkeypatch):
    monkeypatch.setattr(Distribution, "version", property(lambda self: "9.9.9"))
    plugins = Plugins()
    built_in = [p for p in plugins if p.kind is PluginKind.GENERATOR and p.distribution == "evalsvc"]
    assert {(p.version, p.recorded_version) for p in built_in} == {("9.9.9", "evalsvc 0.1.0")}
    context = EvaluationContext(Settings(home=home), plugins, device="cpu")
    assert identities(demo_spec(context, "digits@1")) == FROZEN["specs"]["digits@1"]


def test_scores_keep_their_protocols_and_artifacts_their_kinds(context):
    evaluation = evaluate(demo_spec(context, "digits@1"), context)
    with context.database.read() as session:
        scores = {score.label: score.protocol_id for score in session.get_one(Evaluation, evaluation).scores}
        kinds = sorted(set(session.scalars(select(Artifact.kind))))
        assert len(session.scalars(select(Protocol.id)).all()) == len(set(scores.values()))
    assert {"scores": scores, "artifacts": kinds} == FROZEN["digits@1"]


def test_entry_points_and_metrics_keep_their_names_and_metrics_their_versions():
    names = {f"evalsvc.{kind}": sorted({e.name for e in entry_points(group=f"evalsvc.{kind}")}) for kind in PluginKind}
    for group, kept in FROZEN["plugins"].items():
        assert set(kept) <= set(names[group]), group
    assert {name: spec.version for name, spec in METRICS.items() if name in FROZEN["metrics"]} == FROZEN["metrics"]
