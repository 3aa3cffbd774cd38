"""The two consoles, number formats, and the sanitizing of untrusted text for a terminal."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from evalsvc.core.errors import StorageError, one_line, printable
from evalsvc.core.number_format import number as number
from evalsvc.core.number_format import with_error as with_error

_COMMAND = re.compile(r"(?<!\S)[:#](?=:\w|#\w*\[)")
"""Start of a command of GitHub, GitLab or Azure in a job log, at the beginning of a wrapped line."""


def visible(text: str) -> str:
    """Text as one line of visible characters: control characters, terminal codes and bidi marks are escaped.

    So is text that a job log would interpret as a command.
    """
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", one_line(text))


def _spelled(text: str) -> str:
    return text if text.isprintable() else printable(text)


def styled(text: str, style: str) -> Text:
    """Untrusted text in a style; appended text has a style of its own."""
    return Text().append(visible(text), style)


def lines(texts: Iterable[str]) -> Text:
    """Several lines in one cell."""
    return Text("\n").join(Text(visible(text)) for text in texts)


class _Console(Console):
    """A console that treats strings as data: no markup, no emoji codes, and every string is one visible line.

    All output of commands passes through here, so callers escape nothing. Use :func:`styled` for bold text and colors.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a printed string or a table cell."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render any object, including existing Text objects such as the names of progress bars."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_spelled(segment.text))

    def on_broken_pipe(self) -> None:
        """Rich would exit with 1; a gate has an exit code of its own for this."""
        raise  # the BrokenPipeError being handled


# Pipes and files have no width: use one that fits most tables, unless COLUMNS is set.
out = _Console(width=None if (sys.stdout and sys.stdout.isatty()) or "COLUMNS" in os.environ else 200)
err = _Console(stderr=True)


def print_commands(commands: str) -> None:
    """Print commands for a job log to stderr, with their data encoded as required."""
    err.file.write(commands)
    err.file.flush()


ARROWS = {"lower": "↓", "higher": "↑", "neutral": ""}


class Checked:
    """Standard output whose failed writes raise :class:`StorageError`, and broken pipes a BrokenPipeError."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or raise."""
        if self._stream is None:
            raise StorageError("standard output is closed: redirect it to a file or to /dev/null")
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._failed(error) from None

    def flush(self) -> None:
        """Flush, or raise."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            raise self._failed(error) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _failed(self, error: OSError) -> Exception:
        # Otherwise the buffered rest would fail again when the process exits, and change its exit code.
        with suppress(OSError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        if error.errno == errno.EPIPE:
            return error
        return StorageError(f"standard output cannot be written ({error.strerror})")


def print_json(document: Any) -> None:
    """Print one machine-readable document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def energy(joules: float | None) -> str:
    """Joules in a readable unit; empty if unknown."""
    if joules is None:
        return ""
    return f"{joules / 3.6e6:.3g} kWh" if joules >= 3.6e5 else f"{joules / 1e3:.3g} kJ"


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table with these headings; those in ``right`` are right-aligned. Long words are folded, not cut."""
    made = Table(title=title or None, title_justify="left", header_style="bold", title_style="bold")
    for column in columns:
        if column in right:
            made.add_column(column, justify="right", no_wrap=True)
        else:
            made.add_column(column, overflow="fold")
    return made
