"""Lines of a check or of a benchmark: each is written when it ends, and what there is no time for says so."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAILED = ("differs", "raises")


class DiffersError(Exception):
    """What the device gives is not what it should be; the message holds the figures."""


class NotHereError(Exception):
    """A check cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Line:
    """One result: ``verdict`` is ok, differs, raises, or skipped."""

    part: str
    what: str
    verdict: str
    detail: str
    seconds: float


class Lines:
    """Writes lines to stdout and, as JSON, to a file; ``budget`` seconds after its start the rest is skipped."""

    def __init__(self, file: Path | None, budget: float) -> None:
        self._start, self.budget, self.file = time.perf_counter(), budget, file
        self.written: list[Line] = []
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._start

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - self.seconds

    @property
    def failed(self) -> list[Line]:
        """Lines of what differs or raises."""
        return [line for line in self.written if line.verdict in FAILED]

    def check(self, part: str, what: str, work: Callable[[], str], needs: float = 0.0) -> None:
        """Run ``work`` and write what it returns, if ``needs`` seconds are left."""
        start = time.perf_counter()
        verdict, detail = ("skipped", "time") if self.left <= needs else _outcome(work)
        self.write(part, what, verdict, detail, time.perf_counter() - start)

    def attempt(self, part: str, work: Callable[[], None]) -> None:
        """Run ``work``, which writes lines of its own, and write one more if it raises."""
        verdict, detail = _outcome(lambda: work() or "")
        if verdict != "ok":
            self.write(part, "the rest of it", verdict, detail)

    def write(self, part: str, what: str, verdict: str, detail: str = "", seconds: float = 0.0) -> None:
        """Write a line at once."""
        line = Line(part, what, verdict, detail, round(seconds, 3))
        self.written.append(line)
        print(f"[{self.seconds:6.1f} s] {part:11s} {what:52s} {verdict:8s} {detail}", flush=True)
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps(asdict(line)) + "\n")


def _outcome(work: Callable[[], str]) -> tuple[str, str]:
    """The verdict on a piece of work, and what it says."""
    try:
        return "ok", work()
    except DiffersError as error:
        return "differs", str(error)
    except NotHereError as error:
        return "skipped", str(error)
    except ImportError as error:
        return "skipped", f"{error.name} is not installed"
    except Exception as error:
        return "raises", _origin(error)


def _origin(error: BaseException) -> str:
    """The first cause of an error, in one line, with the last line of the project that it came through."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [
        (path.name, line) for path, line in frames if path.is_relative_to(ROOT) and "site-packages" not in path.parts
    ]
    where = f" ({own[-1][0]}:{own[-1][1]})" if own else ""
    return f"{type(error).__name__}{where}: {' '.join(str(error).split())[:200]}"
