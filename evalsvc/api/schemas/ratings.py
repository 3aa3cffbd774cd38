"""Ratings by people, beside those of judges."""

from __future__ import annotations

from evalsvc.api.schemas.common import Response


class Rated(Response):
    """A checkpoint's rating by people; without one, ``standing`` gives the reason. An unbeaten one has a lower end."""

    checkpoint: str
    rating: float | None
    ci_low: float | None
    ci_high: float | None
    rank: int | None
    games: int
    standing: str


class Rate(Response):
    """A mean in [0, 1] over items, with its standard error and 95 % interval."""

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    items: int


class Rates(Response):
    """People alone, the judge alone, and both together with the tuned ``weight`` of the judge, 0 to 1."""

    people: Rate
    judge: Rate
    together: Rate
    weight: float


class PeopleAndJudge(Response):
    """Points of the first checkpoint against the second, 1 a win and 1/2 a tie; without rates for the ``reason``.

    ``agreed`` is the share of equal answers on the ``both`` samples that people and the judge rated.
    """

    first: str
    second: str
    judge: str
    rates: Rates | None
    reason: str
    both: int
    agreed: float | None
    kappa: float | None


class Agreement(Response):
    """Krippendorff's alpha between raters, over ``items`` pairs of samples that two or more rated."""

    alpha: float | None
    ci_low: float | None
    ci_high: float | None
    items: int
    raters: int


class Ratings(Response):
    """Ratings under a suite, best first; ``method`` says what their intervals redraw."""

    suite: str
    method: str
    ratings: list[Rated]
    agreement: Agreement | None
    judges: list[PeopleAndJudge]
