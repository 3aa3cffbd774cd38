"""Errors that a user can cause or must act on. Each message is one sentence that names the thing and the way out."""

from __future__ import annotations

from collections.abc import Sequence

from evalsvc.core.observability.redaction import redacted


class EvalsvcError(Exception):
    """Base of every error the service raises on purpose; the CLI prints it, without passwords, and exits 2.

    ``detail`` is for the operator alone (log, command line): what a server outside said, an address, a path.
    """

    def __init__(self, message: str = "", *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail

    def __str__(self) -> str:
        return printable(redacted(super().__str__()))


class InputError(EvalsvcError):
    """Something given to the service is missing, malformed or unknown."""


class AmbiguousError(InputError):
    """A name that several checkpoints have; each of ``choices`` names one of them."""

    def __init__(self, message: str, choices: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class ForbiddenError(InputError):
    """A client of the API asked for something that only the operator may open to it."""


class CheckpointError(InputError):
    """A checkpoint is missing, truncated, of the wrong kind, or unsafe to load."""


class QuotaError(EvalsvcError):
    """A token has used up what it may; ``retry_after`` says in how many seconds it is worth another try."""

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelError(EvalsvcError):
    """A generator or extractor broke its contract: wrong count, shape, dtype, range, or NaN."""


class StorageError(EvalsvcError):
    """A file or row could not be read or written."""


class DamagedError(StorageError):
    """An artifact is not what was written under its key: ``reason`` says how that was seen."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"artifact {key} is damaged ({reason}): 'evalsvc score --rerun' computes it again")
        self.key, self.reason = key, printable(reason)


class MissingError(DamagedError):
    """An artifact is gone."""

    def __init__(self, key: str) -> None:
        StorageError.__init__(self, f"artifact {key} is gone: 'evalsvc score --rerun' computes it again")
        self.key, self.reason = key, "it is gone"


class IncompatibleWorkerError(EvalsvcError):
    """A worker cannot do this work as it was asked for: other versions of plug-ins, other or no files."""


class WithdrawnError(EvalsvcError):
    """Work that nobody waits for any more: cancelled, tried anew, past its deadline, or given to another worker."""


def detail_of(error: BaseException | None) -> str:
    """What the operator is told beside the message of an error: the first detail of it and its causes."""
    while error is not None:
        if isinstance(error, EvalsvcError) and error.detail:
            return printable(redacted(error.detail))
        error = error.__cause__
    return ""


class RefusedError(Exception):
    """What is wrong with a file whose name the process that reads it does not know: the end of a sentence."""


def printable(text: str) -> str:
    """Text that can be stored and shown: half characters, terminal codes and the like are written as escapes."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def one_line(text: str) -> str:
    """Text as one line in which every character is seen: controls, terminal codes and bidi marks become escapes."""
    return text if text.isprintable() else printable(text).replace("\n", "\\n")


def first_line(error: BaseException, most: int | None = None) -> str:
    """What an error says in its first line, ``most`` characters of it; its kind where it says nothing."""
    return redacted(str(error).strip().partition("\n")[0])[:most] or type(error).__name__
