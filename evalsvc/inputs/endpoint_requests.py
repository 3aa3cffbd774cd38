"""Requests to a server that answers, refuses, is busy or fails: when they are sent again, and how many at a time."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from itertools import count
from threading import Condition, Event
from typing import Any

from evalsvc.core.errors import ModelError, UnavailableError
from evalsvc.core.http_client import Answer, OutboundError

TRIES = 5
"""Attempts in which a server fails (no connection, a damaged answer, 5xx) until its request is an error."""
PATIENCE = 600.0
"""Seconds in total that a request waits for a server that is busy; what it asks for by ``Retry-After`` counts."""
LONGEST_PAUSE = 60.0
FORBIDDEN, TIMED_OUT, TOO_MANY, UNAVAILABLE = 403, 408, 429, 503
OF_ONE_REQUEST = {400, 413, 422, 451}
"""Statuses that refuse the content of a request; others are about the key, the address or the server."""
NO_MONEY = b"insufficient_quota"
"""OpenAI's reason of a 429 that no patience ends."""


class RefusedError(ModelError):
    """The server responds, but refuses the request; ``reason`` is a line for clients.

    ``of_one`` says that the content of the request was refused: others may be answered. ``forbidden`` says that this
    may be so (403): filters use the same status as for a wrong key.
    """

    def __init__(self, message: str, *, detail: str = "", reason: str = "", status: int = 0) -> None:
        super().__init__(message, detail=detail)
        self.reason, self.of_one, self.forbidden = reason, status in OF_ONE_REQUEST, status == FORBIDDEN


class Pace:
    """At most so many requests at a time: half as many when the server has too many, one more after as many answers."""

    def __init__(self, most: int) -> None:
        self._most, self.limit = most, most
        self._running, self._answered, self._cuts = 0, 0, 0
        self._change = Condition()
        self.ended = Event()
        """Set when the work failed or was interrupted: requests that wait to be sent again end too."""

    @contextmanager
    def turn(self) -> Iterator[int]:
        """Wait until another request may run; yields the number of cuts until then, for :meth:`cut`."""
        with self._change:
            self._change.wait_for(lambda: self._running < self.limit)
            self._running += 1
            cuts = self._cuts
        try:
            yield cuts
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    def pause(self, seconds: float) -> bool:
        """Wait; returns whether the work ended meanwhile."""
        return self.ended.wait(seconds)

    def answered(self) -> None:
        """Note an answer."""
        with self._change:
            self._answered += 1
            if self._answered >= self.limit:
                self.limit, self._answered = min(self._most, self.limit + 1), 0

    def cut(self, cuts: int) -> None:
        """Note that a server has too many requests; only the first of those that began before a cut halves them."""
        with self._change:
            if cuts == self._cuts:
                self.limit, self._answered, self._cuts = max(1, self.limit // 2), 0, cuts + 1


def ask(send: Callable[[], Answer], called: str, hidden: Callable[[str], str], pace: Pace) -> tuple[Any, float]:
    """The JSON of an answer, and the seconds of the attempt that was answered.

    Failed attempts are repeated after exponentially longer pauses, and busy servers after the time that they ask for.
    ``called`` names the server in messages, and ``hidden`` makes details safe for logs.

    Raises:
        RefusedError: the server refuses the request.
        UnavailableError: it failed five times, or stayed busy.
    """
    failures, waited = 0, 0.0
    for attempt in count():
        busy, wait = False, 0.0
        try:
            with pace.turn() as cuts:
                begun = time.perf_counter()
                answer = send()
                seconds = time.perf_counter() - begun
            if answer.is_success:
                content = json.loads(answer.body)
                pace.answered()
                return content, seconds
        except OutboundError as error:
            fault, reason = str(error), f"{error} {error.detail}".strip()
        except (ValueError, RecursionError) as error:
            fault, reason = "its answer is not JSON", f"not JSON: {error}"
        else:
            fault, reason = f"status {answer.status}", f"{answer.status}: {answer.body[:400].decode(errors='replace')}"
            wait = seconds_of(answer.retry_after)
            too_many = answer.status == TOO_MANY and NO_MONEY not in answer.body
            busy = too_many or (answer.status == UNAVAILABLE and wait > 0)
            if not busy and not _may_pass(answer.status):
                raise RefusedError(
                    f"{called} refused the request",
                    detail=hidden(reason),
                    reason=f"{called} refused the prompt ({answer.status // 100}xx)",
                    status=answer.status,
                )
            if too_many:
                pace.cut(cuts)
        failures += not busy
        # Requests that were refused together must not come back together.
        wait = wait * random.uniform(1, 1.1) if wait >= 1 else random.uniform(0.5, 1) * min(LONGEST_PAUSE, 2**attempt)
        waited += wait
        if failures == TRIES:
            raise UnavailableError(
                f"{called} did not respond in {TRIES} attempts ({fault}): check that it is running",
                detail=hidden(reason),
            )
        if waited > PATIENCE:
            raise UnavailableError(
                f"{called} is busy for more than {PATIENCE:g} s: run the same command again later",
                detail=hidden(reason),
            )
        if pace.pause(wait):
            raise UnavailableError(f"{called} was not asked again, because the work ended", detail=hidden(reason))
    raise AssertionError("the attempts end by returning or raising")


def _may_pass(status: int) -> bool:
    """Whether a status is a fault of the moment."""
    return status >= 500 or status == TIMED_OUT


def seconds_of(retry_after: str) -> float:
    """Seconds that a header asks to wait, by number or by date; 0 if it asks for none, or cannot be read."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
