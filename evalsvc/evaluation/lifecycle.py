"""The lifecycle of evaluations: submit, cancel, retry.

Every change is one transaction on one row, used by the command line, the HTTP API and ``score``. Workers read the rows,
so that submitting needs only the database and no queue.
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

if TYPE_CHECKING:  # torch takes seconds to import, and canceling must not wait for it
    from evalsvc.evaluation.spec import EvaluationSpec

PRIORITY = 10
"""Default priority. Lower values run first."""


class Deadlines(BaseModel):
    """Seconds until an evaluation fails with ``timeout``: waiting for a worker, one shard, its metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queued: PositiveFloat | None = None
    shard: PositiveFloat | None = None
    metrics: PositiveFloat | None = None


@dataclass(frozen=True)
class Submission:
    """The evaluation of a spec; ``created`` unless it already existed, in progress or done.

    On a ``rerun`` shards that already exist are computed again.
    """

    id: int
    created: bool
    status: Status
    attempt: int = 1
    rerun: bool = False


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
    """Submit an evaluation. The same fingerprint returns the existing evaluation; a failed one is retried.

    Evaluations of clients of the API are ``restricted``: workers open for them only what clients may use.

    Raises:
        InputError: the suite has changed without a new version.
        QuotaError: the token may not queue more evaluations.
    """
    for _ in range(5):
        # On a conflict with a concurrent insert, the next iteration finds the other row.
        with suppress(IntegrityError), database.write() as session:
            checkpoint, suite = register_checkpoint(session, spec), register_suite(session, spec.suite)
            same = (
                select(tables.Evaluation)
                .where(tables.Evaluation.checkpoint_id == checkpoint, tables.Evaluation.fingerprint == spec.fingerprint)
                .order_by(tables.Evaluation.id.desc())
                .with_for_update(of=tables.Evaluation, key_share=True)
            )
            by_status = {Status(row.status): row for row in reversed(session.scalars(same).all())}
            for status in IN_PROGRESS:
                if row := by_status.get(status):
                    row.on_queue |= on_queue
                    _record(session, Action.EVALUATION_SUBMIT, row, Outcome.UNCHANGED)
                    return Submission(row.id, False, status, row.attempt, row.fresh)
            if (row := by_status.get(Status.SUCCEEDED)) and not rerun:
                if on_queue:  # a score from stored results opens nothing
                    _record(session, Action.EVALUATION_SUBMIT, row, Outcome.UNCHANGED)
                return Submission(row.id, False, Status.SUCCEEDED, row.attempt)
            token = quotas.admit(session)
            row = None if rerun else by_status.get(Status.FAILED) or by_status.get(Status.CANCELLED)
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
                row.spec = spec.model_dump(mode="json")  # the file may have moved
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
    """Cancel an evaluation: its workers stop within one batch. Computed shards are kept for a retry.

    Raises:
        InputError: the evaluation does not exist, or has ended.
    """
    with database.write() as session:
        row = locked(session, evaluation)
        if row.status == Status.CANCELLED:
            _record(session, Action.EVALUATION_CANCEL, row, Outcome.UNCHANGED)
            return
        if row.status not in IN_PROGRESS:
            raise InputError(f"evaluation {evaluation} cannot be canceled: its status is {row.status}")
        row.status, row.finished_at = Status.CANCELLED, clock(session)
        _record(session, Action.EVALUATION_CANCEL, row)
        outbox.evaluation_ended(session, row)
    log_change(row)


def retry(database: Database, evaluation: int) -> int:
    """Queue a failed or canceled evaluation again; computed shards are reused. Returns the attempt's number.

    Raises:
        InputError: the evaluation does not exist, is in progress, or has succeeded.
        QuotaError: the token may not queue more evaluations.
    """
    try:
        with database.write() as session:
            row = locked(session, evaluation)
            if row.status in IN_PROGRESS:
                raise InputError(
                    f"evaluation {evaluation} is {row.status}: only failed or canceled evaluations can be retried"
                )
            if row.status not in (Status.FAILED, Status.CANCELLED):
                raise InputError(f"evaluation {evaluation} has {row.status}: recompute it with 'evalsvc score --rerun'")
            row.token = quotas.admit(session)
            begin_again(session, row)
            row.on_queue = True
            _record(session, Action.EVALUATION_RETRY, row)
            return row.attempt
    except IntegrityError:
        raise InputError(
            f"evaluation {evaluation} was not retried: another one of the same specification is in progress"
        ) from None


def _record(session: Session, action: Action, row: tables.Evaluation, outcome: Outcome = Outcome.DONE) -> None:
    checkpoint, suite = row.checkpoint, row.suite
    name = f"{checkpoint.model.name}@{checkpoint.step}"
    facts: dict[str, audit.Fact] = {"checkpoint": name, "suite": f"{suite.name}@{suite.version}"}
    facts |= {"attempt": row.attempt, "fresh": row.fresh}
    audit.record(session, action, f"evaluation {row.id}", facts, outcome=outcome)
