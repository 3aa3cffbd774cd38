"""Errors that users can cause or must act on. Each message is one sentence that names the object and the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsvc.core.observability.redaction import redacted


class EvalsvcError(Exception):
    """Base class of all errors that evalsvc raises; the CLI prints it without secrets and exits with 2.

    ``detail`` is for the operator only (log, command line): the response of an outside server, an address, a path.
    """

    def __init__(self, message: str = "", *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return printable(redacted(super().__str__()))


def _restored(kind: type[EvalsvcError], args: tuple[Any, ...], facts: Mapping[str, Any]) -> EvalsvcError:
    """An error from another process: its class may make its message of other arguments."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class InputError(EvalsvcError):
    """An argument, file or request is missing, malformed or unknown."""


class AmbiguousError(InputError):
    """A name matches several checkpoints; each of ``choices`` names one of them."""

    def __init__(self, message: str, choices: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class ForbiddenError(InputError):
    """A client of the API requested something that the operator has not allowed."""


class CheckpointError(InputError):
    """A checkpoint is missing, truncated, of the wrong kind, or unsafe to load."""


class QuotaError(EvalsvcError):
    """A token has exhausted its quota; retry after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelError(EvalsvcError):
    """A generator or extractor violated its interface: wrong count, shape, dtype, range, or NaN."""


class UnavailableError(ModelError):
    """A server that the work needs did not respond, or rejected the key: the same work may succeed later."""


class StorageError(EvalsvcError):
    """A file or row could not be read or written."""


class DamagedError(StorageError):
    """An artifact differs from its digest: ``reason`` says how this was detected."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"artifact {key} is damaged ({reason}): recompute it with 'evalsvc score --rerun'")
        self.key, self.reason = key, printable(reason)


class MissingError(DamagedError):
    """An artifact is missing."""

    def __init__(self, key: str) -> None:
        StorageError.__init__(self, f"artifact {key} is missing: recompute it with 'evalsvc score --rerun'")
        self.key, self.reason = key, "it is missing"


class IncompatibleWorkerError(EvalsvcError):
    """This worker cannot run this evaluation: versions of plug-ins differ, or files are missing or differ."""


class WithdrawnError(EvalsvcError):
    """The evaluation was canceled or superseded, exceeded its deadline, or was reassigned to another worker."""


def detail_of(error: BaseException | None) -> str:
    """Detail for the operator: the first ``detail`` of an error and its causes."""
    for each in causes(error):
        if isinstance(each, EvalsvcError) and each.detail:
            return printable(redacted(each.detail))
    return ""


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it was raised from, or while handling, as a traceback shows them; the last was first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


class RefusedError(Exception):
    """A fault of a file, from a process that does not know the file's name: the end of a sentence."""


def printable(text: str) -> str:
    """Text that can be stored and displayed: lone surrogates, terminal codes and control characters are escaped."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def one_line(text: str) -> str:
    """Text as one line of visible characters: control characters, terminal codes and bidi marks are escaped."""
    return text if text.isprintable() else printable(text).replace("\n", "\\n")


def first_line(error: BaseException, most: int | None = None) -> str:
    """First line of an error's message, at most ``most`` characters; the name of its class if the message is empty."""
    return redacted(str(error).strip().partition("\n")[0])[:most] or type(error).__name__
