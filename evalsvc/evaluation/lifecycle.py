"""The life of an evaluation as those see it who want its scores: submitted, cancelled, tried again.

Every change is one transaction over one row, and everybody makes it here: command line, HTTP and ``score``. Workers see
what was asked for by looking at the rows, so that asking needs no queue, only the database.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, PositiveFloat
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evalsvc.core.errors import InputError, StorageError
from evalsvc.evaluation import quotas
from evalsvc.evaluation.attempts import begin_again, begin_by, locked, log_change
from evalsvc.evaluation.registration import register_checkpoint, register_suite
from evalsvc.store import audit, outbox, tables
from evalsvc.store.audit import Action
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import IN_PROGRESS, Outcome, Status

if TYPE_CHECKING:  # torch takes seconds to import, and cancelling must not wait for it
    from evalsvc.evaluation.spec import EvaluationSpec

PRIORITY = 10
"""Of an evaluation that asks for none. Lower ones go first."""


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
            checkpoint, suite = register_checkpoint(session, spec), register_suite(session, spec.suite)
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
                begin_again(session, row)
                row.spec = spec.model_dump(mode="json")  # the file may lie elsewhere by now
                row.work = {kind: due for kind, due in spec.work.items()}  # noqa: C416  (its keys are any text)
            row.priority, row.deadlines, row.on_queue = priority, deadlines.model_dump(exclude_none=True), on_queue
            row.restricted = restricted
            row.by, row.token = audit.current().name[:200], token
            row.begin_by = begin_by(row)
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
        row = locked(session, evaluation)
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
            row = locked(session, evaluation)
            if row.status in IN_PROGRESS:
                raise InputError(f"evaluation {evaluation} is {row.status}: there is nothing to try again")
            if row.status not in (Status.FAILED, Status.CANCELLED):
                raise InputError(
                    f"evaluation {evaluation} has {row.status}: 'evalsvc score --rerun' computes it once more"
                )
            row.token = quotas.admit(session)
            begin_again(session, row)
            row.on_queue = True
            _record(session, Action.EVALUATION_RETRY, row)
            return row.attempt
    except IntegrityError:
        raise InputError(f"evaluation {evaluation} is not retried: another of the same is in progress") from None


def _record(session: Session, action: Action, row: tables.Evaluation, outcome: Outcome = Outcome.DONE) -> None:
    checkpoint, suite = row.checkpoint, row.suite
    name = f"{checkpoint.model.name}@{checkpoint.step}"
    facts: dict[str, audit.Fact] = {"checkpoint": name, "suite": f"{suite.name}@{suite.version}"}
    facts |= {"attempt": row.attempt, "fresh": row.fresh}
    audit.record(session, action, f"evaluation {row.id}", facts, outcome=outcome)
