"""Rows of scorers: each sample is judged alone, a text against the right texts of its item."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.samples import Samples, Texts
from evalsvc.plugins.scorers import ScorerInfo

T = TypeVar("T")
Judge = Callable[[str, tuple[str, ...]], Sequence[float]]
"""From a text and the right texts of its item to one value for each quantity of the scorer, in order."""


class NotApplicable(Exception):  # noqa: N818  (an outcome, not an error)
    """The measure is not defined for a sample; the message says why."""


class Failed(NotApplicable):
    """A sample could not be scored; the message says why."""


def score_texts(info: ScorerInfo, samples: Samples, items: ItemBatch, judge: Judge) -> Scored:
    """Judge each text; rows without a value are NaN, with the reason.

    Raises:
        InputError: the samples or the targets are not texts.
    """
    row = text_rows(info, samples, items)
    return score_rows(info, len(samples), lambda number: judge(*row(number)))


def text_rows(info: ScorerInfo, samples: Samples, items: ItemBatch) -> Callable[[int], tuple[str, tuple[str, ...]]]:
    """A function from the number of a row to its text and the right texts of its item.

    It raises :class:`NotApplicable` if the scorer reads targets and the item has none.

    Raises:
        InputError: the samples or the targets are not texts.
    """
    if not isinstance(samples, Texts):
        raise InputError(f"scorer {info.name!r} requires text samples")
    texts, right = samples.items, right_texts(info, items)
    return lambda number: (texts[number], right(number))


def right_texts(info: ScorerInfo, items: ItemBatch) -> Callable[[int], tuple[str, ...]]:
    """A function from the number of a row to the right texts of its item, or none if the scorer does not read targets.

    It raises :class:`NotApplicable` if the scorer reads targets and the item has none.

    Raises:
        InputError: the targets are not texts.
    """
    if "target" not in info.reads:
        return lambda number: ()
    targets = items.targets
    if not isinstance(targets, tuple):
        raise InputError(f"scorer {info.name!r} compares texts: set 'target' of the items to a column of texts")

    def right(number: int) -> tuple[str, ...]:
        if not targets or not targets[number]:
            raise NotApplicable("the item has no target")
        return targets[number]

    return right


def score_rows(info: ScorerInfo, count: int, judge: Callable[[int], Sequence[float]]) -> Scored:
    """Judge each row by its number; rows that raise :class:`NotApplicable` are NaN, with the reason."""
    rows: list[Sequence[float]] = []
    reasons: dict[int, str] = {}
    failed: set[int] = set()
    for row in range(count):
        try:
            rows.append(judge(row))
        except NotApplicable as outcome:
            rows.append([float("nan")] * len(info.quantities))
            reasons[row] = str(outcome)
            if isinstance(outcome, Failed):
                failed.add(row)
    table = torch.tensor(rows, dtype=torch.float64).reshape(count, len(info.quantities))
    values = {quantity.name: table[:, column] for column, quantity in enumerate(info.quantities)}
    return Scored(values, reasons, frozenset(failed))


def checked(scorer: str, option: str, value: T, kind: Any) -> T:
    """The value of an option, if it has the right type.

    Raises:
        InputError: it does not.
    """
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise InputError(f"invalid option {option}={value!r:.80} of scorer {scorer!r}: {reason}") from None
    return value


def needed(module: str, scorer: str, extra: str = "scorers") -> Any:
    """A module of an extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"scorer {scorer!r} needs its extra: pip install 'evalsvc[{extra}]'") from None
