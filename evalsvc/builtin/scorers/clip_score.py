"""How well a sample matches its prompt: the CLIP score of one sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from evalsvc.builtin.scorers.frames import build_frame_extractor, videos_of
from evalsvc.builtin.scorers.inner_extractor import InnerExtractor
from evalsvc.builtin.scorers.prompt_embeddings import PromptEmbeddings
from evalsvc.builtin.scorers.rows import NotApplicable, checked, score_rows
from evalsvc.core.errors import InputError
from evalsvc.metrics.clip_score import clip_score
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import QUANTITIES
from evalsvc.metrics.score import MetricError
from evalsvc.plugins.interfaces import EmbedsTexts
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import Plugins, open_to_clients, versioned
from evalsvc.plugins.samples import Images, Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients("extractor", "output", "frames")
@versioned("1")
class ClipScore:
    """The plug-in ``clip-score``: ``100 max(cos(sample, its prompt), 0)`` in the space of an extractor.

    ``extractor`` is one that embeds texts too (``clip``, ``clap``), with ``options``. The mean of the values is the
    metric ``clip_score`` of the same arrays (Hessel et al. 2021, with 100 in place of 2.5). With ``frames`` the samples
    are videos, and the value of each is the mean over its frames (CLIPSIM, Wu et al. 2021).
    """

    quantities = (QUANTITIES[clip_score.__name__],)

    def __init__(
        self,
        device: torch.device,
        *,
        extractor: str = "clip",
        output: str = "embedding",
        options: Mapping[str, Any] | None = None,
        frames: bool = False,
        plugins: Plugins | None = None,
    ) -> None:
        self._frames = checked("clip-score", "frames", frames, bool)
        build = build_frame_extractor if frames else InnerExtractor.build
        self._inner = build("clip-score", extractor, output, options, device, plugins)
        inner = self._inner.extractor
        if not isinstance(inner, EmbedsTexts):
            raise InputError(f"scorer 'clip-score': extractor {extractor!r} does not embed texts: use 'clip'")
        self._texts = inner
        self.info = ScorerInfo(
            "clip-score",
            frozenset({"video"}) if frames else inner.info.takes,
            self.quantities,
            frozenset({"prompt"}),
            inner.info.weights,
            self._inner.facts,
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The CLIP score of each sample."""
        prompts = PromptEmbeddings(self._texts, items.prompts)
        embeddings = self._embeddings(samples)

        def judge(row: int) -> Sequence[float]:
            prompt = prompts[row]
            shown = embeddings(row)
            try:
                return [clip_score(shown, prompt.repeat(len(shown), 0)).value]
            except MetricError as error:
                raise NotApplicable(str(error)) from None

        return score_rows(self.info, len(samples), judge)

    def _embeddings(self, samples: Samples) -> Callable[[int], Float32[np.ndarray, "k d"]]:
        """Embeddings of the frames of a sample, or of the sample itself, by its row."""
        if self._frames:
            videos = videos_of("clip-score", samples)
            return lambda row: self._inner.rows(Images(videos[row]))
        rows = self._inner.rows(samples)
        return lambda row: rows[row : row + 1]
