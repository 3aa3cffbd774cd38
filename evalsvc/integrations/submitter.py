"""What the callbacks share: a thread that submits, and keeps all trouble with the server away from training."""

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
"""Checkpoints that wait behind a slow server; the oldest is let go first, since newer ones tell more."""

Job = tuple[Callable[[], Path], str | None, int]
"""Writes the checkpoint (or only says where it is), its model, its step."""


class Submitter:
    """Submits checkpoints in the background. Whatever fails is a warning in the log, and nothing else.

    ``upload`` sends the file, where server and training share no disk; else the server sees the same path. ``fields``
    are further ones of :meth:`evalsvc.Client.submit`. The thread opens the client, so that even a wrong address stops
    nothing.
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
        """Ids of the evaluations so far."""

    def put(self, write: Callable[[], Path], model: str | None, step: int) -> None:
        """Have a checkpoint submitted; returns at once. ``write`` runs in the background and returns its path."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="evalsvc-submitter", daemon=True)
            self._thread.start()
        while self._jobs.qsize() >= WAITING:
            try:
                dropped = self._jobs.get_nowait()
            except queue.Empty:
                break
            if dropped is not None:
                log.warning("evalsvc: the server is too far behind, step %d is not evaluated", dropped[2])
        self._jobs.put((write, model, step))

    def close(self, seconds: float = 60.0) -> None:
        """Give what waits this long to be submitted."""
        if self._thread is None:
            return
        self._jobs.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning("evalsvc: training has ended, and the server has not taken every checkpoint in %g s", seconds)
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
                log.info("evalsvc: step %d is evaluation %d", step, evaluation.id)
            except Exception as error:  # training goes on, whatever it is
                log.warning("evalsvc: step %d is not evaluated: %s", step, error)
        if client is not None:
            client.close()
