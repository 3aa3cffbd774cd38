"""What the storm does to a process from inside, if variables ask for it. Python imports this file at its start."""

import errno
import os
import signal
from pathlib import Path

if flag := os.environ.get("STORM_FULL_DISK"):
    _fsync = os.fsync

    def _full(descriptor: int) -> None:
        if Path(flag).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _fsync(descriptor)

    os.fsync = _full

if last := int(os.environ.get("STORM_KILL_AT", 0)):
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    _statements = 0

    @event.listens_for(Engine, "after_cursor_execute")
    def _count(*_: object) -> None:
        global _statements
        _statements += 1
        if _statements == last:
            os.kill(os.getpid(), signal.SIGKILL)
