"""Classification of failures, and the messages about them for users and operators."""

from __future__ import annotations

from evalsvc.core.batching import out_of_memory, says_full
from evalsvc.core.errors import EvalsvcError, StorageError, causes, detail_of, printable
from evalsvc.core.observability.redaction import redacted
from evalsvc.metrics.score import MetricError
from evalsvc.store.tables import Failure


def failure_of(error: BaseException) -> Failure:
    """Failure class of an exception or of its causes."""
    if out_of_memory(error):
        return Failure.OUT_OF_MEMORY
    if any(isinstance(each, TimeoutError) for each in causes(error)):
        return Failure.TIMEOUT
    if isinstance(error, EvalsvcError | MetricError) and not isinstance(error, StorageError):
        return Failure.MODEL
    return Failure.INFRASTRUCTURE


def reasons_of(error: BaseException) -> tuple[str, str]:
    """Message for everybody about an error that ends an evaluation, and the detail for operators.

    The text of a foreign error may contain secrets: the response of a store, an address, a key.
    """
    if isinstance(error, EvalsvcError | MetricError) or says_full(str(error)):
        return redacted(str(error)) or type(error).__name__, detail_of(error)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"{reason}: see the worker's log", printable(redacted(str(error)))
