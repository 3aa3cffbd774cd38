"""How well a sound matches its prompt: the CLAP score of one sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evalsvc.builtin.scorers.clip_score import ClipScore
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import Plugins, open_to_clients, versioned
from evalsvc.plugins.samples import Samples


@open_to_clients()
@versioned("1")
class ClapScore:
    """The plug-in ``clap-score``: ``100 max(cos(sound, its prompt), 0)`` of CLAP, 0 to 100, higher is better.

    It is ``clip-score`` with the extractor ``clap``, whose options are ``options`` (Huang et al. 2023).
    """

    quantities = (
        Quantity("clap_score", Direction.HIGHER, "100 cosine", 0.0, 100.0, title="CLAP score", title_zh="CLAP 分数"),
    )

    def __init__(
        self, device: torch.device, *, options: Mapping[str, Any] | None = None, plugins: Plugins | None = None
    ) -> None:
        self._score = ClipScore(device, extractor="clap", options=options, plugins=plugins)
        self.info = replace(self._score.info, name="clap-score", quantities=self.quantities)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The CLAP score of each sound."""
        found = self._score.score(samples, items)
        (values,) = found.values.values()
        return replace(found, values={self.quantities[0].name: values})
