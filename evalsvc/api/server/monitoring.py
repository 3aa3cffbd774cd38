"""Prometheus metrics. Labels have few values: routes by their pattern, never paths, models or tokens."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from evalsvc.api import schemas
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import Delivery, Evaluation, Failure, Gate, Status, Webhook, Worker, WorkerStatus

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
OUTCOMES = get_args(schemas.Gate.model_fields["status"].annotation)
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5, 30)


class Monitor:
    """Count requests, and query the state of the database for each scrape."""

    def __init__(self, database: Database) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("evalsvc_http_requests", "Completed requests.", labels, registry=self._registry)
        self._seconds = Histogram(
            "evalsvc_http_request_seconds",
            "Duration of requests.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Stock(database))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method if method in METHODS else "other", route, f"{status // 100}xx").inc()
        if not route.endswith("/events"):  # the duration of a stream is that of its evaluation
            self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self._registry)


class _Stock(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        evaluations = GaugeMetricFamily("evalsvc_evaluations", "Evaluations by status.", labels=["status"])
        failures = GaugeMetricFamily("evalsvc_failed_evaluations", "Failed evaluations by kind.", labels=["failure"])
        gates = GaugeMetricFamily("evalsvc_gates", "Gate decisions by status.", labels=["status"])
        workers = GaugeMetricFamily("evalsvc_workers", "Worker processes.", labels=["role", "status"])
        age = GaugeMetricFamily("evalsvc_queue_age_seconds", "Waiting time of the oldest queued evaluation.")
        backlog = GaugeMetricFamily("evalsvc_webhook_backlog", "Undelivered webhook messages.")
        late = GaugeMetricFamily("evalsvc_webhook_backlog_age_seconds", "Age of the oldest undelivered message.")
        failing = GaugeMetricFamily("evalsvc_webhooks_failing", "Webhooks whose last message could not be delivered.")
        with self._database.read() as session:
            by_status = _counts(session, Evaluation.status)
            by_failure = _counts(session, Evaluation.failure, where=Evaluation.status == Status.FAILED)
            by_gate = _counts(session, Gate.status)
            by_worker = _counts(session, Worker.role, Worker.status)
            queued = select(func.min(Evaluation.requested_at))
            oldest = session.scalar(queued.where(Evaluation.status == Status.QUEUED, Evaluation.on_queue))
            owed, first_owed = session.execute(select(func.count(), func.min(Delivery.created_at))).one()
            unreached = session.scalar(select(func.count()).where(Webhook.failing_since.is_not(None))) or 0
            moment = clock(session)
        for status in Status:
            evaluations.add_metric([status], by_status[(status,)])
        for failure in Failure:
            failures.add_metric([failure], by_failure[(failure,)])
        for outcome in OUTCOMES:
            gates.add_metric([outcome], by_gate[(outcome,)])
        for role in ("slot", "coordinator"):
            for state in WorkerStatus:
                workers.add_metric([role, state], by_worker[role, state])
        for family, since in ((age, oldest), (late, first_owed)):
            family.add_metric([], max((moment - since).total_seconds(), 0.0) if since else 0.0)
        backlog.add_metric([], owed)
        failing.add_metric([], unreached)
        yield from (evaluations, failures, gates, workers, age, backlog, late, failing)


def _counts(
    session: Session, *by: InstrumentedAttribute[str] | InstrumentedAttribute[str | None], where: Any = True
) -> Counts[tuple[Any, ...]]:
    query = select(*by, func.count()).where(where).group_by(*by)
    return Counts({tuple(key): count for *key, count in session.execute(query)})
