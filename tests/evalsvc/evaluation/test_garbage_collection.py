"""What ``evalsvc cache sweep`` may take, and what it must leave."""

import signal
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsvc.cli.cache import app
from evalsvc.core.settings import Settings
from evalsvc.evaluation import attempts, lifecycle
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.garbage_collection import orphaned_shards, partial_files, unused_uploads
from evalsvc.evaluation.missing_shards import missing_shards
from evalsvc.inputs.suites import Suite
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation, Failure, Status, now
from tests.evalsvc.evaluation.test_lifecycle import spec

LATER = timedelta(minutes=1)


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "artifacts")


def half_done(database, artifacts, asked):
    """The attempt at an evaluation, one of whose shards is on disk."""
    attempt = Attempt(lifecycle.submit(database, asked).id, 1)
    shard = asked.shards[0]
    key = asked.shard_key(shard)
    artifacts.write_bytes(key, b"arrays")
    attempts.record_shard(database, attempt, path=key, cost=None, **shard.model_dump())
    return attempt


def swept(database, artifacts, before=None, remove=True):
    return {each.name for each in orphaned_shards(database, artifacts, before or now() + LATER, remove=remove)}


def test_shards_of_what_failed_or_was_cancelled_go_and_a_retry_computes_them_again(database, artifacts):
    failed, cancelled, active = (spec(letter * 64) for letter in "abc")
    begun = [half_done(database, artifacts, each) for each in (failed, cancelled, active)]
    attempts.fail(database, begun[0], Failure.MODEL, "NaN")
    lifecycle.cancel(database, begun[1].evaluation)
    vain = {failed.samples_key, cancelled.samples_key}
    assert swept(database, artifacts, before=now() - LATER) == set(), "they are younger"
    assert swept(database, artifacts, remove=False) == vain
    assert swept(database, artifacts) == vain
    assert swept(database, artifacts) == set()
    assert [artifacts.exists(each.shard_key(each.shards[0])) for each in (failed, cancelled, active)] == [0, 0, 1]
    lifecycle.retry(database, begun[0].evaluation)
    assert missing_shards(database, Attempt(begun[0].evaluation, 2)) == list(failed.shards)


def test_values_and_kept_samples_go_with_the_last_evaluation_that_uses_them(database, artifacts):
    use = {"use": "length", "quantities": [{"name": "length", "direction": "lower", "unit": "characters"}]}
    scored = Suite.model_validate(spec().suite.model_dump() | {"name": "scored", "scorers": {"s": use}})
    other = Suite.model_validate(scored.model_dump() | {"version": 2, "scorers": {"s": use, "t": use}})
    failed = spec(suite=scored, scorers={"s": "length-1"})
    active = spec(suite=other, scorers={"s": "length-1", "t": "length-2"}, extractors={"pixels": "q"})
    begun = [half_done(database, artifacts, each) for each in (failed, active)]
    for folder in {failed.draws_key, *(active.values_key(label) for label in "st")}:
        artifacts.write_bytes(f"{folder}/0-100.safetensors", b"arrays")
    attempts.fail(database, begun[0], Failure.MODEL, "NaN")
    assert swept(database, artifacts) == {failed.samples_key}, "the other evaluation uses the rest"
    lifecycle.cancel(database, begun[1].evaluation)
    theirs = {active.samples_key, active.draws_key, active.values_key("s"), active.values_key("t")}
    assert swept(database, artifacts) == theirs
    assert swept(database, artifacts) == set()


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.QUEUED])
def test_shards_that_another_evaluation_reads_or_will_read_stay(database, artifacts, status):
    lifecycle.cancel(database, half_done(database, artifacts, spec()).evaluation)
    fewer = spec(suite=spec().suite.model_copy(update={"version": 2, "samples": 100}))
    assert fewer.samples_key == spec().samples_key
    if status is Status.SUCCEEDED:
        other = half_done(database, artifacts, fewer)
        with database.write() as session:
            session.get_one(Evaluation, other.evaluation).status = status
    else:
        lifecycle.submit(database, fewer)
    assert swept(database, artifacts) == set()


def test_uploads_go_of_which_nothing_was_scored(database, tmp_path):
    uploads = tmp_path / "uploads"
    for letter in "abcd":
        (uploads / (letter * 64)).mkdir(parents=True)
        (uploads / (letter * 64) / "step_1.pt").write_bytes(b"weights")
    (uploads / ".tmp-broken-off").write_bytes(b"half")
    ids = {
        letter: lifecycle.submit(database, spec(letter * 64, path=str(uploads / (letter * 64) / "step_1.pt"))).id
        for letter in "abc"
    }
    lifecycle.cancel(database, ids["a"])
    with database.write() as session:
        session.get_one(Evaluation, ids["b"]).status = Status.SUCCEEDED
    assert not list(unused_uploads(database, uploads, now() - LATER, remove=True)), "they are younger"
    gone = [each.name for each in unused_uploads(database, uploads, now() + LATER, remove=True)]
    assert gone == [str(uploads / name) for name in (".tmp-broken-off", "a" * 64, "d" * 64)]
    assert sorted(folder.name for folder in uploads.iterdir()) == ["b" * 64, "c" * 64]


def test_half_written_files_of_killed_processes_go_and_younger_ones_stay(artifacts):
    code = (
        "import os, sys; from pathlib import Path; from evalsvc.store.artifacts import Artifacts\n"
        "with Artifacts(Path(sys.argv[1])).placing('reference/a/x.npy') as path:\n"
        "    path.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(artifacts.root)], check=False).returncode == -signal.SIGKILL
    with artifacts.matrix_writer("reference/a/y.npy", 1) as writer:
        writer.append(np.zeros((1, 1)))
    assert not list(partial_files(artifacts, now() - LATER, remove=True)), "it may be under way"
    (left,) = partial_files(artifacts, now() + LATER, remove=True)
    assert (left.name[:16], left.bytes) == ("reference/a/.tmp", 4)
    assert [file.name for file in (artifacts.root / "reference").rglob("*") if file.is_file()] == ["y.npy"]


def test_an_upload_stays_that_an_evaluation_reads_though_its_checkpoint_was_found_elsewhere_before(database, tmp_path):
    upload = tmp_path / "uploads" / ("a" * 64) / "step_1.pt"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"weights")
    elsewhere = tmp_path / "step_1.pt"
    elsewhere.write_bytes(b"weights")
    lifecycle.submit(database, spec(path=str(elsewhere)))
    lifecycle.submit(database, spec(path=str(upload), seed=2))
    assert not list(unused_uploads(database, tmp_path / "uploads", now() + LATER, remove=True))
    assert upload.exists()


def test_the_command_says_what_goes(home):
    settings = Settings(home=home)
    (settings.uploads / "forgotten").mkdir(parents=True)
    Database(settings.database)
    run = CliRunner().invoke
    assert run(app, ["sweep"], catch_exceptions=False).stdout == ""
    for _ in range(2):
        assert "forgotten" in run(app, ["sweep", "--days", "0", "--dry-run"], catch_exceptions=False).stdout
    run(app, ["sweep", "--days", "0"], catch_exceptions=False)
    assert not list(settings.uploads.iterdir())
