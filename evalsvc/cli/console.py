"""The two consoles, how numbers look on them, and how text from outside is made harmless for a terminal."""

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
"""Where a command of GitHub, GitLab or Azure begins that stands in a job's log, were it the first of a wrapped line."""


def visible(text: str) -> str:
    """Text as one line in which every character is seen: controls, terminal codes and bidi marks become escapes.

    So does what a job's log would take for a command.
    """
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", one_line(text))


def _spelled(text: str) -> str:
    return text if text.isprintable() else printable(text)


def styled(text: str, style: str) -> Text:
    """Text from anywhere in a style; what is appended has its own."""
    return Text().append(visible(text), style)


def lines(texts: Iterable[str]) -> Text:
    """Several lines in one cell."""
    return Text("\n").join(Text(visible(text)) for text in texts)


class _Console(Console):
    """A console on which strings are data: no markup, no emoji codes, and every string is one visible line.

    All that a command prints goes through here, so no caller escapes anything. Bold and colours are :func:`styled`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string that is printed, or stands in a table."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever is printed, also what was a Text already, as the names of bars are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_spelled(segment.text))

    def on_broken_pipe(self) -> None:
        """Rich would end the process with 1; a gate has a code of its own for it."""
        raise  # the BrokenPipeError that is being handled


# A pipe or a file has no width of its own: it gets room for most tables, unless COLUMNS says otherwise.
out = _Console(width=None if (sys.stdout and sys.stdout.isatty()) or "COLUMNS" in os.environ else 200)
err = _Console(stderr=True)


def print_commands(commands: str) -> None:
    """Commands to a job's log, on stderr, whose data is encoded as they ask."""
    err.file.write(commands)
    err.file.flush()


ARROWS = {"lower": "↓", "higher": "↑", "neutral": ""}


class Checked:
    """Standard output of which a write that fails is a :class:`StorageError`, and a reader that left a broken pipe."""

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
        # What the buffer still holds would fail once more at the end of the process, and change its exit code.
        with suppress(OSError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        if error.errno == errno.EPIPE:
            return error
        return StorageError(f"standard output cannot be written ({error.strerror})")


def print_json(document: Any) -> None:
    """One machine-readable document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Seconds in the unit that reads well."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def energy(joules: float | None) -> str:
    """Joules in the unit that reads well; nothing where they are not known."""
    if joules is None:
        return ""
    return f"{joules / 3.6e6:.3g} kWh" if joules >= 3.6e5 else f"{joules / 1e3:.3g} kJ"


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table with these headings; those in ``right`` are set flush right."""
    made = Table(title=title or None, title_justify="left", header_style="bold", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return made
