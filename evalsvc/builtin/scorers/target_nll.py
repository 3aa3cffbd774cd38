"""Likelihood of an item's target after its prompt."""

from __future__ import annotations

from collections.abc import Sequence

from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.scorers import CandidateLikelihoods, ScorerInfo


@open_to_clients("delimiter")
@versioned("1")
class TargetLikelihood:
    """The plug-in ``target-nll``: negative log-likelihood of the target given the prompt, in all, per token, per byte.

    Of several right targets, the most likely one counts. ``delimiter`` stands between a prompt and its target; a chat
    has none. Tokens are the model's own, so that models of different tokenizers compare by byte (of UTF-8, without the
    delimiter).
    """

    quantities = (
        Quantity(
            "nats",
            Direction.LOWER,
            "nats",
            0.0,
            unbiased_in_n=True,
            title="NLL of the target",
            title_zh="目标的负对数似然",
        ),
        Quantity(
            "nats_per_token",
            Direction.LOWER,
            "nats",
            0.0,
            unbiased_in_n=True,
            title="NLL per token",
            title_zh="每词元负对数似然",
        ),
        Quantity(
            "nats_per_byte",
            Direction.LOWER,
            "nats",
            0.0,
            unbiased_in_n=True,
            title="NLL per byte",
            title_zh="每字节负对数似然",
        ),
    )

    def __init__(self, device: torch.device, *, delimiter: str = " ") -> None:
        self._delimiter = delimiter
        facts = {"delimiter": delimiter, "targets": "best"}
        self.info = ScorerInfo(
            "target-nll", frozenset({"text"}), self.quantities, frozenset({"prompt", "target"}), facts=facts
        )

    def candidates(self, items: ItemBatch) -> tuple[tuple[str, ...], ...]:
        """The targets of each item that are not empty, after the delimiter."""
        delimiters = [self._delimiter if isinstance(prompt, str) else "" for prompt in items.prompts]
        return tuple(
            tuple(delimiter + target for target in targets)
            for delimiter, targets in zip(delimiters, _targets(items), strict=True)
        )

    def score_likelihoods(self, likelihoods: Sequence[CandidateLikelihoods], items: ItemBatch) -> Scored:
        """One row per item; an item without a target has no value."""
        values = {
            quantity.name: torch.full((len(items),), torch.nan, dtype=torch.float64) for quantity in self.quantities
        }
        reasons = {}
        for row, (found, targets) in enumerate(zip(likelihoods, _targets(items), strict=True)):
            if not targets:
                reasons[row] = "the item has no target"
                continue
            best = int(found.nats.argmin())
            nats = max(0.0, float(found.nats[best]))  # rounding may leave -1e-6
            values["nats"][row] = nats
            values["nats_per_byte"][row] = nats / len(targets[best].encode())
            if found.tokens[best]:
                values["nats_per_token"][row] = nats / int(found.tokens[best])
        return Scored(values, reasons)


def _targets(items: ItemBatch) -> list[tuple[str, ...]]:
    assert isinstance(items.targets, tuple)
    return [tuple(filter(None, targets)) for targets in items.targets]
