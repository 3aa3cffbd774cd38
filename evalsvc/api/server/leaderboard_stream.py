"""Stream leaderboards as JSON in parts, so that no whole board is held in memory.

The entries are ranked by one score each, in one read transaction. All other scores are read for a hundred entries at a
time, each in a short transaction of its own, so that a slow client keeps no transaction open. Rows of the ranking never
change, so later parts belong to the same board.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from evalsvc.analysis.leaderboard import Board, Column, Entry
from evalsvc.api import schemas
from evalsvc.api.server.shares import Shares
from evalsvc.core.columns import ScoreColumns
from evalsvc.store import queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Score

ENTRIES = 100
"""Entries per part: about 1.3 MB and 25 ms of processor time at twenty scores each."""
AT_ONCE = 2
"""Number of parts that a server computes at once, so that other requests get processor time."""
HEAD = tuple(name for name in schemas.Entry.model_fields if name != "scores")
SHARED = tuple(name for name in schemas.Score.model_fields if name not in queries.SCORE_VALUES)
"""Facts that all scores of an entry share."""


def pieces(database: Database, boards: Sequence[Board], columns: Sequence[Column]) -> Iterator[bytes]:
    """A list of :class:`evalsvc.api.schemas.Board` in parts; the entries of ``boards`` need only the score that ranks
    them.

    ``columns`` are all columns that any board may have. Consumers may stop early and pay only for the parts they read.
    """
    yield b"["
    for place, board in enumerate(boards):
        of_reference = {"reference": board.reference, "reference_unknown": board.unknown or None}
        head: dict[str, Any] = {
            "suite": board.suite,
            "ranked_by": asdict(board.ranked_by),
            **of_reference,
            "entries": [],
        }
        yield (b"," if place else b"") + to_json(head)[:-2]
        seen: set[tuple[str, str]] = set()
        for some in _batches(board.entries):
            with database.read() as session:
                ids = [_ranking(entry).evaluation_id for entry in some]
                values = queries.score_values(session, ids, Score.slice_of.is_(None))
            entries = [_entry(entry, values[_ranking(entry).evaluation_id]) for entry in some]
            seen.update((score["label"], score["protocol"]) for entry in entries for score in entry["scores"])
            written = to_json(entries, inf_nan_mode="null")[1:-1]
            yield written if some[0] is board.entries[0] else b"," + written
        others = [each for each in columns if (each.label, each.protocol) in seen and each != board.ranked_by]
        yield b'],"columns":%s}' % to_json([asdict(each) for each in (board.ranked_by, *others)])
    yield b"]"


class Pieces(Response):
    """A response in parts, generated again for each request; each part is one of the ``turns`` of its token.

    ``entries`` is the number of entries that it holds in memory.
    """

    media_type = "application/json"

    def __init__(
        self, make: Callable[[], Iterator[bytes]], entries: int, turns: Shares, headers: dict[str, str]
    ) -> None:
        super().__init__(headers=headers)
        self.entries, self._make, self._turns, self._also = entries, make, turns, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it part by part."""
        answer = StreamingResponse(
            self._threaded(scope["state"]["bearer"].id), headers=self._also, media_type=self.media_type
        )
        await answer(scope, receive, send)

    async def _threaded(self, token: int) -> AsyncIterator[bytes]:
        made = self._make()
        while True:
            async with self._turns.turn(token):
                piece = await run_in_threadpool(next, made, None)
            if piece is None:
                return
            yield piece


def weight(answer: Response) -> int:
    """Approximate number of bytes that a response holds in memory."""
    return 2000 * answer.entries if isinstance(answer, Pieces) else len(getattr(answer, "body", b""))


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    left = iter(entries)
    while some := list(islice(left, ENTRIES)):
        yield some


def _ranking(entry: Entry) -> ScoreColumns:
    return next(iter(entry.scores.values()))


def _entry(entry: Entry, values: Sequence[Sequence[Any]]) -> dict[str, Any]:
    ranking = _ranking(entry)
    shared = {name: getattr(ranking, name) for name in SHARED}
    own = (dict(zip(queries.SCORE_VALUES, each[:-1], strict=True)) for each in values)
    return {name: getattr(entry, name) for name in HEAD} | {"scores": [shared | each for each in own]}
