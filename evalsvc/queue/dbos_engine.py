"""The durable engine, DBOS: what it runs, how it is launched, and how the work of lost workers is requeued.

Division of labor: our rows and shard files record what was requested, what is done and which workers are alive. The
engine owns the queue with its priorities, the claims, the number of starts of each job, and dead letters. Its state may
be discarded: coordinators enqueue pending evaluations again, and finished shards are not recomputed.

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
"""Version of the workflows below, not of evalsvc. Raise it when their names, arguments or order of calls change: jobs
of another version are ignored.
"""

MAX_STARTS = 4
"""Number of times that a job may crash its process before it is given up."""

SLOT_POLL_SECONDS = 0.25
"""Polling interval of a slot in seconds; between two shards it loses half of it on average."""

IDLE_POLL_SECONDS = 0.5
"""Polling interval in seconds of processes for which no device waits."""

ACTIVE = ("ENQUEUED", "PENDING")
"""Statuses of workflows that have not ended."""

_QUEUES: dict[Role, str] = {"coordinator": "evaluations", "slot": "slots"}
_OFFER = " offered after refusals: "
"""Separates the name of a job from the number of refusals in its id."""


class Refusal(TypedDict):
    """The answer of a worker that cannot run a job which another worker may be able to run."""

    worker: str
    reason: str


class CoordinatorProtocol(Protocol):
    """Interface of a coordinator, as its workflow uses it."""

    def missing_shards(self, attempt: Attempt) -> list[Shard]:
        """Shards that are not computed yet."""

    def refused(self, attempt: Attempt, refusals: Sequence[Refusal]) -> bool:
        """Return whether all workers have refused the evaluation, which has then failed."""


class SlotProtocol(Protocol):
    """Interface of a slot, as its jobs use it. Methods do not raise: faults are recorded in the rows, and the result is
    False.
    """

    def compute(self, attempt: Attempt, shard: Shard) -> bool | Refusal:
        """Compute one shard."""

    def measure(self, attempt: Attempt) -> bool | Refusal:
        """Compute the scores from all shards."""


_GIVEN_UP = (DBOSAwaitedWorkflowCancelledError, DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded)

_running: set[str] = set()
"""Workflows that are running in this process."""

_process: Any = None
"""The coordinator or slot of this process, for workflows, which are plain functions."""


# --- workflows ---


@DBOS.workflow(name="evaluation", max_recovery_attempts=1000)
def _evaluation(evaluation: int, number: int, priority: int) -> None:
    with _counted(), suppress(*_GIVEN_UP):  # the coordinator sees and records jobs that were given up
        _run_stages(evaluation, number, priority)


def _run_stages(evaluation: int, number: int, priority: int) -> None:
    shards = {f"{each['kind']} {each['start']}-{each['stop']}": (each,) for each in _missing(evaluation, number)}
    if _run_jobs(_shard, evaluation, number, shards, 2 * priority + 1):
        _run_jobs(_metrics, evaluation, number, {"metrics": ()}, 2 * priority)


def _run_jobs(job: Any, evaluation: int, number: int, due: dict[str, tuple[Any, ...]], priority: int) -> bool:
    """Run jobs by name; offer a refused job again as long as other workers remain."""
    me, refusals, offer = DBOS.workflow_id, list[Refusal](), ""
    while due:
        under_way = {}
        for name, more in due.items():
            with SetWorkflowID(f"{me}/{name}{offer}"), _priority_options(priority):
                under_way[name] = DBOS.enqueue_workflow(_QUEUES["slot"], job, evaluation, number, *more)
        refused = {}
        for name, handle in under_way.items():
            answer = handle.get_result(polling_interval_sec=IDLE_POLL_SECONDS)
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


@DBOS.workflow(name="shard", max_recovery_attempts=MAX_STARTS - 1)
def _shard(evaluation: int, number: int, shard: dict[str, Any]) -> bool | Refusal:
    with _counted():
        answer: bool | Refusal = _process.compute(Attempt(evaluation, number), Shard.model_validate(shard))
        return answer


@DBOS.workflow(name="metrics", max_recovery_attempts=MAX_STARTS - 1)
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


def _priority_options(priority: int) -> SetEnqueueOptions:
    return SetEnqueueOptions(priority=priority, app_version=VERSION)


# --- the process ---


def launch(database_url: str, worker: str, role: Role, process: CoordinatorProtocol | SlotProtocol) -> None:
    """Start taking work from the role's queue as ``worker``, which must already be registered as living."""
    global _process
    _process = process
    DBOS(
        config={
            "name": "evalsvc",
            "system_database_url": _system_database(database_url),
            "executor_id": worker,
            # The default is a digest of the code, so that every new version would strand the jobs of the old one.
            "application_version": VERSION,
            # Pickle, the default, would let anyone who can write a payload run code here.
            "serializer": DBOSPortableJSONSerializer(),
            "sys_db_pool_size": 4,
            "log_level": "WARNING",
        }
    )
    DBOS.listen_queues([_QUEUES[role]])
    DBOS.launch()
    for queue, together, poll in (
        (_QUEUES["coordinator"], 64, IDLE_POLL_SECONDS),
        (_QUEUES["slot"], 1, SLOT_POLL_SECONDS),
    ):
        DBOS.register_queue(queue, worker_concurrency=together, polling_interval_sec=poll, on_conflict="always_update")


def abandoned_claims(worker: str) -> set[str]:
    """Work that this process has claimed but does not run.

    If a database connection fails in a way that DBOS does not handle (such as a missing socket), DBOS lets the
    workflow's thread die and keeps the claim. No other worker would requeue it, because its holder is alive.
    """
    return {each.workflow_id for each in _list(status="PENDING", executor_id=worker)} - _running


def drain() -> None:
    """Stop taking work, and return when the current work is done."""
    DBOS.destroy(workflow_completion_timeout_sec=10**9)


def _system_database(database_url: str) -> str:
    """URL of the engine's database: the same Postgres in a schema of its own, or a separate file beside an SQLite
    database.
    """
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
            f"the queue's file {path} is damaged ({first_line(error)}): stop the workers and delete it; "
            "this is safe, because coordinators enqueue pending evaluations again"
        ) from None
    return url.set(database=str(path)).render_as_string()


# --- used by coordinators; never by heartbeats, because these calls wait for a lost database without limit ---


@dataclass(frozen=True)
class DeadLetter:
    """A job whose process crashed on every start."""

    workflow: str
    job: str


def workflow_id(pending_evaluation: PendingEvaluation) -> str:
    """Id of an attempt's workflow; another id after an update that is incompatible with the old workflow."""
    stamp = int(pending_evaluation.requested_at.timestamp() * 1000)
    return f"{pending_evaluation.attempt.evaluation}-{pending_evaluation.attempt.number}-{stamp:x}-v{VERSION}"


def evaluation_of(workflow: str) -> int:
    """The evaluation that a workflow belongs to."""
    return int(workflow.partition("-")[0])


def enqueue(pending_evaluation: PendingEvaluation) -> None:
    """Enqueue an evaluation. Idempotent, also across coordinators."""
    with SetWorkflowID(workflow_id(pending_evaluation)), _priority_options(pending_evaluation.priority):
        attempt = pending_evaluation.attempt
        DBOS.enqueue_workflow(
            _QUEUES["coordinator"], _evaluation, attempt.evaluation, attempt.number, pending_evaluation.priority
        )


def active() -> set[str]:
    """Evaluations that are enqueued and have not ended."""
    return {each.workflow_id for each in _list(name="evaluation", status=list(ACTIVE))}


def outcome(workflow: str) -> str | None:
    """The status of an evaluation's workflow; ``None`` if the engine has none."""
    return next((str(each.status) for each in _list(workflow_ids=[workflow])), None)


def cancel(workflows: Collection[str]) -> None:
    """Remove evaluations and their jobs from the queue."""
    if workflows:
        DBOS.cancel_workflows(sorted(workflows), cancel_children=True)


def dead_letters() -> Iterator[DeadLetter]:
    """Jobs that were given up."""
    for each in _list(name=["shard", "metrics"], status="MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
        workflow, _, job = each.workflow_id.rpartition("/")
        yield DeadLetter(workflow, job.partition(_OFFER)[0])


def claim_holders() -> set[str]:
    """Workers that hold unfinished claims, dead or alive."""
    return {each.executor_id for each in _list(status="PENDING") if each.executor_id}


def requeue(workers: Collection[str]) -> None:
    """Put the claims of these workers back on the queue; the workers must be dead or lost.

    DBOS has no public name for this call, which its commercial Conductor makes; a test checks its behavior.
    """
    if workers:
        DBOS._recover_pending_workflows(sorted(workers))


def prune(before: datetime) -> None:
    """Delete evaluations that ended earlier; the engine would keep them forever."""
    ended = _list(name="evaluation", completed_before=before.isoformat(), limit=100)
    if ended:
        DBOS.delete_workflows([each.workflow_id for each in ended], delete_children=True)


def _list(**which: Any) -> list[Any]:
    return DBOS.list_workflows(app_version=VERSION, load_input=False, load_output=False, **which)
