"""The coordinator: reconciles the engine's queue with the database rows, and requeues the work of lost workers.

It is driven by state, not by events: each pass compares the requested evaluations with those in the engine, so that the
next pass repairs everything that was missed while no coordinator ran. Any number of coordinators may run at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence, Set
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from evalsvc.core.errors import StorageError, first_line
from evalsvc.core.settings import Settings
from evalsvc.evaluation import attempts
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.missing_shards import missing_shards
from evalsvc.evaluation.shards import Shard
from evalsvc.queue import dbos_engine, worker_registry
from evalsvc.queue.heartbeat import Heartbeat
from evalsvc.queue.pending import PendingEvaluation, overdue, pending, pending_evaluations
from evalsvc.queue.worker_metrics import WorkerMetrics
from evalsvc.store.session import Database, database_time, retry_until_available
from evalsvc.store.tables import Failure, Status

RECONCILE_SECONDS = 1.0
"""Seconds between passes."""

ENQUEUED_PER_SLOT = 3
"""Evaluations per slot that are enqueued ahead. Few, because the priorities of waiting evaluations can still change."""

RETENTION = timedelta(days=1)
"""How long the engine keeps finished workflows."""

log = logging.getLogger(__name__)


class Coordinator:
    """The coordinator of one process."""

    def __init__(self, settings: Settings, heartbeat: Heartbeat, metrics: WorkerMetrics) -> None:
        self._settings, self._heartbeat, self._metrics = settings, heartbeat, metrics
        self._database = Database(settings.database)
        self._stale: set[str] = set()

    def missing_shards(self, attempt: Attempt) -> list[Shard]:
        """Shards that are not computed yet."""
        return retry_until_available(missing_shards, self._database, attempt)

    def refused(self, attempt: Attempt, refusals: Sequence[dbos_engine.Refusal]) -> bool:
        """Fail an evaluation that every living slot has refused, and return True. Without living
        slots, wait for one.
        """
        slots = retry_until_available(worker_registry.slots, self._database)
        hopeless = bool(slots) and slots <= {refusal["worker"] for refusal in refusals}
        if hopeless:
            self._fail(attempt, Failure.INFRASTRUCTURE, f"no worker can compute it: {refusals[-1]['reason']}")
        return hopeless

    def run(self) -> None:
        """Reconcile repeatedly until told to stop."""
        reaped = pruned = 0.0
        while True:
            try:
                self.reconcile()
                if time.monotonic() >= reaped:
                    self.reap()
                    reaped = time.monotonic() + self._settings.heartbeat / 2
                if time.monotonic() >= pruned:
                    dbos_engine.prune(retry_until_available(database_time, self._database) - RETENTION)
                    pruned = time.monotonic() + 600
            except (SQLAlchemyError, StorageError) as error:
                log.warning("reconciliation failed, retrying soon: %s", first_line(error))
            time.sleep(RECONCILE_SECONDS)

    def reconcile(self) -> None:
        """Enqueue requested evaluations, cancel withdrawn ones, and record those that the engine gave up."""
        late = self._fail_overdue()
        active, slots = dbos_engine.active(), len(retry_until_available(worker_registry.slots, self._database))
        ahead = ENQUEUED_PER_SLOT * max(1, slots)
        near = retry_until_available(
            pending, self._database, set(map(dbos_engine.evaluation_of, active)), ahead + len(active)
        )
        asked = {
            dbos_engine.workflow_id(pending_evaluation): pending_evaluation
            for pending_evaluation in near
            if pending_evaluation.attempt not in late
        }
        stale = active - asked.keys()
        # A workflow that has just succeeded looks stale too, until it has seen its evaluation's end.
        dbos_engine.cancel(stale & self._stale)
        self._stale = stale
        chosen = _select(asked, active, ahead)
        outcomes = {workflow: dbos_engine.outcome(workflow) for workflow in chosen}
        # Read after the outcomes: a dead letter that caused an outcome is visible by now.
        letters = {letter.workflow: letter.job for letter in dbos_engine.dead_letters()}
        self._fail_given_up(letters)
        for workflow in chosen:
            if outcomes[workflow] is None:
                dbos_engine.enqueue(asked[workflow])
                self._metrics.count_event("handed_over")
                log.info("evaluation %d: enqueued for the workers", asked[workflow].attempt.evaluation)
            elif outcomes[workflow] not in dbos_engine.ACTIVE and workflow not in letters:
                # (Evaluations that are active by now were enqueued by another coordinator in the meantime.)
                self._repair(asked[workflow], str(outcomes[workflow]))

    def _fail_overdue(self) -> set[Attempt]:
        """Fail attempts that no worker started before their deadline, enqueued or not."""
        late = retry_until_available(overdue, self._database)
        for attempt, limit in late:
            self._fail(attempt, Failure.TIMEOUT, f"no worker started it within {limit:g} s")
        return {attempt for attempt, _ in late}

    def _fail_given_up(self, letters: Mapping[str, str]) -> None:
        """Fail pending evaluations with a job that the engine gave up."""
        if not letters:
            return
        for pending_evaluation in retry_until_available(
            pending_evaluations, self._database, set(map(dbos_engine.evaluation_of, letters))
        ):
            if job := letters.get(dbos_engine.workflow_id(pending_evaluation)):
                reason = f"{job} crashed its worker process {dbos_engine.MAX_STARTS} times"
                self._metrics.count_event("dead_letter")
                self._fail(pending_evaluation.attempt, Failure.INFRASTRUCTURE, reason)

    def _fail(self, attempt: Attempt, failure: Failure, reason: str) -> None:
        log.error("evaluation %d failed: %s", attempt.evaluation, reason)
        retry_until_available(attempts.fail, self._database, attempt, failure, reason)

    def _repair(self, pending_evaluation: PendingEvaluation, outcome: str) -> None:
        """Repair evaluations that are in progress in the rows but ended in the engine, whose last writes a power
        failure may have lost.
        """
        if outcome == "SUCCESS":
            retry_until_available(attempts.restart_attempt, self._database, pending_evaluation.attempt)
        else:
            self._fail(
                pending_evaluation.attempt, Failure.INFRASTRUCTURE, f"the queue gave up on it ({outcome.lower()})"
            )

    def reap(self) -> None:
        """Declare silent workers lost, and requeue the work that lost and stopped workers had claimed."""
        # Before the living workers: a worker that claims between the two queries is alive.
        claim_holders = dbos_engine.claim_holders()
        for worker in retry_until_available(self._declare_lost):
            log.warning("worker %s is lost: no heartbeat for %g s", worker, self._settings.dead_after)
            self._metrics.count_event("worker_lost")
        dead = claim_holders - retry_until_available(worker_registry.living, self._database)
        if dead:
            log.warning("work of %s was requeued", ", ".join(sorted(dead)))
            dbos_engine.requeue(dead)
            self._metrics.count_event("taken_over")

    def _declare_lost(self) -> list[str]:
        # Checked again at each try: a try that waited for the database may come right after an outage.
        if not self._heartbeat.may_declare_lost:
            return []
        return worker_registry.declare_silent_lost(self._database, self._heartbeat.worker, self._settings.dead_after)


def _select(asked: Mapping[str, PendingEvaluation], active: Set[str], ahead: int) -> list[str]:
    """Select the evaluations to enqueue now, and those that should be in progress and are not."""
    room = ahead - len(active & asked.keys())
    most_urgent = min((asked[workflow].priority for workflow in active & asked.keys()), default=0)
    chosen = []
    for workflow, pending_evaluation in asked.items():
        if workflow not in active and (
            pending_evaluation.status != Status.QUEUED or room > 0 or pending_evaluation.priority < most_urgent
        ):
            chosen.append(workflow)
            room -= 1
    return chosen
