"""Ranks with intervals, and differences with intervals. Scores of different protocols never meet."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evalsvc.errors import InputError
from evalsvc.store.overview import Measured, Point
from evalsvc.store.queries import ScoreRow
from metrics.score import Z95

Which = Literal["latest", "all"]


@dataclass(frozen=True)
class Column:
    """One label under one protocol; ``title`` tells protocols of one label apart."""

    label: str
    protocol: str
    title: str
    direction: str


@dataclass(frozen=True)
class Entry:
    """A checkpoint in a configuration on the board. ``rank`` is 1 + the number of entries that are surely better."""

    rank: int
    model: str
    family: str
    step: int
    checkpoint_id: int
    digest: str
    mark: str
    scores: Mapping[tuple[str, str], ScoreRow]


@dataclass(frozen=True)
class Board:
    """Entries that share the protocol of the ranking column, which comes first; the best value on top."""

    suite: str
    ranked_by: Column
    columns: Sequence[Column]
    entries: Sequence[Entry]


def boards(rows: Sequence[ScoreRow], metric: str | None = None, which: Which = "latest") -> list[Board]:
    """Boards of one suite's scores: one for each protocol that the ranking metric has there.

    ``metric`` defaults to the suite's first; ``which`` takes all of each model's last step, or all of its checkpoints.
    """
    labels = list(dict.fromkeys(row.label for row in sorted(rows, key=lambda row: row.position)))
    metric = metric or labels[0]
    if metric not in labels:
        raise InputError(f"there is no score {metric!r} under {rows[0].suite}; there are {', '.join(labels)}")
    if which == "latest":
        last: dict[str, int] = {}
        for row in rows:
            last[row.model] = max(last.get(row.model, row.step), row.step)
        rows = [row for row in rows if row.step == last[row.model]]
    columns = columns_of(sorted(rows, key=lambda row: row.position))
    scores: dict[int, dict[tuple[str, str], ScoreRow]] = {}
    for row in rows:
        scores.setdefault(row.checkpoint_id, {})[row.label, row.protocol] = row
    found = []
    for ranked_by in (column for column in columns if column.label == metric):
        if ranked_by.direction == "neutral":
            raise InputError(f"{metric} has no better or worse, so it cannot rank; choose another --metric")
        ranked = [row for row in rows if (row.label, row.protocol) == (ranked_by.label, ranked_by.protocol)]
        ranked.sort(key=lambda row: row.value, reverse=ranked_by.direction == "higher")
        entries = [
            Entry(
                rank=rank,
                model=row.model,
                family=row.family,
                step=row.step,
                checkpoint_id=row.checkpoint_id,
                digest=row.digest,
                mark=row.mark,
                scores=scores[row.checkpoint_id],
            )
            for rank, row in zip(ranks(ranked), ranked, strict=True)
        ]
        present = {key for entry in entries for key in entry.scores}
        shown = [column for column in columns if (column.label, column.protocol) in present and column != ranked_by]
        found.append(Board(rows[0].suite, ranked_by, [ranked_by, *shown], entries))
    return found


def ranks(rows: Sequence[ScoreRow | Point]) -> list[int]:
    """1 + the number of rows whose whole interval lies on the better side of the row's own, for each row.

    Without an interval nothing is sure. The rows share a direction.
    """
    lower = not rows or rows[0].direction == "lower"
    sign = 1.0 if lower else -1.0
    ends = [(row.ci_low, row.ci_high) if lower else (row.ci_high, row.ci_low) for row in rows]
    worst = sorted(sign * far for near, far in ends if near is not None and far is not None)
    return [1 if near is None or far is None else 1 + bisect_left(worst, sign * near) for near, far in ends]


@dataclass(frozen=True)
class Difference:
    """``b - a`` of one label. Where ``reason`` is set the two are not comparable, and there is no number."""

    label: str
    a: ScoreRow | None
    b: ScoreRow | None
    value: float | None = None
    stderr: float | None = None
    reason: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the difference."""
        if self.value is None or self.stderr is None:
            return None
        return self.value - Z95 * self.stderr, self.value + Z95 * self.stderr

    @property
    def verdict(self) -> Literal["better", "worse", "unsure", "differs", "not comparable"]:
        """How surely b differs from a, in the direction of the metric."""
        if self.value is None or self.a is None:
            return "not comparable"
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "unsure"
        if self.a.direction == "neutral":
            return "differs"
        return "better" if (self.value < 0) == (self.a.direction == "lower") else "worse"


def compare(a: Sequence[ScoreRow], b: Sequence[ScoreRow]) -> list[Difference]:
    """Differences of two evaluations' scores, label by label, as of independent samples.

    Raises :class:`InputError` that names what differs where not one score is comparable.
    """
    of_a, of_b = {row.label: row for row in a}, {row.label: row for row in b}
    differences = [_difference(label, of_a.get(label), of_b.get(label)) for label in {**of_a, **of_b}]
    if all(difference.value is None for difference in differences):
        reasons = "; ".join(dict.fromkeys(difference.reason for difference in differences))
        raise InputError(f"the two share no protocol, so nothing can be compared ({reasons or 'no scores'})")
    return differences


def _difference(label: str, a: ScoreRow | None, b: ScoreRow | None) -> Difference:
    if a is None or b is None:
        return Difference(label, a, b, reason=f"{'a' if a is None else 'b'} has no {label}")
    if a.protocol != b.protocol:
        return Difference(label, a, b, reason=f"{label}: {differing_facts(a.facts, b.facts)}")
    stderr = None if a.stderr is None or b.stderr is None else math.hypot(a.stderr, b.stderr)
    return Difference(label, a, b, b.value - a.value, stderr)


def differing_facts(a: Mapping[str, object], b: Mapping[str, object]) -> str:
    """What two protocols differ in, such as ``samples 2000 / 1000``."""
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    return ", ".join(f"{key} {_short(a.get(key))} / {_short(b.get(key))}" for key in keys)


def columns_of(rows: Iterable[ScoreRow] | Iterable[Measured]) -> list[Column]:
    """A column for each label and protocol, in the order of the rows."""
    variants: dict[str, dict[str, ScoreRow | Measured]] = {}
    for row in rows:
        variants.setdefault(row.label, {}).setdefault(row.protocol, row)
    columns = []
    for label, protocols in variants.items():
        facts = [row.facts for row in protocols.values()]
        keys = [key for key in {k: None for f in facts for k in f} if len({str(f.get(key)) for f in facts}) > 1]
        for protocol, row in sorted(protocols.items()):
            mark = ", ".join(_short(row.facts.get(key)) for key in keys)
            columns.append(Column(label, protocol, f"{label} ({mark})" if mark else label, row.direction))
    return columns


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
