"""What a slot does when its work goes wrong."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import select, text

from evalsvc.core.errors import ModelError, StorageError
from evalsvc.core.observability import logs
from evalsvc.core.settings import Settings
from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Images
from evalsvc.queue import slot, worker_registry
from evalsvc.queue.heartbeat import Heartbeat
from evalsvc.queue.slot import Slot
from evalsvc.queue.worker_metrics import WorkerMetrics
from evalsvc.store import audit
from evalsvc.store.audit import Actor
from evalsvc.store.session import HEAD, Database
from evalsvc.store.tables import ActorKind, Evaluation, Failure, QuotaUse, Status
from tests.evalsvc.evaluation.test_lifecycle import SUITE, row


class Blobs:
    info = GeneratorInfo("blobs", "image", (1, 8, 8))
    calls = 0
    before = staticmethod(lambda _: None)

    def __init__(self, checkpoint, device):
        self.level = checkpoint.tensors()["level"]

    def sample(self, request):
        type(self).calls += 1
        self.before(request)
        return Images.from_unit(self.level + 0.2 * request.normal(1, 8, 8))


@pytest.fixture
def context(home, database_url, monkeypatch):
    monkeypatch.setattr(Blobs, "calls", 0)
    plugins = Plugins()
    plugins.add(Plugin(PluginKind.GENERATOR, "blobs", "tests", "1", lambda: Blobs))
    return EvaluationContext(Settings(home=home, database_url=database_url), plugins, "cpu", batch_size=20)


@pytest.fixture
def here(context, monkeypatch):
    """A slot whose process cannot end, and which waits for nothing."""

    def exit_(code):
        raise SystemExit(code)

    monkeypatch.setattr(slot.os, "_exit", exit_)
    monkeypatch.setattr(slot, "RETRY_DELAYS", (0, 0))
    monkeypatch.setattr(slot, "REFUSAL_DELAYS", (0,))
    worker_registry.register(context.database, "here", "slot", "cpu")
    return Slot(context, SimpleNamespace(worker="here", task=None), WorkerMetrics())


@pytest.fixture
def spec(context, tmp_path):
    save_file({"level": torch.tensor(0.3)}, tmp_path / "blobs_1.safetensors")
    checkpoint = Checkpoint.open(tmp_path / "blobs_1.safetensors", "blobs", 1)
    return plan(context, checkpoint, "blobs", {}, Suite.model_validate(SUITE))


@pytest.fixture
def asked(context, spec):
    return Attempt(lifecycle.submit(context.database, spec).id, 1)


def inodes(context, spec):
    """A shard that is made anew is another file."""
    return [context.artifacts.local(spec.shard_key(shard)).stat().st_ino for shard in spec.shards]


def found(context, asked):
    return row(context.database, asked.evaluation)


def test_shards_and_then_metrics_make_an_evaluation(context, here, spec, asked):
    assert all(here.compute(asked, shard) for shard in spec.shards)
    assert found(context, asked).status == Status.RUNNING
    assert here.measure(asked)
    assert found(context, asked).status == Status.SUCCEEDED


def test_a_shard_that_is_damaged_before_its_metrics_is_computed_again_where_its_checkpoint_is(
    context, here, spec, asked
):
    assert all(here.compute(asked, shard) for shard in spec.shards)
    made, damaged = Blobs.calls, context.artifacts.local(spec.shard_key(spec.shards[0]))
    os.truncate(damaged, 100)
    assert here.measure(asked)
    assert found(context, asked).status == Status.SUCCEEDED
    assert Blobs.calls > made
    again = lifecycle.submit(context.database, spec, rerun=True)
    attempt = Attempt(again.id, again.attempt)
    assert all(here.compute(attempt, shard) for shard in spec.shards)
    os.truncate(damaged, 100)
    Path(spec.path).unlink()
    assert not here.measure(attempt)
    failed = found(context, attempt)
    assert (failed.status, failed.failure) == (Status.FAILED, Failure.MODEL)
    assert f"artifact {spec.shard_key(spec.shards[0])} is damaged" in failed.error
    assert f"cannot be recomputed: {spec.path} does not exist" in failed.error


def test_a_rerun_on_the_queue_computes_all_of_it_again(context, here, spec, asked):
    assert all(here.compute(asked, shard) for shard in spec.shards)
    assert here.measure(asked)
    made, kept = Blobs.calls, inodes(context, spec)
    again = lifecycle.submit(context.database, spec, rerun=True)
    attempt = Attempt(again.id, again.attempt)
    assert all(here.compute(attempt, shard) for shard in spec.shards)
    assert here.measure(attempt)
    assert Blobs.calls == 2 * made
    anew = inodes(context, spec)
    assert all(new != old for new, old in zip(anew, kept, strict=True))
    assert found(context, asked).status == Status.SUPERSEDED


def test_a_cancelled_shard_stops_within_one_batch_and_leaves_nothing(context, here, spec, asked, monkeypatch):
    def cancel(_):
        if Blobs.calls == 2:
            lifecycle.cancel(context.database, asked.evaluation)

    monkeypatch.setattr(Blobs, "before", staticmethod(cancel))
    assert not here.compute(asked, spec.shards[0])
    assert Blobs.calls == 2
    assert not context.artifacts.exists(spec.shard_key(spec.shards[0]))
    assert found(context, asked).status == Status.CANCELLED


def test_a_broken_model_fails_its_evaluation_at_once(context, here, spec, asked, monkeypatch):
    monkeypatch.setattr(Blobs, "before", staticmethod(lambda _: 1 / 0))
    assert not here.compute(asked, spec.shards[0])
    failed = found(context, asked)
    assert (failed.failure, Blobs.calls) == (Failure.MODEL, 1)
    assert "ZeroDivisionError" in failed.error


def test_a_model_forges_no_line_of_the_log_and_is_counted(context, here, spec, asked, monkeypatch, capsys):
    forged = "2026-11-28T15:00:00.000Z INFO evalsvc.queue.coordinator: evaluation 7 is succeeded"

    def fail(_):
        raise ModelError(f"server said: x\n{forged}\x1b[2J")

    monkeypatch.setattr(Blobs, "before", staticmethod(fail))
    logs.setup()
    assert here.compute(asked, spec.shards[0]) is False
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[1:3] for line in told] == [
        ["INFO", "evalsvc.evaluation.attempts:"],
        ["WARNING", "evalsvc.queue.slot:"],
        ["WARNING", "evalsvc.evaluation.attempts:"],
    ]
    assert all(line.isprintable() for line in told)
    counted = {"stage": "samples", "failure": "model"}
    assert here._metrics.registry.get_sample_value("evalsvc_shard_failures_total", counted) == 1


def test_a_worker_opens_no_destination_that_a_client_chose(context, here, spec, asked, monkeypatch):
    monkeypatch.setattr(Blobs, "opens_network", True, raising=False)
    with context.database.write() as session:
        session.get_one(Evaluation, asked.evaluation).restricted = True
    assert not here.compute(asked, spec.shards[0])
    failed = found(context, asked)
    assert (failed.failure, Blobs.calls) == (Failure.MODEL, 0)
    assert "name an 'endpoint' that the operator lists" in failed.error


def test_what_a_client_asked_for_is_left_to_workers_that_have_the_plugin(context, here, spec, asked):
    with context.database.write() as session:
        session.get_one(Evaluation, asked.evaluation).restricted = True
    no_plugin(context, None)
    assert "there is no generator 'blobs'" in here.compute(asked, spec.shards[0])["reason"]
    assert found(context, asked).status == Status.RUNNING


def test_what_a_store_or_a_library_said_is_for_the_operator(context, here, spec, asked, monkeypatch):
    def refused(*_):
        raise RuntimeError("GET https://store.internal/?sig=abc answered: swordfish")

    monkeypatch.setattr(context.artifacts, "write_arrays", refused)
    assert not here.compute(asked, spec.shards[0])
    failed = found(context, asked)
    assert failed.error == "RuntimeError: see the worker's log"
    assert "swordfish" in failed.detail
    assert "abc" not in failed.detail


def test_a_full_disk_is_waited_for_and_then_named(context, here, spec, asked, monkeypatch):
    tries = []

    def full(key, *rest):
        tries.append(key)
        if len(tries) < 3 or key.endswith("100-200.safetensors"):
            raise StorageError("No space left on device")
        return write(key, *rest)

    write = context.artifacts.write_arrays
    monkeypatch.setattr(context.artifacts, "write_arrays", full)
    assert here.compute(asked, spec.shards[0]), "there was room at the third try"
    assert not here.compute(asked, spec.shards[1])
    failed = found(context, asked)
    assert (failed.failure, failed.error) == (Failure.INFRASTRUCTURE, "No space left on device")


def test_out_of_memory_is_named_and_another_process_begins_with_all_of_it(context, here, spec, asked, monkeypatch):
    def grow(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")

    monkeypatch.setattr(Blobs, "before", staticmethod(grow))
    with pytest.raises(SystemExit):
        here.compute(asked, spec.shards[0])
    assert found(context, asked).failure == Failure.OUT_OF_MEMORY


def test_an_error_of_the_device_ends_the_process_and_fails_nothing(context, here, spec, asked, monkeypatch):
    def fault(_):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(Blobs, "before", staticmethod(fault))
    with pytest.raises(SystemExit):
        here.compute(asked, spec.shards[0])
    assert found(context, asked).status == Status.RUNNING


def another_content(context, file):
    save_file({"level": torch.tensor(0.9)}, file)


def another_version(context, _file):
    other = Plugin(PluginKind.GENERATOR, "blobs", "tests", "2", lambda: Blobs)
    context.plugins._by_name[PluginKind.GENERATOR, "blobs"] = [other]


def no_plugin(context, _file):
    del context.plugins._by_name[PluginKind.GENERATOR, "blobs"]


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (another_content, "has changed since it was submitted: submit it again (on worker here)"),
        (another_version, "generator 'blobs' is tests 2 here but was tests 1 where"),
        (no_plugin, "generator 'blobs'"),
        (lambda _context, file: file.unlink(), "blobs_1.safetensors does not exist (on worker here)"),
    ],
)
def test_a_worker_leaves_to_others_what_it_lacks_something_for(context, here, spec, asked, tmp_path, lose, reason):
    lose(context, tmp_path / "blobs_1.safetensors")
    refusal = here.compute(asked, spec.shards[0])
    assert refusal["worker"] == "here"
    assert reason in refusal["reason"]
    assert (found(context, asked).status, Blobs.calls) == (Status.RUNNING, 0)


def a_field_of_later(row):
    row.spec = row.spec | {"items": "a-set"}


def a_metric_of_later(row):
    suite = row.spec["suite"]
    row.spec = row.spec | {"suite": suite | {"metrics": [{"metric": "of_later", "features": "pixels/pixels"}]}}


def other_arithmetic(row):
    row.fingerprint = "0" * 64


@pytest.mark.parametrize("change", [a_field_of_later, a_metric_of_later, other_arithmetic])
def test_an_older_worker_leaves_the_work_of_a_newer_version_alone(context, here, spec, asked, change):
    with context.database.write() as session:
        change(session.get_one(Evaluation, asked.evaluation))
    refusal = here.compute(asked, spec.shards[0])
    assert "another version of evalsvc submitted this evaluation" in refusal["reason"]
    assert (found(context, asked).status, Blobs.calls) == (Status.RUNNING, 0)
    assert not context.artifacts.exists(spec.shard_key(spec.shards[0]))


def test_a_worker_ends_itself_when_the_database_is_upgraded_beneath_it(home, database_url, monkeypatch):
    settings = Settings(home=home, database_url=database_url)
    alive = Heartbeat(settings, "older", "slot", "cpu", os.getppid())
    monkeypatch.setattr(alive, "_exit", lambda reason: (_ for _ in ()).throw(SystemExit(reason)))
    alive._beat()
    with Database(settings.database).write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SystemExit, match=f"the database is at revision 9999 but this evalsvc needs {HEAD}"):
        alive._beat()


def test_what_comes_to_nothing_counts_for_the_token_that_asked(context, here, spec, monkeypatch):
    with audit.acting(Actor(ActorKind.TOKEN, "ci", 1)):
        asked = Attempt(lifecycle.submit(context.database, spec).id, 1)
    monkeypatch.setattr(Blobs, "before", lambda _: lifecycle.cancel(context.database, asked.evaluation))
    assert not here.compute(asked, spec.shards[0])
    with context.database.read() as session:
        (used,) = session.scalars(select(QuotaUse)).all()
    assert used.token == "ci"
    assert used.device_seconds > 0
    assert found(context, asked).device_seconds == 0
