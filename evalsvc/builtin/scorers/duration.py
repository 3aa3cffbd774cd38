"""Length of a sound."""

from __future__ import annotations

from evalsvc.builtin.scorers.sounds import score_sounds
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Audio, Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients()
@versioned("1")
class Duration:
    """The plug-in ``duration``: seconds of a sound."""

    quantities = (Quantity("duration", Direction.NEUTRAL, "s", 0.0, title="Duration", title_zh="时长"),)

    def __init__(self, device: torch.device) -> None:
        self.info = ScorerInfo("duration", frozenset({"audio"}), self.quantities)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The seconds of each sound."""
        rate = samples.rate if isinstance(samples, Audio) else 1
        return score_sounds(self.info, samples, lambda row, wave: [len(wave) / rate])
