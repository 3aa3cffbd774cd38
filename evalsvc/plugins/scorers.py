"""Scorers: plug-ins that look at one sample and its item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import EvalsvcError, InputError
from evalsvc.metrics.registry import Quantity
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.items import Column, ItemBatch, Scored
from evalsvc.plugins.registry import Plugin
from evalsvc.plugins.samples import Samples

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScorerInfo:
    """Facts about a scorer: everything that can change a value.

    ``takes`` are the modalities of the samples that it scores. ``quantities`` are what it returns, with direction, unit
    and range. ``reads`` are the columns of items that it needs. ``weights`` is a sha256, or "none"; ``facts`` are its
    settings and versions (normalization, tokenizer, signature of the library).
    """

    name: str
    takes: frozenset[Modality]
    quantities: tuple[Quantity, ...]
    reads: frozenset[Column] = frozenset()
    weights: str = "none"
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def protocol(self) -> str:
        """Digest of everything that can change a value: values with equal protocols are comparable."""
        quantities = [[each.name, str(each.direction), each.unit] for each in self.quantities]
        facts = [self.name, sorted(self.takes), quantities, sorted(self.reads), self.weights, dict(self.facts)]
        return f"{self.name}-{digest_json(facts)[:12]}"


def declared_quantities(plugin: Plugin, options: Mapping[str, Any]) -> tuple[Quantity, ...]:
    """The quantities that a scorer with these options declares, read without building it.

    Raises:
        InputError: it declares none, or does not take these options.
    """
    declared = getattr(plugin.load(), "quantities", None)
    try:
        found = declared(**options) if callable(declared) else declared
    except EvalsvcError:
        raise
    except Exception as error:
        raise InputError(f"scorer {plugin.name!r} does not take these options ({error})") from error
    if not isinstance(found, tuple) or not found or not all(isinstance(each, Quantity) for each in found):
        raise InputError(
            f"scorer {plugin.name!r} declares no quantities: give its class 'quantities', a tuple of "
            "evalsvc.metrics.registry.Quantity, or a static method from the options to one"
        )
    return found


class Scorer(Protocol):
    """Scores single samples against their items. Registered under ``evalsvc.scorers`` as ``(device, **options)``.

    The factory (usually the class) has an attribute ``quantities``: a tuple of
    :class:`evalsvc.metrics.registry.Quantity`, or a static method from the options to one. It is read without building
    the scorer, so that suites know names and directions without weights; heavy modules are imported when the scorer is
    built. If the factory has a parameter ``plugins``, it receives the :class:`Plugins`; if it has one ``modality``,
    that of the suite.
    """

    @property
    def info(self) -> ScorerInfo:
        """Facts about this scorer."""
        ...

    def score(self, samples: Samples, items: ItemBatch) -> Mapping[str, Float[Tensor, " n"]] | Scored:
        """Return one value per sample for each of ``info.quantities``.

        Row i must depend only on sample i and item i; NaN is "not applicable".
        """
        ...


@runtime_checkable
class ScoresLikelihoods(Protocol):
    """Optional interface of a scorer that judges the likelihoods of given texts instead of samples.

    Such a scorer has no ``score``. It is called once for each item, for any number of draws.
    """

    @property
    def info(self) -> ScorerInfo:
        """Facts about this scorer."""
        ...

    def candidates(self, items: ItemBatch) -> tuple[tuple[str, ...], ...]:
        """The texts of each item whose likelihood given the item's prompt is measured; none if not applicable."""
        ...

    def score_likelihoods(self, likelihoods: Sequence[CandidateLikelihoods], items: ItemBatch) -> Scored:
        """Return one value per item for each of ``info.quantities``, from the likelihoods of its candidates."""
        ...


@runtime_checkable
class AsksModel(Protocol):
    """Optional interface of a scorer that asks a model for its opinion: models prefer their own answers."""

    @property
    def models(self) -> frozenset[str]:
        """Names by which a scored model may be the same one; none if it may be."""
        ...


@runtime_checkable
class MergesStates(Protocol):
    """Optional interface of a scorer that returns a state of each sample: together they have a value of their own.

    Its values of single samples may be NaN; the aggregate ``merged`` finds that of all samples.
    """

    def read_state(self, state: bytes) -> Any:
        """A state as :attr:`Scored.states` has it, for the other methods."""
        ...

    def merge(self, states: Sequence[Any]) -> Any:
        """The state of several samples together, in order, from their states; merged states can be merged again."""
        ...

    def value_of(self, state: Any, quantity: str) -> float:
        """The value of a quantity of the samples behind a state; NaN if it does not exist."""
        ...


@dataclass(frozen=True)
class CandidateLikelihoods:
    """Likelihoods of the candidates of one item: ``nats`` and ``tokens`` of each, without those of the prompt."""

    nats: Float64[np.ndarray, " candidates"]
    tokens: Int64[np.ndarray, " candidates"]
