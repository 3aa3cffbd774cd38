"""A task process: ``python -m evalsvc.api.server.task_process_main PIPE PLUGIN...``.

Imports little: the libraries of the server are not needed here.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from evalsvc.core.errors import EvalsvcError, StorageError, detail_of
from evalsvc.core.observability import logs, telemetry
from evalsvc.core.settings import Settings
from evalsvc.store import audit

log = logging.getLogger(__name__)


def work(pipe: Connection, plugins: tuple[Path, ...]) -> None:
    """Run one task after the other until the server exits."""
    import torch

    from evalsvc.api.server.task_handlers import TaskHandlers

    torch.set_num_threads(1)
    handlers = TaskHandlers(plugins)
    while True:
        try:
            task, arguments, actor = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        logs.request_id.set(actor.request)
        answer: tuple[EvalsvcError | None, Any]
        try:
            with audit.acting(actor):
                answer = None, getattr(handlers, task)(*arguments)
        except EvalsvcError as error:
            if detail := detail_of(error):
                log.warning("%s (%s)", error, detail)
            answer = error, None
        except OperationalError as error:
            log.error("the database is unavailable: %s", error)
            answer = StorageError("the database is unavailable: try again"), None
        except Exception as error:  # an unexpected error: its text may contain anything and belongs into the log
            log.exception("task %s failed", task)
            answer = EvalsvcError(f"{type(error).__name__}: see the server's log"), None
        pipe.send(answer)


if __name__ == "__main__":
    os.nice(5)
    with suppress(OSError):  # if memory runs out, the kernel kills this process and not the server
        Path("/proc/self/oom_score_adj").write_text("500")
    settings = Settings()
    telemetry.begin(settings)
    work(Connection(int(sys.argv[1])), tuple(map(Path, sys.argv[2:])))
