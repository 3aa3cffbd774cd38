"""Validation of scorers' values; a crash costs only the rows that cause it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64, Int8

from evalsvc.core.batching import out_of_memory
from evalsvc.core.errors import (
    IncompatibleWorkerError,
    ModelError,
    StorageError,
    UnavailableError,
    WithdrawnError,
    causes,
    first_line,
    one_line,
)
from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.plugins.items import ItemBatch, Scored, Usage
from evalsvc.plugins.samples import Samples, rows
from evalsvc.plugins.scorers import CandidateLikelihoods, Scorer, ScorerInfo, ScoresLikelihoods

T = TypeVar("T")
SCORED, NOT_APPLICABLE, FAILED = 0, 1, 2
"""Outcomes of a sample: at least one value, none because the scorer does not apply, none because something failed."""
LONGEST_REASON = 300
"""Maximum length of a stored reason, in characters."""
ROUNDING = 1e-6
"""Values may exceed the range of their quantity by this share of its bounds; they are clipped."""


@dataclass(frozen=True)
class Values:
    """Values of samples by quantity, NaN where there is none; the outcome of each sample, and reasons by row.

    ``crashed`` are the rows whose scorer raised an exception. ``states`` are those of the rows, if any has one.
    """

    values: Mapping[str, Float64[np.ndarray, " n"]]
    outcomes: Int8[np.ndarray, " n"]
    reasons: Mapping[int, str]
    crashed: frozenset[int] = frozenset()
    states: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples by outcome."""
        counts = np.bincount(self.outcomes, minlength=3).tolist()
        return dict(zip(("scored", "not applicable", "failed"), counts, strict=True))

    def take(self, chosen: Sequence[int]) -> Values:
        """The values of these rows, in this order; rows may repeat."""
        places = list(chosen)
        return Values(
            {name: column[places] for name, column in self.values.items()},
            self.outcomes[places],
            {place: self.reasons[row] for place, row in enumerate(places) if row in self.reasons},
            frozenset(place for place, row in enumerate(places) if row in self.crashed),
            tuple(self.states[row] for row in places) if self.states else (),
        )


def score(scorer: Scorer, samples: Samples, items: ItemBatch, failures: Mapping[int, str]) -> Values:
    """Values of a batch. The scorer does not see rows of ``failures``, which could not be drawn: they failed.

    A batch whose scoring raises an exception is split until the rows that cause it are known; those failed too.

    Raises:
        ModelError: the values are malformed, or out of range.
        Exception: out of memory, or a failure of the device, of storage, or of a server.
    """

    def call(chosen: Sequence[int]) -> Scored:
        found = scorer.score(rows(samples, chosen), rows_of(items, chosen))
        return found if isinstance(found, Scored) else Scored(found)

    return _score(scorer.info, len(samples), failures, call)


def score_likelihoods(
    scorer: ScoresLikelihoods, likelihoods: Sequence[CandidateLikelihoods], items: ItemBatch
) -> Values:
    """The same from the likelihoods of the candidates of each item."""

    def call(chosen: Sequence[int]) -> Scored:
        return scorer.score_likelihoods([likelihoods[i] for i in chosen], rows_of(items, chosen))

    return _score(scorer.info, len(items), {}, call)


def concatenate(parts: Sequence[Values]) -> Values:
    """The values of consecutive batches; at least one."""
    starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    return Values(
        {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
        np.concatenate([part.outcomes for part in parts]),
        {start + row: why for start, part in zip(starts, parts, strict=False) for row, why in part.reasons.items()},
        frozenset(start + row for start, part in zip(starts, parts, strict=False) for row in part.crashed),
        tuple(state for part in parts for state in part.states or (b"",) * len(part))
        if any(part.states for part in parts)
        else (),
    )


def require_some(who: str, values: Values) -> None:
    """Raise if every row of several crashed for the same reason: then the scorer is broken, not a sample."""
    reasons = {values.reasons[row] for row in values.crashed}
    if len(values) > 1 and len(values.crashed) == len(values) and len(reasons) == 1:
        raise ModelError(f"{who} failed on every sample: {next(iter(reasons))}")


def rows_of(items: ItemBatch, chosen: Sequence[int]) -> ItemBatch:
    """The chosen rows of a batch of items, in the given order."""
    places = list(chosen)

    def part(column: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(column[i] for i in places) if column else column

    targets, sources, usage = items.targets, items.sources, items.usage
    return ItemBatch(
        ids=part(items.ids),
        draws=items.draws[places],
        prompts=part(items.prompts),
        labels=None if items.labels is None else items.labels[places],
        sources=None if sources is None else rows(sources, places),
        targets=part(targets) if isinstance(targets, tuple) else rows(targets, places),
        choices=part(items.choices),
        answers=part(items.answers),
        tags={name: part(column) for name, column in items.tags.items()},
        usage=usage and Usage(usage.seconds[places], usage.tokens[places], usage.price[places]),
        files=part(items.files),
    )


def _score(info: ScorerInfo, n: int, failures: Mapping[int, str], call: Callable[[Sequence[int]], Scored]) -> Values:
    values = {quantity.name: np.full(n, np.nan) for quantity in info.quantities}
    outcomes = np.full(n, NOT_APPLICABLE, np.int8)
    reasons = {row: _reason(why) for row, why in failures.items()}
    outcomes[list(failures)] = FAILED
    crashed, states = set[int](), dict[int, bytes]()
    waiting = [[row for row in range(n) if row not in failures]]
    while waiting:
        chosen = waiting.pop()
        if not chosen:
            continue
        try:
            with torch.inference_mode(), full_precision():
                found = call(chosen)
        except (StorageError, WithdrawnError, IncompatibleWorkerError, UnavailableError):
            raise
        except Exception as error:
            if out_of_memory(error) or any(isinstance(each, torch.AcceleratorError) for each in causes(error)):
                raise
            if len(chosen) > 1:
                half = len(chosen) // 2
                waiting += [chosen[half:], chosen[:half]]
                continue
            crashed.update(chosen)
            outcomes[chosen] = FAILED
            reasons[chosen[0]] = _reason(f"{type(error).__name__}: {first_line(error)}")
            continue
        for name, column in _checked(info, found, len(chosen)).items():
            values[name][chosen] = column
        states |= zip(chosen, found.states, strict=bool(found.states))
        valued = (row for row in chosen if states.get(row) or any(np.isfinite(each[row]) for each in values.values()))
        outcomes[list(valued)] = SCORED
        outcomes[[chosen[place] for place in found.failed]] = FAILED
        reasons |= {chosen[place]: _reason(why) for place, why in found.reasons.items()}
    kept = tuple(states.get(row, b"") for row in range(n))
    return Values(values, outcomes, reasons, frozenset(crashed), kept if any(kept) else ())


def _checked(info: ScorerInfo, found: Scored, n: int) -> dict[str, Float64[np.ndarray, " n"]]:
    who = f"scorer {info.name!r}"
    if {each.name for each in info.quantities} != found.values.keys():
        declared = ", ".join(each.name for each in info.quantities)
        raise ModelError(f"{who} returned {', '.join(found.values) or 'nothing'}, but declares {declared}")
    if outside := sorted({*found.reasons, *found.failed} - set(range(n))):
        raise ModelError(f"{who} gave a reason for row {outside[0]} of {n} samples")
    if len(found.states) not in (0, n):
        raise ModelError(f"{who} returned {len(found.states)} states for {n} samples")
    columns = {each.name: _column(who, each, found.values[each.name], n) for each in info.quantities}
    valued = next((row for row in found.failed if any(np.isfinite(each[row]) for each in columns.values())), None)
    if valued is not None:
        raise ModelError(f"{who} returned a value for row {valued}, which it says failed: return NaN there")
    return columns


def _column(who: str, quantity: Quantity, given: Any, n: int) -> Float64[np.ndarray, " n"]:
    """The values of one quantity as float64, within its range."""
    if not isinstance(given, torch.Tensor) or given.shape != (n,) or not given.is_floating_point():
        shape = f"{given.dtype} of shape {tuple(given.shape)}" if isinstance(given, torch.Tensor) else repr(type(given))
        raise ModelError(f"{who} returned {quantity.name!r} as {shape}: return a float tensor of shape ({n},)")
    column: Float64[np.ndarray, " n"] = given.detach().cpu().double().numpy().copy()
    low, high = quantity.low, quantity.high
    slack = ROUNDING * max([1.0, *(abs(bound) for bound in (low, high) if np.isfinite(bound))])
    there = ~np.isnan(column)
    wrong = there & ~((column >= low - slack) & (column <= high + slack) & np.isfinite(column))
    if wrong.any():
        raise ModelError(
            f"{who} returned {column[wrong][0]} as {quantity.name!r}, outside of its range {low:g} to {high:g}: return "
            "NaN where it does not apply"
        )
    column[there] = np.clip(column[there], low, high)
    return column


def _reason(text: str) -> str:
    return one_line(text.strip().partition("\n")[0])[:LONGEST_REASON]
