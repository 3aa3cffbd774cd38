"""Prometheus metrics. Every label has few values: routes by their pattern, never paths, models or tokens."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from evalsvc.store.session import Database, clock
from evalsvc.store.tables import Evaluation, Failure, Status, Worker, WorkerStatus

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5, 30)


class Monitor:
    """Counts requests, and asks the database how things stand whenever it is asked itself."""

    def __init__(self, database: Database) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("evalsvc_http_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "evalsvc_http_request_seconds", "Time to answer.", ("route",), buckets=BUCKETS, registry=self._registry
        )
        self._registry.register(_Stock(database))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method if method in METHODS else "other", route, f"{status // 100}xx").inc()
        if not route.endswith("/events"):  # a stream lasts as long as its evaluation
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
        failures = GaugeMetricFamily("evalsvc_failed_evaluations", "Failed ones by kind.", labels=["failure"])
        workers = GaugeMetricFamily("evalsvc_workers", "Worker processes.", labels=["role", "status"])
        age = GaugeMetricFamily("evalsvc_queue_age_seconds", "How long the oldest queued evaluation has waited.")
        with self._database.read() as session:
            by_status = _counts(session, Evaluation.status)
            by_failure = _counts(session, Evaluation.failure)
            by_worker = _counts(session, Worker.role, Worker.status)
            oldest = session.scalar(
                select(func.min(Evaluation.requested_at)).where(Evaluation.status == Status.QUEUED, Evaluation.on_queue)
            )
            waited = (clock(session) - oldest).total_seconds() if oldest else 0.0
        for status in Status:
            evaluations.add_metric([status], by_status[(status,)])
        for failure in Failure:
            failures.add_metric([failure], by_failure[(failure,)])
        for role in ("slot", "coordinator"):
            for state in WorkerStatus:
                workers.add_metric([role, state], by_worker[role, state])
        age.add_metric([], max(waited, 0.0))
        yield from (evaluations, failures, workers, age)


def _counts(session: Session, *by: InstrumentedAttribute[Any]) -> Counts[tuple[Any, ...]]:
    query = select(*by, func.count()).group_by(*by)
    return Counts({tuple(key): count for *key, count in session.execute(query)})
