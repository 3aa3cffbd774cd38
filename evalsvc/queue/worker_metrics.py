"""Prometheus metrics of workers: each process counts in a file of its own, and the supervisor serves their sum.

The files are named after the place of a process, not its pid: one that is started again goes on counting, and a slot
that dies every minute fills no disk.
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
"""Seconds of a shard: about 30 are advised."""


class _Counts(Protocol):
    def labels(self, *values: str) -> Any: ...


class WorkerMetrics:
    """What slots and coordinators count. Labels have few values: stages and kinds of failure. Nothing without the
    package ``prometheus-client``.
    """

    def __init__(self) -> None:
        self._made: dict[str, _Counts] = {}
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError:
            return
        self.registry = registry = CollectorRegistry()  # the supervisor has another, which reads the files
        self._made = {
            "seconds": Histogram(
                "evalsvc_shard_seconds",
                "Seconds of a shard that was computed, or of the metrics of an evaluation.",
                ("stage",),
                buckets=BUCKETS,
                registry=registry,
            ),
            "retries": Counter(
                "evalsvc_shard_retries", "Shards tried again in place.", ("stage", "failure"), registry=registry
            ),
            "failures": Counter("evalsvc_shard_failures", "Shards given up.", ("stage", "failure"), registry=registry),
            "starts": Counter("evalsvc_worker_starts", "Processes started.", ("role",), registry=registry),
            "events": Counter(
                "evalsvc_queue_events", "What coordinators and slots did with work.", ("event",), registry=registry
            ),
        }

    def started(self, role: str) -> None:
        """This process has started: more than one a place means that one ended."""
        if self._made:
            self._made["starts"].labels(role).inc()

    def computed(self, stage: str, seconds: float) -> None:
        """A shard, or the metrics of an evaluation, is done."""
        if self._made:
            self._made["seconds"].labels(stage).observe(seconds)

    def retried(self, stage: str, failure: str) -> None:
        """A shard failed and is tried again."""
        if self._made:
            self._made["retries"].labels(stage, failure).inc()

    def failed(self, stage: str, failure: str) -> None:
        """A shard failed, and its evaluation with it."""
        if self._made:
            self._made["failures"].labels(stage, failure).inc()

    def happened(self, event: str, times: int = 1) -> None:
        """One of ``handed_over``, ``refused``, ``dead_letter``, ``worker_lost``, ``taken_over``."""
        if self._made:
            self._made["events"].labels(event).inc(times)


def count_in(folder: Path, place: str) -> None:
    """Let this process count in a file of its place; before any metric is made."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: place)  # type: ignore[no-untyped-call]


@contextmanager
def served(host: str, port: int) -> Iterator[Path]:
    """Serve the metrics of all processes at ``http://host:port/metrics``; the folder that they count in.

    Raises:
        InputError: the port is taken, the address is not this machine's, or the package is missing.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector
    except ImportError:
        raise InputError("--metrics-port needs prometheus-client: pip install 'evalsvc[worker]'") from None
    with tempfile.TemporaryDirectory(prefix="evalsvc-metrics-") as folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        try:
            server, thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise InputError(f"metrics cannot be served at {host}:{port} ({error.strerror}): choose another") from None
        try:
            yield Path(folder)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
