"""Leaderboards and comparisons."""

from __future__ import annotations

from typing import Literal

from evalsvc.api.schemas.common import Response
from evalsvc.api.schemas.scores import Score


class Column(Response):
    """One label under one protocol."""

    label: str
    protocol: str
    title: str
    direction: Literal["lower", "higher", "neutral"]


class Entry(Response):
    """A checkpoint on a board; its rank is 1 + the number of entries that are significantly better."""

    rank: int
    model: str
    family: str
    step: int
    checkpoint_id: int
    digest: str = ""
    mark: str = ""
    scores: list[Score]


class Board(Response):
    """Ranks by one score under one protocol.

    `reference` says whether they hold on this reference file (`fixed`) or for others like it (`sampled`); empty if the
    score has no reference. `reference_unknown` says why ranks hold on this reference file though `sampled` was asked.
    """

    suite: str
    ranked_by: Column
    columns: list[Column]
    entries: list[Entry]
    reference: Literal["fixed", "sampled", ""] = "fixed"
    reference_unknown: str | None = None


class Farther(Response):
    """By how much b is farther from the right value than a; below 0, b is nearer, which is better."""

    value: float
    interval: tuple[float, float] | None
    interval_sampled: tuple[float, float] | None


class Difference(Response):
    """``b - a`` of one score with its 95 % interval; without a number if the two are not comparable.

    Each side is the mean of all its runs (seeds). ``paired`` says whether shared units (documents, prompts, the noise
    of a seed) were paired; ``unpaired`` says why not. ``independent`` counts the independent units of the smaller side.

    ``stderr``, ``interval`` and ``verdict`` hold on this reference file. ``stderr_reference`` is what redrawing the
    reference's rows adds to the error, ``interval_sampled`` the interval with both errors; ``null`` where
    ``reference_method`` says why. ``conclusion`` is the verdict of both, such as ``better on this reference``. Where
    the score has a right value (``target``), ``nearness`` decides both.
    """

    label: str
    a: Score | None
    b: Score | None
    difference: float | None
    stderr: float | None
    interval: tuple[float, float] | None
    paired: bool = False
    unpaired: str | None = None
    independent: int | None = None
    verdict: Literal["better", "worse", "unsure", "differs", "not comparable"]
    reason: str | None
    stderr_reference: float | None = None
    reference_method: str | None = None
    interval_sampled: tuple[float, float] | None = None
    conclusion: str | None = None
    nearness: Farther | None = None


class Comparison(Response):
    """Two checkpoints, score by score."""

    suite: str
    a: str
    b: str
    differences: list[Difference]
