"""The other end of a :class:`~evalsvc.evaluation.shard_process.ShardProcess`: ``python -m ... SOCKET ROLE``."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from evalsvc.core.errors import EvalsvcError, ModelError, StorageError, first_line
from evalsvc.core.observability import logs
from evalsvc.core.settings import Settings
from evalsvc.evaluation import failures
from evalsvc.evaluation.compatibility import require_compatible
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.shard_computation import compute_shard
from evalsvc.evaluation.shard_process import LAST_SECONDS, Answer, Request, ShardProcessRole
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.errors import MetricError
from evalsvc.plugins.registry import Plugins
from evalsvc.store.tables import Failure

log = logging.getLogger(__name__)


def work(pipe: Connection, role: ShardProcessRole) -> None:
    """Compute shard after shard until the parent exits."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        context = EvaluationContext(Settings(), Plugins(role.plugins), role.card, role.batch_size)
    except Exception as error:
        pipe.send(_failed(error))
        return
    pipe.send(None)
    fit: set[str] = set()
    while True:
        request: Request = pipe.recv()
        text, shard, rerun = request
        answer: Answer
        try:
            spec = EvaluationSpec.model_validate_json(text)
            if spec.fingerprint not in fit:
                require_compatible(context, spec)
                fit.add(spec.fingerprint)
            answer = compute_shard(spec, shard, context, pipe.send, rerun=rerun)
        except Exception as error:
            answer = _failed(error)
        pipe.send(answer)


def _end_with(parent: int) -> None:
    """Exit when the parent has, also in the middle of a shard."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(LAST_SECONDS)
    os._exit(0)


def _failed(error: Exception) -> tuple[Exception, Failure]:
    """The error, or its message if it cannot be sent, and its class of failure."""
    failure = failures.failure_of(error)
    if not isinstance(error, EvalsvcError | MetricError):
        log.exception("this is not expected")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = ModelError if failure is Failure.MODEL else StorageError
        return kind(f"{type(error).__name__}: {first_line(error)}"), failure
    return error, failure


if __name__ == "__main__":
    logs.setup_command()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the parent may ignore
    try:
        work(Connection(int(sys.argv[1])), ShardProcessRole.model_validate_json(sys.argv[2]))
    except (EOFError, ConnectionError):  # the parent has exited
        pass
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)  # without waiting for threads of plug-ins
