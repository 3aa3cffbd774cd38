"""A background thread, shared by the callbacks, that submits checkpoints and keeps server failures
away from training.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalsvc.api.client import Client

log = logging.getLogger("evalsvc")
WAITING = 8
"""Maximum number of checkpoints that wait for a slow server; the oldest is dropped first."""

Job = tuple[Callable[[], Path], str | None, int]
"""A function that writes the checkpoint or returns its path, the name of its model, and its step."""


class Submitter:
    """Submit checkpoints in the background. Failures are logged as warnings and never raised.

    ``upload`` sends the file, if server and training share no disk; otherwise the server reads the same path.
    ``fields`` are further arguments of :meth:`evalsvc.Client.submit`. The thread opens the client, so that even an
    invalid address does not interrupt training.
    """

    def __init__(
        self,
        suite: str,
        generator: str,
        *,
        upload: bool = False,
        client: Callable[[], Client] = Client,
        **fields: Any,
    ) -> None:
        self._fields = fields | {"suite": suite, "generator": generator}
        self._upload, self._open = upload, client
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self.submitted: list[int] = []
        """Ids of the evaluations submitted so far."""

    def put(self, write: Callable[[], Path], model: str | None, step: int) -> None:
        """Queue a checkpoint and return at once. ``write`` runs in the background and returns its path."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="evalsvc-submitter", daemon=True)
            self._thread.start()
        while self._jobs.qsize() >= WAITING:
            try:
                dropped = self._jobs.get_nowait()
            except queue.Empty:
                break
            if dropped is not None:
                log.warning("evalsvc: the server is too slow: step %d was not submitted", dropped[2])
        self._jobs.put((write, model, step))

    def close(self, seconds: float = 60.0) -> None:
        """Wait up to this many seconds for queued checkpoints to be submitted."""
        if self._thread is None:
            return
        self._jobs.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning("evalsvc: training has ended, and not all checkpoints were submitted within %g s", seconds)
        self._thread = None

    def _work(self) -> None:
        client = None
        while (job := self._jobs.get()) is not None:
            write, model, step = job
            try:
                path = write()
                client = client or self._open()
                where = {"upload": client.upload(path).digest} if self._upload else {"path": path.resolve()}
                evaluation = client.submit(**where, model=model, step=step, **self._fields)
                self.submitted.append(evaluation.id)
                log.info("evalsvc: submitted step %d as evaluation %d", step, evaluation.id)
            except Exception as error:  # training continues after any failure
                log.warning("evalsvc: step %d was not submitted: %s", step, error)
        if client is not None:
            client.close()
