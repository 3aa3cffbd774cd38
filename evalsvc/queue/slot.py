"""A slot: a process that computes one job at a time on one device."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from evalsvc.core.errors import EvalsvcError, IncompatibleWorkerError, InputError, WithdrawnError, causes, first_line
from evalsvc.core.observability import logs, tracing
from evalsvc.evaluation import attempts, failures, quotas
from evalsvc.evaluation.attempts import Attempt
from evalsvc.evaluation.client_rules import ClientRules
from evalsvc.evaluation.compatibility import require_compatible
from evalsvc.evaluation.context import Advance, EvaluationContext
from evalsvc.evaluation.lifecycle import Deadlines
from evalsvc.evaluation.runner import measure, record_shard
from evalsvc.evaluation.shard_computation import compute_shard
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.errors import MetricError
from evalsvc.queue.dbos_engine import Refusal
from evalsvc.queue.heartbeat import EXIT_GIVEN_UP, Heartbeat, Task
from evalsvc.queue.worker_metrics import WorkerMetrics
from evalsvc.store import tables
from evalsvc.store.session import retry_until_available
from evalsvc.store.tables import Failure

RETRY_DELAYS = (5, 10, 20, 40, 80)
"""Seconds between tries of a job after an infrastructure failure (a full disk, an unavailable store)."""

REFUSAL_DELAYS = (1, 2, 4, 8, 16, 30)
"""Seconds before a slot returns a refused job, longer for each refusal in a row, so that other slots can take the
remaining jobs.
"""

_OTHER_VERSION = (
    "another version of evalsvc submitted this evaluation and would compute it differently: upgrade this worker, "
    "or submit the evaluation again with the version of the workers"
)

_Work = Callable[[Attempt, EvaluationSpec, bool], None]
"""A job's part of an evaluation, which may use a new context."""

log = logging.getLogger(__name__)


class Slot:
    """The slot of one device, called by the jobs of the queue."""

    def __init__(self, context: EvaluationContext, heartbeat: Heartbeat, metrics: WorkerMetrics) -> None:
        self._context, self._heartbeat, self._metrics = context, heartbeat, metrics
        self._rules = ClientRules(context.plugins)
        self._fit: set[str] = set()
        self._refused = 0
        self._turn = threading.Lock()
        context.progress = self._progress

    def compute(self, attempt: Attempt, shard: Shard) -> bool | Refusal:
        """Compute and record one shard; return whether the evaluation may continue, or the reason why this worker
        refuses it.
        """

        def work(attempt: Attempt, spec: EvaluationSpec, rerun: bool) -> None:
            cost = compute_shard(spec, shard, self._context, self._advance, rerun=rerun)
            if cost is not None:  # None if an earlier run left the shard
                self._metrics.computed(shard.stage, cost.seconds)
            retry_until_available(record_shard, spec, self._context, attempt, shard, cost)

        return self._run_job(attempt, shard.stage, work)

    def measure(self, attempt: Attempt) -> bool | Refusal:
        """Compute the scores from all shards and record them."""

        def work(attempt: Attempt, spec: EvaluationSpec, rerun: bool) -> None:
            begun = time.monotonic()
            measure(spec, self._context, attempt, rerun=rerun)
            self._metrics.computed("metrics", time.monotonic() - begun)

        return self._run_job(attempt, "metrics", work)

    def _run_job(self, attempt: Attempt, stage: str, work: _Work) -> bool | Refusal:
        attempt = replace(attempt, worker=self._heartbeat.worker)
        # The queue may start a second job when it is polled before its last job is shown as running.
        with self._turn:
            return self._run_with_retries(attempt, stage, work)

    def _run_with_retries(self, attempt: Attempt, stage: str, work: _Work) -> bool | Refusal:
        for pause in (*RETRY_DELAYS, None):
            try:
                spec, row = retry_until_available(self._begin, attempt)
                family = f"{spec.fingerprint} {attempt.evaluation} {attempt.number}"
                span = tracing.span(stage, family, evaluation=attempt.evaluation, attempt=attempt.number)
                with span, self._task(attempt, stage, row):
                    self._check_fit(spec)
                    if row.restricted:  # after the check above: a missing plug-in is a refusal
                        self._rules.require_confined(spec.generator, Path(spec.path))
                    work(attempt, spec, row.fresh)
                return True
            except WithdrawnError as error:
                log.info("%s", error)
                return False
            except IncompatibleWorkerError as error:
                log.warning("evaluation %d: refused, other workers may run it: %s", attempt.evaluation, error)
                time.sleep(REFUSAL_DELAYS[min(self._refused, len(REFUSAL_DELAYS) - 1)])
                self._refused += 1
                self._metrics.count_event("refused")
                return {"worker": self._heartbeat.worker, "reason": str(error)}
            except Exception as error:
                failure, (reason, detail) = failures.failure_of(error), failures.reasons_of(error)
                if failure is not Failure.OUT_OF_MEMORY:
                    self._end_if_device_is_lost(error)
                again = failure is Failure.INFRASTRUCTURE and pause is not None
                then = f"retrying in {pause} s" if again else "given up"
                facts = logs.fields(evaluation=attempt.evaluation, stage=stage, failure=failure, again=again)
                said = f"{reason} ({detail})" if detail else reason
                log.warning("evaluation %d: %s failed, %s: %s", attempt.evaluation, stage, then, said, extra=facts)
                if again:
                    assert pause is not None
                    self._metrics.retried(stage, failure)
                    time.sleep(pause)
                    continue
                self._metrics.failed(stage, failure)
                retry_until_available(attempts.fail, self._context.database, attempt, failure, reason, detail)
                if failure is Failure.OUT_OF_MEMORY:
                    self._end("out of memory; a new process starts with all memory free")
                return False
        raise AssertionError("the last try returns")

    def _begin(self, attempt: Attempt) -> tuple[EvaluationSpec, tables.Evaluation]:
        attempts.start(self._context.database, attempt)
        with self._context.database.read() as session:
            row = session.get_one(tables.Evaluation, attempt.evaluation)
        return _spec_of(row), row

    @contextmanager
    def _task(self, attempt: Attempt, stage: str, row: tables.Evaluation) -> Iterator[None]:
        deadlines = Deadlines.model_validate(row.deadlines)
        limit = deadlines.metrics if stage == "metrics" else deadlines.shard
        self._heartbeat.task = task = Task(attempt, stage, limit)
        try:
            yield
        except Exception:
            # Charged as on success: otherwise a client that cancels in time would compute for free.
            with suppress(OperationalError), self._context.database.write() as session:
                quotas.charge(session, row.token, time.monotonic() - task.begun)
            raise
        finally:
            self._heartbeat.task = None

    def _progress(self, _stage: str, _total: int) -> Advance:
        return lambda _done: self._advance(0)

    def _advance(self, done: int) -> None:
        """Between batches: record progress, and stop if the evaluation was withdrawn."""
        task = self._heartbeat.task
        assert task is not None
        task.advance(done)
        with suppress(OperationalError):  # an unavailable database does not tell whether the evaluation was withdrawn
            attempts.check(self._context.database, task.attempt)

    def _check_fit(self, spec: EvaluationSpec) -> None:
        """Refuse work that would give other numbers here than on the submitting machine; checked once
        per evaluation.
        """
        if spec.fingerprint not in self._fit:
            try:
                require_compatible(self._context, spec)
            except (InputError, IncompatibleWorkerError) as error:
                raise IncompatibleWorkerError(f"{error} (on worker {self._heartbeat.worker})") from error
            self._fit.add(spec.fingerprint)
        self._refused = 0

    def _end_if_device_is_lost(self, error: BaseException) -> None:
        """After a device error the CUDA context is unusable, and only a new process can use the device again."""
        for each in causes(error):
            if isinstance(each, torch.AcceleratorError):
                self._end(f"its device failed ({first_line(each)})")

    def _end(self, reason: str) -> None:
        log.error("worker %s exits: %s", self._heartbeat.worker, reason)
        os._exit(EXIT_GIVEN_UP)


def _spec_of(row: tables.Evaluation) -> EvaluationSpec:
    """The specification of an evaluation, if this version of evalsvc interprets it as the submitting version did.

    Raises:
        IncompatibleWorkerError: this version would compute other numbers, or does not know a part of the specification.
    """
    try:
        spec = EvaluationSpec.model_validate(row.spec)
    except (ValidationError, EvalsvcError, MetricError) as error:
        raise IncompatibleWorkerError(f"{_OTHER_VERSION} ({first_line(error)})") from error
    if spec.fingerprint != row.fingerprint:
        raise IncompatibleWorkerError(_OTHER_VERSION)
    return spec
