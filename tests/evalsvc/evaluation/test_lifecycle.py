"""Submitting, cancelling, trying again: rows alone, on SQLite and on Postgres."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select

from evalsvc.core.columns import Stage
from evalsvc.core.cost import Cost
from evalsvc.core.digests import digest_configuration
from evalsvc.core.errors import AmbiguousError, InputError, ModelError, StorageError, WithdrawnError
from evalsvc.evaluation import attempts, failures, lifecycle, registration
from evalsvc.evaluation.lifecycle import Deadlines
from evalsvc.evaluation.progress import progress, workers
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.gates.promote import promote
from evalsvc.inputs.suites import Suite
from evalsvc.store import names
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import Checkpoint, Evaluation, Failure, Shard, Status, Worker, WorkerStatus

SUITE = {
    "name": "pixels",
    "version": 1,
    "modality": "image",
    "reference": "digits",
    "samples": 300,
    "shard": 100,
    "extractors": {"pixels": {"use": "pixels"}},
    "metrics": [{"metric": "frechet_distance", "features": "pixels/pixels"}],
}


def spec(digest="d" * 64, **changes):
    facts = {
        "model": "blobs",
        "step": 10,
        "path": "/nowhere",
        "checkpoint": digest,
        "generator": "blobs",
        "generator_version": "tests 1",
        "options": {},
        "suite": Suite.model_validate(SUITE),
        "seed": 1,
        "reference": {"train": "r" * 64},
        "reference_counts": {"train": 800},
        "extractors": {"pixels": "p"},
        "likelihood": False,
        "family": "blob",
    }
    return EvaluationSpec(**facts | changes)


def row(database, evaluation):
    with database.read() as session:
        return session.get_one(Evaluation, evaluation)


def start(database, evaluation, worker=None):
    attempt = attempts.Attempt(evaluation, row(database, evaluation).attempt, worker)
    attempts.start(database, attempt)
    return attempt


def note(database, attempt, start=0):
    attempts.record_shard(database, attempt, kind="samples", start=start, stop=start + 100, path="x", cost=Cost(1.0))


def count(database, what):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(what))


def test_the_same_fingerprint_again_is_the_same_evaluation(database):
    first = lifecycle.submit(database, spec(), priority=3, deadlines=Deadlines(shard=60))
    again = lifecycle.submit(database, spec())
    assert (first.created, again.created, again.id) == (True, False, first.id)
    stored = row(database, first.id)
    assert (stored.status, stored.priority, stored.deadlines) == (Status.QUEUED, 3, {"shard": 60.0})
    assert stored.work == {"samples": 300}
    assert stored.on_queue


def test_fifty_threads_that_submit_one_fingerprint_make_one_evaluation(database):
    together = Barrier(50)

    def submit(_):
        together.wait()
        return lifecycle.submit(database, spec())

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(submit, range(50)))
    assert count(database, Evaluation) == 1
    assert len({submission.id for submission in found}) == 1
    assert sum(submission.created for submission in found) == 1


def test_threads_that_register_one_new_checkpoint_and_alias_all_find_it(database):
    together = Barrier(8)

    def register(_):
        together.wait()
        with database.write() as session:
            checkpoint = registration.register_checkpoint(session, spec())
        together.wait()
        promote(database, "production", checkpoint)
        return checkpoint

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(register, range(8)))) == 1


def test_a_cancelled_evaluation_stays_cancelled_and_can_be_tried_again(database):
    evaluation = lifecycle.submit(database, spec()).id
    attempt = start(database, evaluation)
    attempts.check(database, attempt)
    lifecycle.cancel(database, evaluation)
    lifecycle.cancel(database, evaluation)
    with pytest.raises(WithdrawnError, match=f"evaluation {evaluation} was cancelled"):
        attempts.check(database, attempt)
    attempts.fail(database, attempt, Failure.MODEL, "too late")
    assert row(database, evaluation).status == Status.CANCELLED
    assert lifecycle.retry(database, evaluation) == 2
    assert row(database, evaluation).status == Status.QUEUED


@pytest.mark.parametrize("again", ["retry", "submit"])
def test_a_failed_evaluation_is_tried_again_and_the_old_attempt_writes_nothing(database, again):
    evaluation = lifecycle.submit(database, spec()).id
    old = start(database, evaluation)
    attempts.fail(database, old, Failure.OUT_OF_MEMORY, "CUDA out of memory")
    failed = row(database, evaluation)
    assert (failed.status, failed.failure, failed.error) == (Status.FAILED, "out_of_memory", "CUDA out of memory")
    if again == "retry":
        lifecycle.retry(database, evaluation)
    else:
        assert lifecycle.submit(database, spec()) == lifecycle.Submission(evaluation, True, Status.QUEUED, 2)
    with pytest.raises(WithdrawnError, match="attempt 1 was superseded by attempt 2"):
        note(database, old)
    attempts.fail(database, old, Failure.MODEL, "again")
    new = start(database, evaluation)
    note(database, new)
    note(database, new)
    assert count(database, Shard) == 1
    running = row(database, evaluation)
    assert (running.status, running.attempt, running.failure, running.error) == (Status.RUNNING, 2, None, None)


def test_a_worker_that_was_given_up_writes_nothing(database):
    evaluation = lifecycle.submit(database, spec()).id
    with database.write() as session:
        now = clock(session)
        session.add(Worker(id="w", role="slot", host="h", pid=1, device="cpu", started_at=now, seen_at=now))
    attempt = start(database, evaluation, worker="w")
    note(database, attempt)
    with database.write() as session:
        session.get_one(Worker, "w").status = WorkerStatus.LOST
    with pytest.raises(WithdrawnError, match="worker w missed its heartbeat deadline"):
        note(database, attempt, 100)
    assert count(database, Shard) == 1


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda database, done: lifecycle.cancel(database, done), "cannot be canceled: its status is succeeded"),
        (
            lambda database, done: lifecycle.retry(database, done),
            "has succeeded: recompute it with 'evalsvc score --rerun'",
        ),
        (
            lambda database, _: lifecycle.cancel(database, 99),
            "there is no evaluation 99: list them with 'evalsvc status'",
        ),
        (lambda database, _: lifecycle.retry(database, 99), "there is no evaluation 99"),
    ],
)
def test_what_cannot_be_done_says_why(database, act, complaint):
    done = lifecycle.submit(database, spec()).id
    with database.write() as session:
        session.get_one(Evaluation, done).status = Status.SUCCEEDED
    with pytest.raises(InputError, match=complaint):
        act(database, done)


def test_an_evaluation_in_progress_is_not_tried_again(database):
    evaluation = lifecycle.submit(database, spec()).id
    with pytest.raises(InputError, match="is queued: only failed or canceled evaluations can be retried"):
        lifecycle.retry(database, evaluation)


def test_a_done_evaluation_answers_and_a_rerun_is_another(database):
    done = lifecycle.submit(database, spec()).id
    with database.write() as session:
        session.get_one(Evaluation, done).status = Status.SUCCEEDED
    assert lifecycle.submit(database, spec()) == lifecycle.Submission(done, False, Status.SUCCEEDED)
    assert lifecycle.submit(database, spec(), rerun=True).id != done


def test_the_family_of_a_model_comes_with_the_spec_and_changes_no_fingerprint(database):
    assert spec(family="other").fingerprint == spec().fingerprint
    assert row(database, lifecycle.submit(database, spec()).id).checkpoint.model.family == "blob"


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ModelError("NaN"), Failure.MODEL),
        (InputError("holds 50 samples"), Failure.MODEL),
        (StorageError("no space left"), Failure.INFRASTRUCTURE),
        (OSError("no route to host"), Failure.INFRASTRUCTURE),
        (caused(ModelError("generator failed"), MemoryError()), Failure.OUT_OF_MEMORY),
        (caused(ModelError("x"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")), Failure.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), Failure.OUT_OF_MEMORY),
        (TimeoutError("past its deadline"), Failure.TIMEOUT),
    ],
)
def test_failures_are_told_apart(error, failure):
    assert failures.failure_of(error) is failure


def test_the_clock_is_the_databases_and_shared(database, database_url):
    with database.read() as first, Database(database_url).read() as second:
        before, after = clock(first), clock(second)
    assert before <= after
    assert before.utcoffset().total_seconds() == 0


def test_progress_counts_finished_shards_and_what_workers_say_of_theirs(database):
    evaluation = lifecycle.submit(database, spec()).id
    other = lifecycle.submit(database, spec("e" * 64)).id
    note(database, start(database, evaluation))
    with database.write() as session:
        now = clock(session)
        facts = {"role": "slot", "host": "h", "pid": 1, "device": "cpu", "started_at": now, "seen_at": now}
        at_work = {"evaluation_id": evaluation, "stage": "samples"}
        session.add(Worker(id="alive", done=40, **facts, **at_work))
        session.add(Worker(id="lost", done=40, status=WorkerStatus.LOST, **facts, **at_work))
    with database.read() as session:
        newest, seen = progress(session)
        assert [each.id for each in workers(session)] == ["alive"]
        assert [each.id for each in progress(session, statuses=[Status.RUNNING])] == [evaluation]
        assert [each.id for each in progress(session, before=other, limit=5)] == [evaluation]
    assert (newest.id, newest.stages, newest.ended) == (other, {"samples": Stage(0, 300)}, False)
    assert (seen.model, seen.step, seen.suite, seen.status) == ("blobs", 10, "pixels@1", Status.RUNNING)
    assert seen.stages == {"samples": Stage(140, 300)}
    assert seen.fraction == pytest.approx(140 / 300)


def test_what_failed_where_its_file_was_is_tried_again_where_it_is_now(database):
    evaluation = lifecycle.submit(database, spec(path="/before/step_10.pt")).id
    attempts.fail(database, start(database, evaluation), Failure.INFRASTRUCTURE, "it is gone")
    assert lifecycle.submit(database, spec(path="/now/step_10.pt")).id == evaluation
    tried = row(database, evaluation)
    assert (tried.status, tried.spec["path"], tried.checkpoint.path) == (Status.QUEUED, *2 * ["/now/step_10.pt"])


def test_a_row_that_was_registered_before_versions_were_kept_is_what_is_evaluated_now(database):
    with database.write() as session:
        number = registration.register_checkpoint(session, spec(options={"noise": 1}))
        early = session.get_one(Checkpoint, number)
        early.generator_version = ""
        early.configuration = digest_configuration("blobs", "", {"noise": 1})
    promote(database, "production", number)
    with database.write() as session:
        assert registration.register_checkpoint(session, spec(options={"noise": True})) != number
        assert registration.register_checkpoint(session, spec(options={"noise": 1})) == number
    with database.read() as session:
        assert names.find(session, "production").generator_version == "tests 1"


def test_what_an_earlier_version_scored_stays_an_entry_of_its_own(database):
    before = lifecycle.submit(database, spec(generator_version="tests 0")).id
    after = lifecycle.submit(database, spec()).id
    with database.read() as session:
        titles = [progress(session, [each])[0].name for each in (before, after)]
    assert titles == ["blobs@10[version=tests 0]", "blobs@10[version=tests 1]"]
    with database.read() as session, pytest.raises(AmbiguousError, match="choose one of blobs@10"):
        names.find(session, "blobs@10")
