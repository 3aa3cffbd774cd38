"""The one way in: which suite a name means, which extractors fit it, and what is planned of stored checkpoints."""

import json

import pytest

from evalsvc.builtin.demo import shipped
from evalsvc.core.errors import InputError
from evalsvc.evaluation import service
from evalsvc.inputs.checkpoint_names import Naming, UnknownStepError
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import tables

SUITE = {
    "name": "ours",
    "version": 1,
    "modality": "image",
    "samples": 20,
    "extractors": {"pixels": {"use": "pixels"}},
    "metrics": [{"metric": "vendi_score", "features": "pixels/pixels"}],
}


def keep(database, **changes):
    suite = load_suite("digits@1").model_validate(SUITE | changes)
    with database.write() as session:
        body = suite.model_dump(mode="json")
        session.add(tables.Suite(name=suite.name, version=suite.version, digest=suite.digest, body=body))
    return suite


def test_a_name_means_a_file_else_a_shipped_suite_else_a_stored_one(context, tmp_path):
    database, plugins = context.database, Plugins()
    stored = keep(database)
    keep(database, name="digits", version=2)
    (tmp_path / "ours.yaml").write_text(json.dumps(SUITE | {"samples": 30}))
    assert service.resolve_suite("ours", database, plugins) == stored
    assert service.resolve_suite("ours@1", database, plugins) == stored
    assert service.resolve_suite("ours.yaml", database, plugins, folder=tmp_path).samples == 30
    assert service.resolve_suite("digits", database, plugins).id == "digits@1", "the shipped one wins"
    assert service.resolve_suite("digits@2", database, plugins).id == "digits@2"
    keep(database, version=2)
    with pytest.raises(InputError, match="several versions: name one of ours@1, ours@2"):
        service.resolve_suite("ours", database, plugins)
    with pytest.raises(InputError, match="there is no suite 'theirs'"):
        service.resolve_suite("theirs", database, plugins)


def test_a_stored_suite_that_cannot_be_read_any_more_is_named(context):
    with context.database.write() as session:
        session.add(tables.Suite(name="old", version=1, digest="x", body=SUITE | {"gone": 1}))
    with pytest.raises(InputError, match="suite old: gone: is not a key"):
        service.resolve_suite("old", context.database, Plugins())


def test_an_extractor_of_another_modality_is_refused_before_any_work(context, tmp_path):
    (tmp_path / "texts_1.jsonl").write_text('{"text": "a b"}\n' * 30)
    checkpoint = service.open_checkpoint(tmp_path / "texts_1.jsonl", Naming(), "samples", Plugins())
    suite = load_suite("digits@1").model_validate(SUITE | {"modality": "text"})
    with pytest.raises(InputError, match="suite ours@1 scores text samples, and extractor 'pixels' takes image samp"):
        service.plan(context, checkpoint, "samples", {}, suite)


def test_a_reference_of_another_modality_is_refused_before_any_work(context):
    gan = next(run for run in shipped() if run.family == "gan")
    checkpoint = service.open_checkpoint(gan.path, Naming("gan", 0), "gan", context.plugins)
    uses = [{"metric": "frechet_distance", "features": "pixels/pixels"}]
    suite = load_suite("digits@1").model_validate(SUITE | {"reference": "prose-tiny", "metrics": uses})
    with pytest.raises(InputError, match="scores image samples, and reference 'prose-tiny' holds text samples"):
        service.plan(context, checkpoint, "gan", {}, suite)


def test_a_checkpoint_without_a_step_has_an_error_of_its_own(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"x")
    with pytest.raises(UnknownStepError, match="pass --step-pattern REGEX, or --step"):
        service.open_checkpoint(tmp_path / "best.pt", Naming(), "samples", Plugins())


def test_what_was_run_is_planned_again_from_its_row_with_one_fingerprint(context):
    gan = next(run for run in shipped() if run.family == "gan" and run.step == 4000)
    checkpoint = service.open_checkpoint(gan.path, Naming("gan", 4000), "gan", context.plugins)
    suite = load_suite("digits@1").model_validate(SUITE)
    (spec,) = service.plan_checkpoints(context, [checkpoint], "gan", {}, suite)
    (evaluation,) = service.run(context, [spec])
    with context.database.read() as session:
        row = session.get_one(tables.Evaluation, evaluation).checkpoint
    assert service.plan_stored(context, row, suite).fingerprint == spec.fingerprint
    (submission,) = service.submit(context, [spec])
    assert (submission.id, submission.created) == (evaluation, False)
