"""Prometheus metrics of workers: each process counts in a file of its own, and the supervisor serves their sum.

Files are named after the place of a process, not its pid. A restarted process therefore continues the counts, and a
slot that crashes every minute does not fill the disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from evalsvc.core.errors import InputError

BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Buckets for the duration of a shard, in seconds; about 30 s per shard are recommended."""


class _Counts(Protocol):
    def labels(self, *values: str) -> Any: ...


class WorkerMetrics:
    """Metrics of slots and coordinators. Labels have few values: stages and kinds of failure. Does nothing without the
    package ``prometheus-client``.
    """

    def __init__(self) -> None:
        self._made: dict[str, _Counts] = {}
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError:
            return
        self.registry = registry = CollectorRegistry()  # the supervisor uses another registry, which reads the files
        self._made = {
            "seconds": Histogram(
                "evalsvc_shard_seconds",
                "Duration of computing a shard, or the metrics of an evaluation, in seconds.",
                ("stage",),
                buckets=BUCKETS,
                registry=registry,
            ),
            "retries": Counter(
                "evalsvc_shard_retries", "Shards retried in place.", ("stage", "failure"), registry=registry
            ),
            "failures": Counter("evalsvc_shard_failures", "Shards given up.", ("stage", "failure"), registry=registry),
            "starts": Counter("evalsvc_worker_starts", "Processes started.", ("role",), registry=registry),
            "events": Counter(
                "evalsvc_queue_events", "Events of coordinators and slots by kind.", ("event",), registry=registry
            ),
        }

    def started(self, role: str) -> None:
        """Count the start of this process; more than one start per place means that a process ended."""
        if self._made:
            self._made["starts"].labels(role).inc()

    def computed(self, stage: str, seconds: float) -> None:
        """Count a completed shard, or completed metrics of an evaluation."""
        if self._made:
            self._made["seconds"].labels(stage).observe(seconds)

    def retried(self, stage: str, failure: str) -> None:
        """Count the retry of a failed shard."""
        if self._made:
            self._made["retries"].labels(stage, failure).inc()

    def failed(self, stage: str, failure: str) -> None:
        """Count a failed shard, which fails its evaluation."""
        if self._made:
            self._made["failures"].labels(stage, failure).inc()

    def count_event(self, event: str, times: int = 1) -> None:
        """Count one of ``handed_over``, ``refused``, ``dead_letter``, ``worker_lost``, ``taken_over``."""
        if self._made:
            self._made["events"].labels(event).inc(times)


def count_in(folder: Path, place: str) -> None:
    """Let this process count in the file of its place; call before any metric is created."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: place)  # type: ignore[no-untyped-call]


@contextmanager
def serve_metrics(host: str, port: int) -> Iterator[Path]:
    """Serve the metrics of all processes at ``http://host:port/metrics``; return the folder of their counts.

    Raises:
        InputError: the port is taken, the address does not belong to this machine, or the package is missing.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector
    except ImportError:
        raise InputError("--metrics-port requires prometheus-client: pip install 'evalsvc[worker]'") from None
    with tempfile.TemporaryDirectory(prefix="evalsvc-metrics-") as folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        try:
            server, thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise InputError(
                f"metrics cannot be served at {host}:{port} ({error.strerror}): choose another address or port"
            ) from None
        try:
            yield Path(folder)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
