"""Whether a text contains a right one."""

from __future__ import annotations

from evalsvc.builtin.scorers.normalization import Form, Normalization
from evalsvc.builtin.scorers.rows import NotApplicable, score_texts
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients("normalize", "ignore_case", "ignore_punctuation")
@versioned("1")
class Contains:
    """The plug-in ``contains``: 1 if one of the targets occurs in the text after normalization, else 0.

    Options as in :class:`~evalsvc.builtin.scorers.normalization.Normalization`. Every text contains an empty target:
    items of which all targets are empty after normalization have no value.
    """

    quantities = (Quantity("contains", Direction.HIGHER, "share", 0.0, 1.0, title="Contains", title_zh="包含"),)

    def __init__(
        self,
        device: torch.device,
        *,
        normalize: Form = "none",
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
    ) -> None:
        self._normalized = Normalization.of("contains", normalize, ignore_case, ignore_punctuation)
        self.info = ScorerInfo(
            "contains", frozenset({"text"}), self.quantities, frozenset({"target"}), facts=self._normalized.facts
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """1 or 0 for each text."""
        return score_texts(self.info, samples, items, self._judge)

    def _judge(self, text: str, targets: tuple[str, ...]) -> list[float]:
        sought = [target for target in map(self._normalized, targets) if target]
        if not sought:
            raise NotApplicable("the target is empty, and every text contains it")
        normalized = self._normalized(text)
        return [float(any(target in normalized for target in sought))]
