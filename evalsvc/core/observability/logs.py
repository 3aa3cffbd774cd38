"""Logs on standard error: one line per record, as text or JSON.

Names, paths and messages of models are untrusted. The formatter escapes line breaks, terminal codes and bidi marks, so
that callers need not.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from evalsvc.core.errors import causes, one_line
from evalsvc.core.observability.redaction import redacted

Form = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
LONGEST = 4000
"""Maximum number of characters of a message, and of each line of a traceback."""

request_id: ContextVar[str] = ContextVar("evalsvc_request_id", default="")
"""Id of the HTTP request that is being handled."""


def setup(form: Form = "text", level: Level = "info") -> None:
    """Send all records of this process, including those of libraries and warnings, to standard error in one format."""
    handler = _ToStandardError()
    handler.setFormatter(_FORMATTERS[form]())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # DBOS adds a handler of its own if it finds none.
    logging.getLogger("dbos").handlers = [logging.NullHandler()]
    sys.excepthook, threading.excepthook = _uncaught, _uncaught_in_thread


def setup_command() -> None:
    """Set up logs of a short-lived command: warnings only, one line each, without time and level."""
    if logging.lastResort:
        logging.lastResort.setFormatter(_Plain())


def fields(**values: object) -> dict[str, Mapping[str, object]]:
    """Attributes of a record for programs, as ``extra``: keys of the JSON form; the text form leaves them out."""
    return {"evalsvc": values}


class _ToStandardError(logging.StreamHandler[TextIO]):
    """Writes to the current ``sys.stderr``, which tests and supervisors replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop a record that cannot be written, so that a full disk does not stop an evaluation."""


class _Plain(logging.Formatter):
    """The message only."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join([_cut(record.getMessage()), *(f"  | {line}" for line in _trace(record))])


class _Text(logging.Formatter):
    """``2026-11-28T15:00:00.123Z INFO evalsvc.slot: message [request 5f3a]``; traceback lines begin with ``  | ``."""

    def format(self, record: logging.LogRecord) -> str:
        request = f" [request {request_id.get()}]" if request_id.get() else ""
        head = f"{_moment(record)} {record.levelname} {_cut(record.name)}: {_cut(record.getMessage())}{request}"
        return "\n".join([head, *(f"  | {line}" for line in _trace(record))])


class _Json(logging.Formatter):
    """One JSON document per line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "logger": _cut(record.name),
            "message": _cut(record.getMessage()),
        }
        if request_id.get():
            document["request"] = request_id.get()
        if trace := list(_trace(record)):
            document["exception"] = trace
        for key, fact in getattr(record, "evalsvc", {}).items():
            document.setdefault(key, _cut(fact) if isinstance(fact, str) else fact)
        return json.dumps(document, default=str)


_FORMATTERS: Mapping[Form, type[logging.Formatter]] = {"text": _Text, "json": _Json}


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut(text: str) -> str:
    return one_line(
        redacted(text[: LONGEST + 500])[:LONGEST]
    )  # redact before cutting, so that no secret is split and missed


def _trace(record: logging.LogRecord) -> Iterator[str]:
    """Lines of a traceback: frames as Python prints them, and each error, causes first, on one line."""
    if not record.exc_info or record.exc_info[1] is None:
        return
    for each in reversed(causes(record.exc_info[1])):
        for frame in traceback.extract_tb(each.__traceback__):
            yield _cut(f'File "{frame.filename}", line {frame.lineno}, in {frame.name}: {frame.line}')
        yield from _summary_of(each)


def _summary_of(error: BaseException) -> Iterator[str]:
    yield _cut(f"{type(error).__qualname__}: {error}")
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _summary_of(inner)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("evalsvc").critical("the process exits with an error", exc_info=(kind, error, trace))


def _uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "without a name"
    error = failed.exc_value or failed.exc_type()
    logging.getLogger("evalsvc").error(
        "thread %s exited with an error", name, exc_info=(failed.exc_type, error, failed.exc_traceback)
    )
