"""Whether a text equals a right one."""

from __future__ import annotations

from evalsvc.builtin.scorers.normalization import Form, Normalization
from evalsvc.builtin.scorers.rows import score_texts
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients("normalize", "ignore_case", "ignore_punctuation")
@versioned("1")
class ExactMatch:
    """The plug-in ``exact-match``: 1 if the text equals one of the targets after normalization, else 0.

    Options as in :class:`~evalsvc.builtin.scorers.normalization.Normalization`. An empty text is right if a target is
    empty after normalization.
    """

    quantities = (
        Quantity("exact_match", Direction.HIGHER, "share", 0.0, 1.0, title="Exact match", title_zh="精确匹配"),
    )

    def __init__(
        self,
        device: torch.device,
        *,
        normalize: Form = "none",
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
    ) -> None:
        self._normalized = Normalization.of("exact-match", normalize, ignore_case, ignore_punctuation)
        self.info = ScorerInfo(
            "exact-match",
            frozenset({"text"}),
            self.quantities,
            frozenset({"target"}),
            facts=self._normalized.facts,
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """1 or 0 for each text."""
        return score_texts(self.info, samples, items, self._judge)

    def _judge(self, text: str, targets: tuple[str, ...]) -> list[float]:
        return [float(self._normalized(text) in map(self._normalized, targets))]
