"""How well a sample matches its prompt: the CLIP score of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsvc.builtin.scorers.inner_extractor import InnerExtractor
from evalsvc.builtin.scorers.rows import NotApplicable, score_rows
from evalsvc.core.errors import InputError
from evalsvc.metrics.clip_score import clip_score
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import QUANTITIES
from evalsvc.metrics.score import MetricError
from evalsvc.plugins.interfaces import EmbedsTexts
from evalsvc.plugins.items import ItemBatch, Scored, messages_of
from evalsvc.plugins.registry import Plugins, open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients("extractor", "output")
@versioned("1")
class ClipScore:
    """The plug-in ``clip-score``: ``100 max(cos(sample, its prompt), 0)`` in the space of an extractor.

    ``extractor`` is one that embeds texts too (``clip``, ``clap``), with ``options``. The mean of the values is the
    metric ``clip_score`` of the same arrays (Hessel et al. 2021, with 100 in place of 2.5).
    """

    quantities = (QUANTITIES[clip_score.__name__],)

    def __init__(
        self,
        device: torch.device,
        *,
        extractor: str = "clip",
        output: str = "embedding",
        options: Mapping[str, Any] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._inner = InnerExtractor.build("clip-score", extractor, output, options, device, plugins)
        inner = self._inner.extractor
        if not isinstance(inner, EmbedsTexts):
            raise InputError(f"scorer 'clip-score': extractor {extractor!r} does not embed texts: use 'clip'")
        self._texts = inner
        self.info = ScorerInfo(
            "clip-score",
            inner.info.takes,
            self.quantities,
            frozenset({"prompt"}),
            inner.info.weights,
            self._inner.facts,
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The CLIP score of each sample."""
        prompts = [" ".join(said["content"] for said in messages_of(each)) for each in items.prompts]
        distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        embedded = self._texts.embed_texts(list(distinct)).float().cpu().numpy() if distinct else None
        rows = self._inner.rows(samples)

        def judge(row: int) -> Sequence[float]:
            if embedded is None or not prompts[row]:
                raise NotApplicable("the item has no prompt")
            at = distinct[prompts[row]]
            try:
                return [clip_score(rows[row : row + 1], embedded[at : at + 1]).value]
            except MetricError as error:
                raise NotApplicable(str(error)) from None

        return score_rows(self.info, len(samples), judge)
