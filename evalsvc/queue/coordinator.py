"""The coordinator: a process that makes the engine's queue follow the rows, and hands on the work of the dead.

It is driven by state, not by events: every look compares what is asked for with what the engine has, so that whatever
was missed while nobody looked is made good by the next one. Any number of coordinators may look at once.
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

LOOK = 1.0
"""Seconds between looks."""

AHEAD = 3
"""Evaluations a slot that are handed over at once. Few, because priorities among the others can still change."""

KEPT = timedelta(days=1)
"""How long the engine remembers what ended."""

log = logging.getLogger(__name__)


class Coordinator:
    """One process's part."""

    def __init__(self, settings: Settings, heartbeat: Heartbeat, metrics: WorkerMetrics) -> None:
        self._settings, self._heartbeat, self._metrics = settings, heartbeat, metrics
        self._database = Database(settings.database)
        self._stale: set[str] = set()

    def missing_shards(self, attempt: Attempt) -> list[Shard]:
        """Shards that are still to be computed."""
        return retry_until_available(missing_shards, self._database, attempt)

    def refused(self, attempt: Attempt, refusals: Sequence[dbos_engine.Refusal]) -> bool:
        """Fail an evaluation that every living slot has refused, and say so; without any, one that comes may do it."""
        slots = retry_until_available(worker_registry.slots, self._database)
        hopeless = bool(slots) and slots <= {refusal["worker"] for refusal in refusals}
        if hopeless:
            self._fail(attempt, Failure.INFRASTRUCTURE, f"no worker can compute it: {refusals[-1]['reason']}")
        return hopeless

    def run(self) -> None:
        """Look again and again."""
        reaped = pruned = 0.0
        while True:
            try:
                self.reconcile()
                if time.monotonic() >= reaped:
                    self.reap()
                    reaped = time.monotonic() + self._settings.heartbeat / 2
                if time.monotonic() >= pruned:
                    dbos_engine.prune(retry_until_available(database_time, self._database) - KEPT)
                    pruned = time.monotonic() + 600
            except (SQLAlchemyError, StorageError) as error:
                log.warning("looking again in a moment: %s", first_line(error))
            time.sleep(LOOK)

    def reconcile(self) -> None:
        """Hand over what is asked for, take back what no longer is, and record what the engine gave up."""
        late = self._fail_overdue()
        active, slots = dbos_engine.active(), len(retry_until_available(worker_registry.slots, self._database))
        ahead = AHEAD * max(1, slots)
        near = retry_until_available(
            pending, self._database, set(map(dbos_engine.evaluation_of, active)), ahead + len(active)
        )
        asked = {
            dbos_engine.workflow_id(pending_evaluation): pending_evaluation
            for pending_evaluation in near
            if pending_evaluation.attempt not in late
        }
        stale = active - asked.keys()
        # One that has just ended well looks stale too, until its workflow has seen it.
        dbos_engine.cancel(stale & self._stale)
        self._stale = stale
        chosen = _choose(asked, active, ahead)
        outcomes = {workflow: dbos_engine.outcome(workflow) for workflow in chosen}
        # Read after the outcomes: where a dead letter was the reason, it is there by now.
        letters = {letter.workflow: letter.job for letter in dbos_engine.dead_letters()}
        self._fail_given_up(letters)
        for workflow in chosen:
            if outcomes[workflow] is None:
                dbos_engine.enqueue(asked[workflow])
                self._metrics.happened("handed_over")
                log.info("evaluation %d is handed over to the workers", asked[workflow].attempt.evaluation)
            elif outcomes[workflow] not in dbos_engine.ACTIVE and workflow not in letters:
                # (What is active by now, another coordinator handed over in the meantime.)
                self._repair(asked[workflow], str(outcomes[workflow]))

    def _fail_overdue(self) -> set[Attempt]:
        """Fail what no worker began in time, whether it was handed over or not."""
        late = retry_until_available(overdue, self._database)
        for attempt, limit in late:
            self._fail(attempt, Failure.TIMEOUT, f"no worker began it within {limit:g} s")
        return {attempt for attempt, _ in late}

    def _fail_given_up(self, letters: Mapping[str, str]) -> None:
        """Fail what is still asked for and has a job that the engine gave up."""
        if not letters:
            return
        for pending_evaluation in retry_until_available(
            pending_evaluations, self._database, set(map(dbos_engine.evaluation_of, letters))
        ):
            if job := letters.get(dbos_engine.workflow_id(pending_evaluation)):
                reason = f"{job} ended its worker process {dbos_engine.TRIES} times"
                self._metrics.happened("dead_letter")
                self._fail(pending_evaluation.attempt, Failure.INFRASTRUCTURE, reason)

    def _fail(self, attempt: Attempt, failure: Failure, reason: str) -> None:
        log.error("evaluation %d fails: %s", attempt.evaluation, reason)
        retry_until_available(attempts.fail, self._database, attempt, failure, reason)

    def _repair(self, pending_evaluation: PendingEvaluation, outcome: str) -> None:
        """The engine has ended what the rows say is in progress: they may have lost their last words in a power cut."""
        if outcome == "SUCCESS":
            retry_until_available(attempts.restart_attempt, self._database, pending_evaluation.attempt)
        else:
            self._fail(pending_evaluation.attempt, Failure.INFRASTRUCTURE, f"the queue gave it up ({outcome.lower()})")

    def reap(self) -> None:
        """Declare the silent lost, and hand on what the lost and stopped had claimed."""
        holders = dbos_engine.holders()  # before the living: who claims between the two is alive
        for worker in retry_until_available(self._judge):
            log.warning("worker %s was not heard of for %g s and is given up", worker, self._settings.dead_after)
            self._metrics.happened("worker_lost")
        dead = holders - retry_until_available(worker_registry.living, self._database)
        if dead:
            log.warning("work of %s goes to others", ", ".join(sorted(dead)))
            dbos_engine.requeue(dead)
            self._metrics.happened("taken_over")

    def _judge(self) -> list[str]:
        # Whether it may is asked anew at each try: one that waited for the database comes after an outage.
        if not self._heartbeat.may_judge:
            return []
        return worker_registry.give_up_silent(self._database, self._heartbeat.worker, self._settings.dead_after)


def _choose(asked: Mapping[str, PendingEvaluation], active: Set[str], ahead: int) -> list[str]:
    """Which evaluations are to be handed over now, or should be in progress and are not."""
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
