"""The life of an evaluation in the database: asked for, begun, cancelled, failed, tried again.

Every change is one transaction over one row, and everybody makes it here: command line, HTTP, ``score`` and workers.
Workers see what was asked for by looking at the rows, so that asking needs no queue, only the database.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, PositiveFloat
from sqlalchemy import Select, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evalsvc.core.cost import Cost
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import EvalsvcError, InputError, StorageError, WithdrawnError, detail_of, printable
from evalsvc.core.observability import logs
from evalsvc.core.observability.redaction import redacted
from evalsvc.evaluation import quotas
from evalsvc.metrics.score import MetricError
from evalsvc.store import audit, outbox, tables
from evalsvc.store.audit import Action
from evalsvc.store.session import Database, clock, ensured
from evalsvc.store.tables import IN_PROGRESS, WORKING, Failure, Outcome, Status

if TYPE_CHECKING:  # torch takes seconds to import, and cancelling must not wait for it
    from evalsvc.evaluation.spec import EvaluationSpec
    from evalsvc.inputs.suites import Suite

log = logging.getLogger(__name__)

LONGEST_DETAIL = 4000
"""Characters."""

PRIORITY = 10
"""Of an evaluation that asks for none. Lower ones go first."""
LONGEST_WAIT = 1e9
"""Seconds; a date beyond it is none that a database holds."""


class Deadlines(BaseModel):
    """Seconds until an evaluation fails with ``timeout``: waiting for a worker, in one shard, in its metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queued: PositiveFloat | None = None
    shard: PositiveFloat | None = None
    metrics: PositiveFloat | None = None


@dataclass(frozen=True)
class Submission:
    """The evaluation that answers for a spec; ``created`` unless one was there, in progress or done.

    A ``fresh`` one computes shards again that others left.
    """

    id: int
    created: bool
    status: Status
    attempt: int = 1
    fresh: bool = False


@dataclass(frozen=True)
class Attempt:
    """A right to write about an evaluation; it ends when another attempt begins, or the worker is given up."""

    evaluation: int
    number: int
    worker: str | None = None


def submit(
    database: Database,
    spec: EvaluationSpec,
    *,
    priority: int = PRIORITY,
    deadlines: Deadlines = Deadlines(),  # noqa: B008  (frozen)
    on_queue: bool = True,
    rerun: bool = False,
    restricted: bool = False,
) -> Submission:
    """Ask for an evaluation. The same fingerprint again gives the evaluation that is there; a failed one is retried.

    One that a client of the API asks for is ``restricted``: workers open for it only what clients may have opened.

    Raises:
        InputError: the suite has changed and kept its version.
        QuotaError: the token that asks may queue no more.
    """
    for _ in range(5):
        # Whoever adds the same row at the same time wins, and the next look finds theirs.
        with suppress(IntegrityError), database.write() as session:
            checkpoint, suite = register_checkpoint(session, spec), _register_suite(session, spec.suite)
            same = (
                select(tables.Evaluation)
                .where(tables.Evaluation.checkpoint_id == checkpoint, tables.Evaluation.fingerprint == spec.fingerprint)
                .order_by(tables.Evaluation.id.desc())
                .with_for_update(of=tables.Evaluation, key_share=True)
            )
            found = {Status(row.status): row for row in reversed(session.scalars(same).all())}
            for status in IN_PROGRESS:
                if row := found.get(status):
                    row.on_queue |= on_queue
                    _record(session, Action.EVALUATION_SUBMIT, row, Outcome.UNCHANGED)
                    return Submission(row.id, False, status, row.attempt, row.fresh)
            if (row := found.get(Status.SUCCEEDED)) and not rerun:
                if on_queue:  # a score that reads what is stored asks for nothing
                    _record(session, Action.EVALUATION_SUBMIT, row, Outcome.UNCHANGED)
                return Submission(row.id, False, Status.SUCCEEDED, row.attempt)
            token = quotas.admit(session)
            row = None if rerun else found.get(Status.FAILED) or found.get(Status.CANCELLED)
            if row is None:
                row = tables.Evaluation(
                    checkpoint_id=checkpoint,
                    suite_id=suite,
                    fingerprint=spec.fingerprint,
                    status=Status.QUEUED,
                    spec=spec.model_dump(mode="json"),
                    work=spec.work,
                    fresh=rerun,
                    requested_at=clock(session),
                )
                session.add(row)
            else:
                _restart(session, row)
                row.spec = spec.model_dump(mode="json")  # the file may lie elsewhere by now
                row.work = {kind: due for kind, due in spec.work.items()}  # noqa: C416  (its keys are any text)
            row.priority, row.deadlines, row.on_queue = priority, deadlines.model_dump(exclude_none=True), on_queue
            row.restricted = restricted
            row.by, row.token = audit.current().name[:200], token
            row.begin_by = _begin_by(row)
            session.flush()
            _record(session, Action.EVALUATION_SUBMIT, row)
            return Submission(row.id, True, Status.QUEUED, row.attempt, row.fresh)
    raise StorageError(f"the evaluation of {spec.model}@{spec.step} could not be added: run the command again")


def cancel(database: Database, evaluation: int) -> None:
    """Stop an evaluation: its workers stop within one batch. What was computed is kept for a retry.

    Raises:
        InputError: there is no such evaluation, or it has ended.
    """
    with database.write() as session:
        row = _get(session, evaluation)
        if row.status == Status.CANCELLED:
            _record(session, Action.EVALUATION_CANCEL, row, Outcome.UNCHANGED)
            return
        if row.status not in IN_PROGRESS:
            raise InputError(f"evaluation {evaluation} cannot be cancelled: it has {row.status} already")
        row.status, row.finished_at = Status.CANCELLED, clock(session)
        _record(session, Action.EVALUATION_CANCEL, row)
        outbox.evaluation_ended(session, row)
    log_change(row)


def retry(database: Database, evaluation: int) -> int:
    """Put a failed or cancelled evaluation on the queue again; shards that are done stay done. The attempt's number.

    Raises:
        InputError: there is no such evaluation, it is in progress, or it has succeeded.
        QuotaError: the token that asks may queue no more.
    """
    try:
        with database.write() as session:
            row = _get(session, evaluation)
            if row.status in IN_PROGRESS:
                raise InputError(f"evaluation {evaluation} is {row.status}: there is nothing to try again")
            if row.status not in (Status.FAILED, Status.CANCELLED):
                raise InputError(
                    f"evaluation {evaluation} has {row.status}: 'evalsvc score --rerun' computes it once more"
                )
            row.token = quotas.admit(session)
            _restart(session, row)
            row.on_queue = True
            _record(session, Action.EVALUATION_RETRY, row)
            return row.attempt
    except IntegrityError:
        raise InputError(f"evaluation {evaluation} is not retried: another of the same is in progress") from None


def start(database: Database, attempt: Attempt) -> None:
    """Begin an attempt, or go on with it.

    Raises:
        WithdrawnError: the attempt is no longer wanted.
    """
    with database.write() as session:
        row = lock_attempt(session, attempt)
        begins = row.status == Status.QUEUED
        if begins:
            row.status, row.started_at = Status.RUNNING, clock(session)
    if begins:
        log_change(row)


def check(database: Database, attempt: Attempt) -> None:
    """Raise :class:`WithdrawnError` if the attempt is no longer wanted; one short read, made between batches."""
    worker = select(tables.Worker.status).where(tables.Worker.id == attempt.worker).scalar_subquery()
    state = select(tables.Evaluation.status, tables.Evaluation.attempt, worker.label("worker"))
    with database.read() as session:
        row = session.execute(state.where(tables.Evaluation.id == attempt.evaluation)).one()
    _refuse(attempt, row.status, row.attempt, row.worker)


def lock_attempt(session: Session, attempt: Attempt) -> tables.Evaluation:
    """The attempt's evaluation, locked until the end of the transaction; nobody writes about it without this.

    Raises:
        WithdrawnError: another attempt has begun, the evaluation has ended, or the worker was given up.
    """
    row = _get(session, attempt.evaluation)
    state = select(tables.Worker.status).where(tables.Worker.id == attempt.worker)
    worker = session.scalar(state.with_for_update(read=True)) if attempt.worker else None
    _refuse(attempt, row.status, row.attempt, worker)
    return row


def record_shard(
    database: Database, attempt: Attempt, *, kind: str, start: int, stop: int, path: str, cost: Cost | None
) -> None:
    """Record that a shard's file is on disk, and what it cost.

    Raises:
        WithdrawnError: the attempt is no longer wanted.
    """
    with database.write() as session:
        row = lock_attempt(session, attempt)
        if cost:
            row.charge(cost)
            quotas.charge(session, row.token, cost.seconds)
        same = select(tables.Shard).where(
            tables.Shard.evaluation_id == attempt.evaluation, tables.Shard.kind == kind, tables.Shard.start == start
        )
        if session.scalar(same) is None:
            session.add(
                tables.Shard(
                    evaluation_id=attempt.evaluation,
                    kind=kind,
                    start=start,
                    stop=stop,
                    path=path,
                    seconds=cost.seconds if cost else None,
                    worker=attempt.worker,
                )
            )


def restart_attempt(database: Database, attempt: Attempt) -> None:
    """Begin the next attempt in place of one that was lost; one that is no longer wanted changes nothing."""
    with suppress(WithdrawnError), database.write() as session:
        _restart(session, lock_attempt(session, attempt))


def fail(database: Database, attempt: Attempt, failure: Failure, reason: str, detail: str = "") -> None:
    """End an attempt that failed; one that is no longer wanted changes nothing. The operator alone reads ``detail``."""
    try:
        with database.write() as session:
            row = lock_attempt(session, attempt)
            row.status, row.failure, row.error, row.finished_at = Status.FAILED, failure, reason, clock(session)
            row.detail = detail[:LONGEST_DETAIL] or None
            outbox.evaluation_ended(session, row)
    except WithdrawnError:
        return
    log_change(row)


def log_change(row: tables.Evaluation) -> None:
    """Log that an evaluation has begun or ended, once that is stored."""
    why = f" ({row.failure}): {row.error}" if row.failure else ""
    name = f"{row.checkpoint.model.name}@{row.checkpoint.step}"
    suite = f"{row.suite.name}@{row.suite.version}"
    facts = logs.fields(
        evaluation=row.id, checkpoint=name, suite=suite, status=row.status, attempt=row.attempt, failure=row.failure
    )
    level = logging.WARNING if row.failure else logging.INFO
    log.log(level, "evaluation %d, %s under %s, is %s%s", row.id, name, suite, row.status, why, extra=facts)


def failure_of(error: BaseException) -> Failure:
    """What kind of failure an exception, or one beneath it, tells of."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__
    if any(isinstance(each, MemoryError) or "out of memory" in str(each).lower() for each in chain) or any(
        "can't allocate memory" in str(each) for each in chain
    ):
        return Failure.OUT_OF_MEMORY
    if any(isinstance(each, TimeoutError) for each in chain):
        return Failure.TIMEOUT
    if isinstance(error, EvalsvcError | MetricError) and not isinstance(error, StorageError):
        return Failure.MODEL
    return Failure.INFRASTRUCTURE


def is_of_operator(session: Session, checkpoint: int) -> bool:
    """Whether an operator scored or submitted this checkpoint in its configuration, and so chose what it opens."""
    own = select(tables.Evaluation.id).where(
        tables.Evaluation.checkpoint_id == checkpoint, ~tables.Evaluation.restricted
    )
    return session.scalar(own.limit(1)) is not None


def reasons_of(error: BaseException) -> tuple[str, str]:
    """What everybody may read of an error that ends an evaluation, and what operators read beside it.

    The text of an error that is not ours may hold anything: what a store answered, an address, a key.
    """
    if isinstance(error, EvalsvcError | MetricError) or "out of memory" in str(error).lower():
        return redacted(str(error)) or type(error).__name__, detail_of(error)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"{reason}: the worker's log says more", printable(redacted(str(error)))


def register_checkpoint(session: Session, spec: EvaluationSpec) -> int:
    """The id of the spec's checkpoint in its configuration, its model and itself added where they are new."""
    by_name = select(tables.Model).where(tables.Model.name == spec.model)
    model = ensured(session, by_name, tables.Model(name=spec.model, family=spec.family))
    content = select(tables.Checkpoint).where(
        tables.Checkpoint.model_id == model.id,
        tables.Checkpoint.step == spec.step,
        tables.Checkpoint.digest == spec.checkpoint,
    )
    new = tables.Checkpoint(
        model_id=model.id,
        step=spec.step,
        digest=spec.checkpoint,
        path=spec.path,
        generator=spec.generator,
        generator_version=spec.generator_version,
        options=spec.options,
        configuration=spec.configuration,
    )
    same = content.where(tables.Checkpoint.configuration == spec.configuration)
    if session.scalar(same) is None:
        _adopt(session, content, spec)
    row = ensured(session, same, new)
    if not Path(row.path).exists():
        row.path = spec.path  # it was moved
    return row.id


def unchanged_suite(session: Session, suite: Suite) -> tables.Suite | None:
    """The row of a suite, ``None`` where it was never used.

    Raises:
        InputError: its name and version meant something else before.
    """
    row = session.scalar(
        select(tables.Suite).where(tables.Suite.name == suite.name, tables.Suite.version == suite.version)
    )
    if row is not None and row.digest != suite.digest:
        raise InputError(
            f"suite {suite.id} has changed since it was first used, and scores would no longer mean the same: "
            f"raise its version to {suite.version + 1}"
        )
    return row


def _adopt(session: Session, content: Select[tables.Checkpoint], spec: EvaluationSpec) -> None:
    """Give a row of before versions were kept, which was never evaluated, the configuration that evaluates it now."""
    evaluated = exists().where(tables.Evaluation.checkpoint_id == tables.Checkpoint.id)
    early = content.where(
        tables.Checkpoint.generator == spec.generator, tables.Checkpoint.generator_version == "", ~evaluated
    )
    for row in session.scalars(early).all():
        if digest_json(row.options) == digest_json(spec.options):
            row.generator_version, row.configuration = spec.generator_version, spec.configuration
            session.flush()
            return


def _register_suite(session: Session, suite: Suite) -> int:
    """The id of the suite; a name and version that meant something else before is an error."""
    row = unchanged_suite(session, suite)
    if row is None:
        body = suite.model_dump(mode="json")
        row = tables.Suite(name=suite.name, version=suite.version, digest=suite.digest, body=body)
        session.add(row)
        session.flush()
    elif row.body.get("index", {}) != (index := suite.model_dump(mode="json")["index"]):
        row.body = row.body | {"index": index}  # how scores are summed up may change: the scores do not
    return row.id


def _get(session: Session, evaluation: int) -> tables.Evaluation:
    # Its key stays: a heartbeat, which holds the worker's row and names the evaluation, need not wait for this.
    lock = {"of": tables.Evaluation, "key_share": True}
    row = session.get(tables.Evaluation, evaluation, with_for_update=lock, populate_existing=True)
    if row is None:
        raise InputError(f"there is no evaluation {evaluation}: 'evalsvc status' lists them")
    return row


def _record(session: Session, action: Action, row: tables.Evaluation, outcome: Outcome = Outcome.DONE) -> None:
    checkpoint, suite = row.checkpoint, row.suite
    name = f"{checkpoint.model.name}@{checkpoint.step}"
    facts: dict[str, audit.Fact] = {"checkpoint": name, "suite": f"{suite.name}@{suite.version}"}
    facts |= {"attempt": row.attempt, "fresh": row.fresh}
    audit.record(session, action, f"evaluation {row.id}", facts, outcome=outcome)


def _restart(session: Session, row: tables.Evaluation) -> None:
    row.attempt += 1
    row.status, row.requested_at = Status.QUEUED, clock(session)
    row.begin_by = _begin_by(row)
    row.started_at = row.finished_at = row.failure = row.error = row.detail = None


def _begin_by(row: tables.Evaluation) -> datetime | None:
    limit = row.deadlines.get("queued")
    return None if limit is None else row.requested_at + timedelta(seconds=min(limit, LONGEST_WAIT))


def _refuse(attempt: Attempt, status: str, number: int, worker: str | None) -> None:
    """Raise, with the reason, unless an attempt may go on with a row and a worker in these states."""
    if attempt.worker and worker not in WORKING:
        raise WithdrawnError(f"worker {attempt.worker} was not heard of in time, and its work was given to another")
    if number != attempt.number:
        raise WithdrawnError(
            f"evaluation {attempt.evaluation}: attempt {attempt.number} brings nothing any more, attempt {number} does"
        )
    if status not in IN_PROGRESS:
        raise WithdrawnError(f"evaluation {attempt.evaluation} was {status} while it was being computed")
