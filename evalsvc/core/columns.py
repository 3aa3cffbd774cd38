"""Columns of scores and evaluations, shared by the tables, the API, its client and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ScoreColumns:
    """One value with its uncertainty and its origin. Scores of different ``protocol`` are not comparable.

    ``independent`` is the number of independent units behind the standard error, ``independent_unit`` their kind:
    samples, prompts, items, groups or documents; ``None`` for old scores. ``mark`` follows ``model@step`` in the name
    of the checkpoint if another checkpoint or configuration shares the label.
    """

    model: str
    family: str
    step: int
    digest: str
    configuration: str
    checkpoint_id: int
    evaluation_id: int
    suite: str
    position: int
    label: str
    value: float
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    direction: str
    unit: str
    stderr_method: str
    protocol: str
    created_at: datetime
    independent: int | None = None
    independent_unit: str | None = None
    mark: str = ""
    skewness: float = 0.0
    stderr_reference: float | None = None
    reference_method: str = ""
    target: float | None = None
    target_stderr: float | None = None

    @property
    def name(self) -> str:
        """``model@step``, with a mark that distinguishes it from others with that label."""
        return f"{self.model}@{self.step}{self.mark}"


@dataclass(frozen=True)
class Stage:
    """Number of finished and of all samples, or items of the reference, in one stage of an evaluation."""

    done: int
    due: int


@dataclass(frozen=True)
class Progress:
    """Current state of one evaluation; ``by`` requested it. ``stages`` include unfinished shards.

    ``fraction`` is the share of finished samples and items, from 0 to 1; an evaluation that has ``ended`` computes no
    further results unless it is retried. ``mark`` follows ``model@step`` in the name of the checkpoint if another
    checkpoint or configuration shares the label.
    """

    id: int
    model: str
    step: int
    checkpoint_id: int
    digest: str
    configuration: str
    mark: str
    suite: str
    status: str
    failure: str | None
    error: str | None
    attempt: int
    priority: int
    by: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    stages: Mapping[str, Stage]
    fraction: float
    ended: bool

    @property
    def name(self) -> str:
        """``model@step``, with a mark that distinguishes it from others with that label."""
        return f"{self.model}@{self.step}{self.mark}"
