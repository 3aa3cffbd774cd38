"""All that touches the durable engine, DBOS: what it runs, how it is launched, how the work of the dead is handed on.

Division of labour. Ours are the rows and the shard files: what was asked for, what is done, who is alive. The engine's
are the queue and its priorities, who has claimed what, how often a job was begun, and dead letters. Its state can be
thrown away: coordinators hand everything over again, and finished shards are not computed again.

One evaluation is one workflow, run by a coordinator. It enqueues a job for each shard and then one for the metrics,
which slots run one at a time. A job has no steps: its checkpoint is the file that it writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypedDict

from evalsvc.core.errors import InputError, StorageError, first_line
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.shards import Shard
from evalsvc.queue.pending import PendingEvaluation
from evalsvc.queue.worker_registry import Role
from evalsvc.store.sqlite import create
from evalsvc.store.urls import parse_url

try:
    from dbos import DBOS, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID
    from dbos._error import DBOSAwaitedWorkflowCancelledError, DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded
except ImportError as error:
    raise InputError(f"workers need the extra 'worker' ({error}): pip install 'evalsvc[worker]'") from None

VERSION = "2"
"""Of the workflows below, not of evalsvc. Raise it with their names, arguments or order of calls: jobs of another
version are left alone."""

TRIES = 4
"""How often a job is begun, each time after its process died in it, before it is given up."""

POLL = 0.25
"""Seconds between a slot's looks at its queue: it loses half of it, on average, between two shards."""

CALM = 0.5
"""Seconds between looks of those for whom no device waits."""

ACTIVE = ("ENQUEUED", "PENDING")
"""States of a workflow that has not ended."""

_QUEUES: dict[Role, str] = {"coordinator": "evaluations", "slot": "slots"}
_OFFER = " offered after refusals: "
"""Stands in the id of a job between its name and how many there were."""


class Refusal(TypedDict):
    """What a worker answers that lacks something which another may have."""

    worker: str
    reason: str


class Coordinator(Protocol):
    """What the workflow asks of its process."""

    def missing_shards(self, attempt: Attempt) -> list[Shard]:
        """Shards that are still to be computed."""

    def refused(self, attempt: Attempt, refusals: Sequence[Refusal]) -> bool:
        """Whether no worker is left that has not refused; the evaluation has then failed."""


class Slot(Protocol):
    """What jobs ask of their process. Nothing is raised: what goes wrong is recorded in the rows, and the answer no."""

    def compute(self, attempt: Attempt, shard: Shard) -> bool | Refusal:
        """Compute one shard."""

    def measure(self, attempt: Attempt) -> bool | Refusal:
        """Reduce all shards to scores."""


_GIVEN_UP = (DBOSAwaitedWorkflowCancelledError, DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded)

_running: set[str] = set()
"""Workflows that are under way in this process."""

_process: Any = None
"""The coordinator or the slot that this process is: a workflow is a plain function, and finds it here."""


# --- workflows ---


@DBOS.workflow(name="evaluation", max_recovery_attempts=1000)
def _evaluation(evaluation: int, number: int, priority: int) -> None:
    with _counted(), suppress(*_GIVEN_UP):  # what was given up, the coordinator sees and records
        _conduct(evaluation, number, priority)


def _conduct(evaluation: int, number: int, priority: int) -> None:
    shards = {f"{each['kind']} {each['start']}-{each['stop']}": (each,) for each in _missing(evaluation, number)}
    if _all_done(_shard, evaluation, number, shards, 2 * priority + 1):
        _all_done(_metrics, evaluation, number, {"metrics": ()}, 2 * priority)


def _all_done(job: Any, evaluation: int, number: int, due: dict[str, tuple[Any, ...]], priority: int) -> bool:
    """Have jobs done, by name; those that a worker refuses are offered again, as long as there are other workers."""
    me, refusals, offer = DBOS.workflow_id, list[Refusal](), ""
    while due:
        under_way = {}
        for name, more in due.items():
            with SetWorkflowID(f"{me}/{name}{offer}"), _urgency(priority):
                under_way[name] = DBOS.enqueue_workflow(_QUEUES["slot"], job, evaluation, number, *more)
        refused = {}
        for name, handle in under_way.items():
            answer = handle.get_result(polling_interval_sec=CALM)
            if not isinstance(answer, bool):
                refused[name] = due[name]
                refusals.append(answer)
                answer = not _refused(evaluation, number, refusals)
            if not answer:
                return False
        due, offer = refused, f"{_OFFER}{len(refusals)}"
    return True


@DBOS.step(name="missing")
def _missing(evaluation: int, number: int) -> list[dict[str, Any]]:
    return [shard.model_dump() for shard in _process.missing_shards(Attempt(evaluation, number))]


@DBOS.step(name="refused")
def _refused(evaluation: int, number: int, refusals: list[Refusal]) -> bool:
    return bool(_process.refused(Attempt(evaluation, number), refusals))


@DBOS.workflow(name="shard", max_recovery_attempts=TRIES - 1)
def _shard(evaluation: int, number: int, shard: dict[str, Any]) -> bool | Refusal:
    with _counted():
        answer: bool | Refusal = _process.compute(Attempt(evaluation, number), Shard.model_validate(shard))
        return answer


@DBOS.workflow(name="metrics", max_recovery_attempts=TRIES - 1)
def _metrics(evaluation: int, number: int) -> bool | Refusal:
    with _counted():
        answer: bool | Refusal = _process.measure(Attempt(evaluation, number))
        return answer


@contextmanager
def _counted() -> Iterator[None]:
    workflow = DBOS.workflow_id or ""
    _running.add(workflow)
    try:
        yield
    finally:
        _running.discard(workflow)


def _urgency(priority: int) -> SetEnqueueOptions:
    return SetEnqueueOptions(priority=priority, app_version=VERSION)


# --- the process ---


def launch(database_url: str, worker: str, role: Role, process: Coordinator | Slot) -> None:
    """Begin to take work from the role's queue, as ``worker``, which must be registered as living before."""
    global _process
    _process = process
    DBOS(
        config={
            "name": "evalsvc",
            "system_database_url": _system_database(database_url),
            "executor_id": worker,
            # Unset, it would be a digest of the code, and every new version would strand the jobs of the old one.
            "application_version": VERSION,
            # Pickle, the default, would let whoever can write a payload run code here.
            "serializer": DBOSPortableJSONSerializer(),
            "sys_db_pool_size": 4,
            "log_level": "WARNING",
        }
    )
    DBOS.listen_queues([_QUEUES[role]])
    DBOS.launch()
    for queue, together, poll in ((_QUEUES["coordinator"], 64, CALM), (_QUEUES["slot"], 1, POLL)):
        DBOS.register_queue(queue, worker_concurrency=together, polling_interval_sec=poll, on_conflict="always_update")


def forgotten(worker: str) -> set[str]:
    """What a worker, this process, has claimed and does not do.

    Where a database is lost in a way that DBOS does not know (a socket that is not there), it lets a workflow's thread
    die and leaves the claim; nobody would take it over, since its holder lives.
    """
    return {each.workflow_id for each in _list(status="PENDING", executor_id=worker)} - _running


def drain() -> None:
    """Take no more work, and return when the work in hand is done."""
    DBOS.destroy(workflow_completion_timeout_sec=10**9)


def _system_database(database_url: str) -> str:
    """The same Postgres, in a schema of its own; beside an SQLite file another, which no migration of ours touches."""
    url = parse_url(database_url)
    if url.get_backend_name() != "sqlite":
        return url.set(drivername="postgresql").render_as_string(hide_password=False)
    path = Path(url.database or "").with_suffix(".engine.db")
    create(path)
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        raise StorageError(f"the queue's file {path} cannot be opened ({first_line(error)}): check its disk") from None
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"the queue's file {path} is damaged ({first_line(error)}): stop the workers and delete it; no evaluation "
            "is lost, coordinators enqueue what is pending again"
        ) from None
    return url.set(database=str(path)).render_as_string()


# --- what coordinators do with it; never called from a heartbeat, since it waits for a lost database without limit ---


@dataclass(frozen=True)
class DeadLetter:
    """A job whose process died each time that it was begun."""

    workflow: str
    job: str


def workflow_id(pending_evaluation: PendingEvaluation) -> str:
    """One attempt's workflow; another after an update that could not go on with the old one."""
    stamp = int(pending_evaluation.requested_at.timestamp() * 1000)
    return f"{pending_evaluation.attempt.evaluation}-{pending_evaluation.attempt.number}-{stamp:x}-v{VERSION}"


def evaluation_of(workflow: str) -> int:
    """The evaluation whose attempt a workflow is."""
    return int(workflow.partition("-")[0])


def enqueue(pending_evaluation: PendingEvaluation) -> None:
    """Enqueue an evaluation; once, however often and by how many coordinators."""
    with SetWorkflowID(workflow_id(pending_evaluation)), _urgency(pending_evaluation.priority):
        attempt = pending_evaluation.attempt
        DBOS.enqueue_workflow(
            _QUEUES["coordinator"], _evaluation, attempt.evaluation, attempt.number, pending_evaluation.priority
        )


def active() -> set[str]:
    """Evaluations that are handed over and have not ended."""
    return {each.workflow_id for each in _list(name="evaluation", status=list(ACTIVE))}


def outcome(workflow: str) -> str | None:
    """The state of an evaluation's workflow; ``None`` where the engine knows none."""
    return next((str(each.status) for each in _list(workflow_ids=[workflow])), None)


def cancel(workflows: Collection[str]) -> None:
    """Take evaluations and their jobs from the queue."""
    if workflows:
        DBOS.cancel_workflows(sorted(workflows), cancel_children=True)


def dead_letters() -> Iterator[DeadLetter]:
    """Jobs that were given up."""
    for each in _list(name=["shard", "metrics"], status="MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
        workflow, _, job = each.workflow_id.rpartition("/")
        yield DeadLetter(workflow, job.partition(_OFFER)[0])


def holders() -> set[str]:
    """Workers that have claimed something and not brought it back, dead or alive."""
    return {each.executor_id for each in _list(status="PENDING") if each.executor_id}


def requeue(workers: Collection[str]) -> None:
    """Put what these workers had claimed back on the queue; they must be dead, or given up.

    The one call for which DBOS has no public name (its commercial Conductor makes it); a test holds what it does.
    """
    if workers:
        DBOS._recover_pending_workflows(sorted(workers))


def prune(before: datetime) -> None:
    """Forget evaluations that ended before; the engine keeps them for ever by itself."""
    ended = _list(name="evaluation", completed_before=before.isoformat(), limit=100)
    if ended:
        DBOS.delete_workflows([each.workflow_id for each in ended], delete_children=True)


def _list(**which: Any) -> list[Any]:
    return DBOS.list_workflows(app_version=VERSION, load_input=False, load_output=False, **which)
