"""The columns of a score and of an evaluation, written down once: what rows, the API, its client and the CLI share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ScoreColumns:
    """One number with its uncertainty, and what it belongs to. Scores of different ``protocol`` are not comparable.

    ``independent`` counts the independent units that the error is of, and ``independent_unit`` says which: samples,
    prompts or documents; ``None`` of scores from before they were counted. ``mark`` follows ``model@step`` in the name
    of what was scored, where another checkpoint or configuration shares it.
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

    @property
    def name(self) -> str:
        """``model@step``, and what tells it from others of that label."""
        return f"{self.model}@{self.step}{self.mark}"


@dataclass(frozen=True)
class Stage:
    """Samples, or items of the reference, of one stage of an evaluation: those that are done, of those that are due."""

    done: int
    due: int


@dataclass(frozen=True)
class Progress:
    """One checkpoint under one suite as it is now; ``by`` asked for it. ``stages`` count unfinished shards too.

    ``fraction`` is the share of samples and items that are done, from 0 to 1; of what has ``ended`` nothing more will
    come, unless it is tried again. ``mark`` follows ``model@step`` in the name of what is scored, where another
    checkpoint or configuration shares it.
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
        """``model@step``, and what tells it from others of that label."""
        return f"{self.model}@{self.step}{self.mark}"
