"""Spans where they are asked for, and nothing at all where they are not."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from opentelemetry import trace

from evalsvc.core.errors import InputError
from evalsvc.core.observability import tracing


@pytest.fixture
def spans(monkeypatch):
    """Name, attributes and parent of every span that is begun."""
    begun = []

    @contextmanager
    def start(name, context=None, attributes=None):
        parent = trace.get_current_span(context).get_span_context() if context else None
        begun.append((name, attributes, parent))
        yield

    monkeypatch.setattr(trace, "get_tracer", lambda _: SimpleNamespace(start_as_current_span=start))
    yield begun
    tracing.setup(False)


def test_no_span_is_begun_unless_it_is_asked_for(spans, monkeypatch):
    with tracing.span("metrics", evaluation=7):
        tracing.flush()
    assert spans == []
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    tracing.setup(False)
    with pytest.raises(InputError, match="EVALSVC_TRACES needs opentelemetry-api"):
        tracing.setup(True)
    assert not tracing.enabled()


def test_shards_of_one_attempt_are_one_trace_and_those_of_another_a_second(spans):
    tracing.setup(True)
    for family in ("f 7 1", "f 7 1", "f 7 2"):
        with tracing.span("samples", family, evaluation=7, attempt=1):
            pass
    tracing.flush()
    assert [name for name, _, _ in spans] == ["samples"] * 3
    assert spans[0][1] == {"evalsvc.evaluation": 7, "evalsvc.attempt": 1}
    traces = [parent.trace_id for _, _, parent in spans]
    assert traces[0] == traces[1] != traces[2]
    assert all(parent.is_valid and parent.is_remote for _, _, parent in spans)


def test_an_error_inside_a_span_is_raised_as_it_was(spans):
    tracing.setup(True)
    with pytest.raises(KeyError), tracing.span("gate"):
        raise KeyError
