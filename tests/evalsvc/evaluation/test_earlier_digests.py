"""A database whose folders were digested by an earlier version answers as before, under the digests of today."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import select, update

from evalsvc.core.digests import digest_baseline
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation.compatibility import require_compatible
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.earlier_digests import move_earlier
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoint_folders import EARLIER
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Images
from evalsvc.store.tables import Alias, Evaluation, Gate, GateSpending, Shard, Status
from evalsvc.store.tables import Checkpoint as Row

SUITE = {
    "name": "pixels",
    "version": 1,
    "modality": "image",
    "reference": "digits",
    "samples": 60,
    "shard": 30,
    "extractors": {"pixels": {"use": "pixels"}},
    "metrics": [{"metric": "precision_recall", "features": "pixels/pixels"}],
}


class Folder:
    """Grey squares of a folder's level; counts what it was asked for."""

    info = GeneratorInfo("blobs", "image", (1, 8, 8))
    made = 0

    def __init__(self, checkpoint, device, noise=0.2):
        self.level = Checkpoint.open(checkpoint.path / "weights.safetensors", "m", 1).tensors()["level"]
        self.noise = noise

    def sample(self, request):
        Folder.made += len(request)
        return Images.from_unit(self.level + self.noise * request.normal(1, 8, 8))


def evaluation_context(home, database_url=""):
    Folder.made = 0
    plugins = Plugins()
    plugins.add(Plugin(PluginKind.GENERATOR, "folder", "tests", "1", lambda: Folder))
    return EvaluationContext(Settings(home=home, database_url=database_url), plugins, "cpu", batch_size=40)


@pytest.fixture
def context(home):
    return evaluation_context(home)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "checkpoint-10"
    path.mkdir()
    save_file({"level": torch.tensor(0.3)}, path / "weights.safetensors")
    (path / "optimizer.pt").write_bytes(b"moments")
    return path


def opened(folder, earlier=False):
    return Checkpoint.open(folder, "m", 10, EARLIER[0].files if earlier else None)


def stored_the_old_way(context, folder, options=(), **changes):
    """An evaluation as it was before there was a list, aliased and decided about."""
    old = opened(folder, earlier=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalsvc.evaluation.planning.move_earlier", lambda *_: None)
        spec = plan(context, old, "folder", dict(options), Suite.model_validate(SUITE | changes))
    number = evaluate(spec, context)
    with context.database.write() as session:
        row = session.get_one(Evaluation, number).checkpoint
        session.merge(Alias(name="production", checkpoint_id=row.id))
        facts = {"policy_digest": "p", "policy": {}, "evidence": {}, "verdict": {}, "shadow": False, "baseline": ""}
        told = {"suite": "pixels@1", "model": "m", "step": 10, "digest": old.digest, "checkpoint_id": row.id}
        session.add(Gate(**facts, **told, status="PASS", exit_code=0))
    return number, spec, old


def spec_of(context, folder, options=(), **changes):
    return plan(context, opened(folder), "folder", dict(options), Suite.model_validate(SUITE | changes))


def everything(context, kind):
    with context.database.read() as session:
        return session.scalars(select(kind).order_by(*kind.__table__.primary_key)).unique().all()


def test_nothing_is_computed_again_and_nothing_has_two_names(home, database_url, folder):
    context = evaluation_context(home, database_url)
    number, before, old = stored_the_old_way(context, folder)
    spec, made = spec_of(context, folder), Folder.made
    assert evaluate(spec, context) == number
    assert Folder.made == made
    (row,) = everything(context, Row)
    assert row.digest == spec.checkpoint != old.digest
    with context.database.read() as session:
        assert session.get_one(Alias, "production").checkpoint.digest == spec.checkpoint
    assert [gate.digest for gate in everything(context, Gate)] == [spec.checkpoint]
    assert [run.fingerprint for run in everything(context, Evaluation)] == [spec.fingerprint]
    # Another suite on the same samples draws none.
    evaluate(
        spec_of(context, folder, version=2, metrics=[{"metric": "authenticity", "features": "pixels/pixels"}]), context
    )
    assert Folder.made == made
    assert {shard.path for shard in everything(context, Shard)} == {spec.shard_key(shard) for shard in spec.shards}
    assert not context.artifacts.sizes(before.samples_key)


def test_what_was_spent_of_the_level_is_not_given_back(context, folder):
    _, spec, old = stored_the_old_way(context, folder)
    new, base = opened(folder).digest, spec.configuration
    account = {"configuration": base, "protocol": "p", "share": 0.5}
    with context.database.write() as session:
        gate = session.scalar(select(Gate.id))
        for candidate, baseline, number in (
            *((old.digest, "", 0), (old.digest, "", 1), (new, "", 0), ("other", "", 0)),
            ("other", digest_baseline([(old.digest, base)]), 0),
        ):
            booked = {"candidate": candidate, "baseline": baseline, "number": number}
            session.add(GateSpending(gate_id=gate, **account, **booked))
    spec_of(context, folder)
    rows = sorted((row.candidate, row.baseline, row.number) for row in everything(context, GateSpending))
    compared = ("other", digest_baseline([(new, base)]), 0)
    assert rows == sorted([(new, "", 0), (new, "", 1), (new, "", 2), ("other", "", 0), compared])


def test_a_content_is_moved_under_all_of_its_labels(context, folder):
    stored_the_old_way(context, folder)
    with context.database.write() as session:
        row = session.scalars(select(Row)).one()
        facts = {name: getattr(row, name) for name in ("digest", "generator", "generator_version", "configuration")}
        session.add(Row(model_id=row.model_id, step=99, path=row.path, options={}, **facts))
    spec_of(context, folder)
    assert {row.digest for row in everything(context, Row)} == {opened(folder).digest}


def test_all_configurations_of_a_label_are_moved(context, folder):
    for noise in (0.1, 0.2):
        stored_the_old_way(context, folder, {"noise": noise})
    digest = spec_of(context, folder, {"noise": 0.1}).checkpoint
    assert {row.digest for row in everything(context, Row)} == {digest}


def test_a_folder_that_changed_since_is_another_checkpoint(context, folder):
    _, _, old = stored_the_old_way(context, folder)
    (folder / "optimizer.pt").write_bytes(b"later moments")
    evaluate(spec_of(context, folder), context)
    assert {row.digest for row in everything(context, Row)} == {old.digest, opened(folder).digest}


def test_another_generator_and_another_label_keep_theirs(context, folder):
    _, _, old = stored_the_old_way(context, folder)
    new = opened(folder)
    for other, generator in ((dataclasses.replace(new, step=11), "folder"), (new, "another")):
        move_earlier(context.database, lambda: context.artifacts, other, generator)
    assert [row.digest for row in everything(context, Row)] == [old.digest]


def test_a_stored_checkpoint_is_opened_again_by_either_digest(context, folder):
    stored_the_old_way(context, folder)
    (row,) = everything(context, Row)
    assert stored_checkpoints.reopen(row, context.plugins) == opened(folder)
    (folder / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match="no longer has the content that was scored as m@10"):
        stored_checkpoints.reopen(row, context.plugins)


def test_what_was_submitted_before_the_list_is_still_computed(context, folder):
    _, spec, _ = stored_the_old_way(context, folder)
    require_compatible(context, spec)


def test_what_a_worker_is_computing_is_not_moved_under_it(context, folder):
    number, _, old = stored_the_old_way(context, folder)
    with context.database.write() as session:
        session.execute(update(Evaluation).values(status=Status.RUNNING, on_queue=True))
    with pytest.raises(InputError, match=rf"evaluation {number} of m@10 is running .*evalsvc wait {number}"):
        spec_of(context, folder)
    assert [row.digest for row in everything(context, Row)] == [old.digest]
