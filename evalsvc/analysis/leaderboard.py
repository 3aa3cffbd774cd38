"""Ranks and differences with intervals. Scores of different protocols are never mixed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot
from typing import Literal, TypeVar

from evalsvc.analysis.differences import Run, difference, error_of_reference
from evalsvc.analysis.nearness import Farther, distances
from evalsvc.analysis.runs import Runs
from evalsvc.core.columns import ScoreColumns
from evalsvc.core.errors import InputError
from evalsvc.metrics.score import Z95, Reference
from evalsvc.store.dashboard_queries import Measured, Point, label_places
from evalsvc.store.queries import ScoreRow

Which = Literal["latest", "all"]
Verdict = Literal[
    "better",
    "worse",
    "unsure",
    "differs",
    "not comparable",
    "better on this reference",
    "worse on this reference",
    "differs on this reference",
]
ON_THIS_REFERENCE: Mapping[str, Verdict] = {
    "better": "better on this reference",
    "worse": "worse on this reference",
    "differs": "differs on this reference",
}
"""Verdicts of differences that may vanish on another reference."""


@dataclass(frozen=True)
class Column:
    """One label under one protocol; ``title`` distinguishes protocols of one label."""

    label: str
    protocol: str
    title: str
    direction: str


@dataclass(frozen=True)
class Entry:
    """A checkpoint in a configuration on the board. ``rank`` is 1 + the number of entries that are significantly
    better.
    """

    rank: int
    model: str
    family: str
    step: int
    checkpoint_id: int
    digest: str
    mark: str
    scores: Mapping[tuple[str, str], ScoreColumns]


@dataclass(frozen=True)
class Board:
    """Entries that share the protocol of the ranking column, which comes first; ordered from the best value.

    ``reference`` says whether ranks hold on this reference file (``fixed``), or for others of its size drawn as it was
    (``sampled``); empty if the ranking score has no reference. ``unknown`` is the reason why not all ranks count the
    choice of the reference's rows though they should.
    """

    suite: str
    ranked_by: Column
    columns: Sequence[Column]
    entries: Sequence[Entry]
    reference: Reference | Literal[""] = "fixed"
    unknown: str = ""

    @property
    def holds(self) -> str:
        """The references that the ranks hold for, in words."""
        if self.unknown:
            return f"ranks hold on this reference file (the error of its rows is unknown of some: {self.unknown})"
        words = {"fixed": "on this reference file", "sampled": "for references like this one", "": ""}[self.reference]
        return words and f"ranks hold {words}"


def boards(
    rows: Sequence[ScoreRow],
    metric: str | None = None,
    which: Which = "latest",
    reference: Reference = "sampled",
) -> list[Board]:
    """Boards of one suite's scores, one for each protocol of the ranking metric.

    ``metric`` defaults to the suite's first; ``which`` selects the last step of each model, or all checkpoints;
    ``reference`` whether ranks count the choice of the reference's rows, or hold on this reference file.
    """
    if not rows:
        return []
    places = label_places((row.label, row.position) for row in rows)
    rows = sorted(rows, key=lambda row: places[row.label])
    metric = ranking_label(dict.fromkeys(row.label for row in rows), metric, rows[0].suite)
    if which == "latest":
        last: dict[str, int] = {}
        for row in rows:
            last[row.model] = max(last.get(row.model, row.step), row.step)
        rows = [row for row in rows if row.step == last[row.model]]
    columns = columns_of(rows)
    order = {(column.label, column.protocol): place for place, column in enumerate(columns)}
    scores: dict[int, dict[tuple[str, str], ScoreRow]] = {}
    ranked: dict[str, list[ScoreRow]] = {}
    for row in rows:
        scores.setdefault(row.checkpoint_id, {})[row.label, row.protocol] = row
        if row.label == metric:
            ranked.setdefault(row.protocol, []).append(row)
    found = []
    for ranked_by in (column for column in columns if column.label == metric):
        own = best_first(ranked[ranked_by.protocol])
        if ranked_by.direction == "neutral" and all(row.target is None for row in own):
            raise InputError(f"{metric} has no better direction, so it cannot rank: choose another --metric")
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
            for rank, row in zip(ranks(own, reference), own, strict=True)
        ]
        present = {order[key] for entry in entries for key in entry.scores}
        shown = [columns[place] for place in sorted(present) if columns[place] != ranked_by]
        known = [error_of_reference(row, row.facts) for row in own]
        against: Reference | Literal[""] = reference if any(each != (0.0, "") for each in known) else ""
        why = next((why for error, why in known if error is None), "") if against == "sampled" else ""
        found.append(Board(rows[0].suite, ranked_by, [ranked_by, *shown], entries, "fixed" if why else against, why))
    return found


def ranking_label(labels: Collection[str], wanted: str | None, suite: str) -> str:
    """The score to rank by: ``wanted``, or the first label of the suite.

    Raises:
        InputError: the suite has no such label.
    """
    if wanted is not None and wanted not in labels:
        raise InputError(f"suite {suite} has no score {wanted!r}: use one of {', '.join(labels)}")
    return wanted if wanted is not None else next(iter(labels))


Row = TypeVar("Row", ScoreRow, Point)


def best_first(rows: Sequence[Row]) -> list[Row]:
    """Scores of one protocol in the order of their distances from the right value, or else of their values."""
    if found := distances(rows):
        places = sorted(range(len(rows)), key=lambda place: found[place].value)
        return [rows[place] for place in places]
    return sorted(rows, key=lambda row: row.value, reverse=bool(rows) and rows[0].direction == "higher")


def ranks(rows: Sequence[ScoreRow | Point], reference: Reference = "sampled") -> list[int]:
    """For each row, 1 + the number of rows whose whole interval lies on the better side of the row's interval.

    ``sampled`` intervals count the choice of the reference's rows, where its error is known. Rows without an interval
    are never significantly better or worse. All rows have the same direction; where they have right values, the
    intervals are those of their distances from them.
    """
    far = distances(rows, reference)
    lower = bool(far) or not rows or rows[0].direction == "lower"
    sign = 1.0 if lower else -1.0
    own = [interval_of(row, reference) for row in rows]
    intervals = [each.interval or (None, None) for each in far] if far else own
    ends = intervals if lower else [(high, low) for low, high in intervals]
    worst = sorted(sign * far for near, far in ends if near is not None and far is not None)
    return [1 if near is None or far is None else 1 + bisect_left(worst, sign * near) for near, far in ends]


def interval_of(row: ScoreRow | Point, reference: Reference) -> tuple[float | None, float | None]:
    """The 95 % interval of a score; ``sampled`` counts the choice of the reference's rows, where its error is known."""
    if row.ci_low is None or row.ci_high is None or reference == "fixed" or not row.stderr_reference:
        return row.ci_low, row.ci_high
    more = Z95 * row.stderr_reference
    return row.value - hypot(row.value - row.ci_low, more), row.value + hypot(row.ci_high - row.value, more)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its current scores, and the runs (one per seed) of each label."""

    rows: Sequence[ScoreRow]
    runs: Runs

    def of(self, label: str, protocol: str | None) -> tuple[ScoreRow, Sequence[Run]] | None:
        """A label's score over all runs under one protocol: the requested protocol if there are runs, otherwise the
        newest.

        The row of several runs has their mean and its error.
        """
        newest = next((row for row in self.rows if row.label == label), None)
        if newest is None:
            return None
        every = self.runs[label]
        there = protocol is not None and any(run.protocol == protocol for run in every)
        wanted = protocol if there and protocol else newest.protocol
        runs = [run for run in every if run.protocol == wanted]
        if len(runs) == 1 and runs[0].run == newest.evaluation_id:
            return newest, runs
        found = difference((), runs)
        low, high = found.interval() or (None, None)
        row = replace(
            newest,
            value=found.value,
            stderr=found.stderr,
            ci_low=low,
            ci_high=high,
            n=sum(run.n for run in runs),
            protocol=wanted,
            facts=runs[0].facts,
            skewness=found.errors.sides.of_b if found.errors and found.errors.sides else 0.0,
            stderr_reference=found.stderr_reference,
            reference_method=found.reference_method,
        )
        return row, runs


@dataclass(frozen=True)
class Difference:
    """``b - a`` of one label. If ``reason`` is set, the two are not comparable and there are no numbers.

    ``interval`` is the 95 % interval of the difference on this reference file. ``paired`` says whether units of both
    sides were paired, and ``unpaired`` why not; ``independent`` counts the independent units of the smaller side.
    ``stderr_reference`` is what redrawing the reference's rows adds to the error, and ``interval_sampled`` the interval
    with both errors; ``None`` where ``reference_method`` says why they are unknown. Where the label has a right value,
    ``nearness`` decides which side is better.
    """

    label: str
    a: ScoreColumns | None
    b: ScoreColumns | None
    value: float | None = None
    stderr: float | None = None
    reason: str = ""
    interval: tuple[float, float] | None = None
    paired: bool = False
    unpaired: str = ""
    independent: int | None = None
    stderr_reference: float | None = None
    reference_method: str = ""
    interval_sampled: tuple[float, float] | None = None
    nearness: Farther | None = None

    @property
    def deciding(self) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        """The intervals that decide the verdict, with the reference fixed and sampled."""
        of = self.nearness or self
        return of.interval, of.interval_sampled

    @property
    def in_words(self) -> str:
        """The value that decides the verdict."""
        if self.nearness:
            return f"{abs(self.nearness.value):.4g} {'nearer' if self.nearness.value < 0 else 'farther'}"
        return "" if self.value is None else f"{self.value:+.4g}"

    @property
    def on_this_reference(self) -> Literal["better", "worse", "unsure", "differs", "not comparable"]:
        """Whether b is significantly better or worse than a on this reference file, in the direction of the metric."""
        if self.value is None or self.a is None:
            return "not comparable"
        if not _excludes_zero(self.deciding[0]):
            return "unsure"
        if self.nearness:
            return "better" if self.nearness.value < 0 else "worse"
        if self.a.direction == "neutral":
            return "differs"
        return "better" if (self.value < 0) == (self.a.direction == "lower") else "worse"

    @property
    def verdict(self) -> Verdict:
        """Whether b is significantly better or worse than a also for other references like this one.

        If the two differ significantly only on this reference file, or if the error of the reference is unknown, the
        verdict says so.
        """
        found = self.on_this_reference
        if found in ("unsure", "not comparable") or _excludes_zero(self.deciding[1]):
            return found
        return ON_THIS_REFERENCE[found]


def _excludes_zero(interval: tuple[float, float] | None) -> bool:
    return interval is not None and not interval[0] <= 0 <= interval[1]


def compare(a: Side, b: Side) -> list[Difference]:
    """Differences between two sides, label by label, by :func:`evalsvc.analysis.differences.difference`.

    Raises:
        InputError: no score is comparable; the message names the differences.
    """
    labels = dict.fromkeys(row.label for row in (*a.rows, *b.rows))
    differences = [_difference(label, a, b) for label in labels]
    if all(difference.value is None for difference in differences):
        reasons = "; ".join(dict.fromkeys(difference.reason for difference in differences))
        raise InputError(f"the two share no protocol, so nothing can be compared ({reasons or 'no scores'})")
    return differences


def unpaired(differences: Iterable[Difference]) -> dict[str, list[str]]:
    """The labels that were compared as independent, by the reason."""
    found: dict[str, dict[str, None]] = {}
    for each in differences:
        if each.unpaired:
            found.setdefault(each.unpaired, {})[each.label] = None
    return {reason: list(labels) for reason, labels in found.items()}


def unknown_references(differences: Iterable[Difference]) -> dict[str, list[str]]:
    """The labels whose error of the reference is unknown, by the reason."""
    found: dict[str, list[str]] = {}
    for each in differences:
        if each.interval and each.reference_method:
            found.setdefault(each.reference_method, []).append(each.label)
    return found


def _difference(label: str, a: Side, b: Side) -> Difference:
    of_b = b.of(label, None)
    of_a = a.of(label, of_b[0].protocol if of_b else None)
    if of_a is None or of_b is None:
        missing = "a" if of_a is None else "b"
        return Difference(label, of_a and of_a[0], of_b and of_b[0], reason=f"{missing} has no {label}")
    (row_a, runs_a), (row_b, runs_b) = of_a, of_b
    if row_a.protocol != row_b.protocol:
        return Difference(label, row_a, row_b, reason=f"{label}: {differing_facts(row_a.facts, row_b.facts)}")
    found = difference(runs_a, runs_b)
    return Difference(
        label,
        row_a,
        row_b,
        found.value,
        found.stderr,
        interval=found.interval(),
        paired=found.paired,
        unpaired=found.unpaired,
        independent=found.units,
        stderr_reference=found.stderr_reference,
        reference_method=found.reference_method,
        interval_sampled=found.interval(reference="sampled"),
        nearness=Farther.of(runs_a, runs_b),
    )


def differing_facts(a: Mapping[str, object], b: Mapping[str, object]) -> str:
    """The facts in which two protocols differ, such as ``samples 2000 / 1000``."""
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
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items()) or "none"
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
