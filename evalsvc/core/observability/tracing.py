"""OpenTelemetry spans around evaluations, shards and gates, enabled by ``EVALSVC_TRACES``.

Only the API is used, and it is imported only if enabled; the exporter is configured by the launcher of the process,
such as ``opentelemetry-instrument``. FastAPI creates the spans of requests itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from evalsvc.core.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.context import Context

Fact = str | int | float | bool

_on = False


def setup(on: bool) -> None:
    """Enable or disable spans.

    Raises:
        InputError: the opentelemetry-api package is missing.
    """
    global _on
    if on:
        try:
            import opentelemetry.trace  # noqa: F401
        except ImportError:
            raise InputError("EVALSVC_TRACES needs opentelemetry-api: pip install opentelemetry-distro") from None
    _on = on


def enabled() -> bool:
    """Whether spans are enabled."""
    return _on


@contextmanager
def span(name: str, family: str = "", **facts: Fact) -> Iterator[None]:
    """A span with these attributes; spans of one ``family`` belong to one trace, across processes."""
    if not _on:
        yield
        return
    from opentelemetry import trace

    attributes = {f"evalsvc.{key}": fact for key, fact in facts.items()}
    context = _trace_of(family) if family else None
    with trace.get_tracer("evalsvc").start_as_current_span(name, context=context, attributes=attributes):
        yield


def flush() -> None:
    """Export pending spans: a worker process exits without running the interpreter's exit hooks."""
    if _on:
        from opentelemetry import trace

        provider: Any = trace.get_tracer_provider()
        if hasattr(provider, "force_flush"):
            provider.force_flush(2000)


def _trace_of(family: str) -> Context:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    digest = hashlib.sha256(family.encode()).digest()
    trace_id, span_id = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(parent))
