"""Whether a sound has the voice of another sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from evalsvc.builtin.scorers.inner_extractor import InnerExtractor
from evalsvc.builtin.scorers.rows import Failed, NotApplicable, checked
from evalsvc.builtin.scorers.sounds import Wave, score_sounds, wave_of
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import Plugins, open_to_clients, versioned
from evalsvc.plugins.samples import Audio, Samples
from evalsvc.plugins.scorers import ScorerInfo

To = Literal["source", "target"]


@open_to_clients("to", "extractor", "output")
@versioned("1")
class SpeakerSimilarity:
    """The plug-in ``speaker-similarity``: cosine of the embeddings of a sound and of the ``source`` of its item.

    ``to`` is ``source`` or ``target``. ``extractor`` embeds speakers (by default ``resemblyzer``, Wan et al. 2018,
    whose embeddings are not negative: 0 to 1), with its ``output`` and ``options``. Silence has no speaker.
    """

    quantities = (
        Quantity(
            "speaker_similarity",
            Direction.HIGHER,
            "cosine",
            -1.0,
            1.0,
            title="Speaker similarity",
            title_zh="说话人相似度",
        ),
    )

    def __init__(
        self,
        device: torch.device,
        *,
        to: To = "source",
        extractor: str = "resemblyzer",
        output: str = "embedding",
        options: Mapping[str, Any] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._to: To = checked("speaker-similarity", "to", to, To)
        self._inner = InnerExtractor.build("speaker-similarity", extractor, output, options, device, plugins)
        info = self._inner.extractor.info
        if "audio" not in info.takes:
            raise InputError(
                f"scorer 'speaker-similarity': extractor {extractor!r} does not take sounds: use resemblyzer"
            )
        self.info = ScorerInfo(
            "speaker-similarity",
            frozenset({"audio"}),
            self.quantities,
            frozenset({self._to}),
            info.weights,
            self._inner.facts,
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The similarity of each sound."""
        others = items.sources if self._to == "source" else items.targets
        if not isinstance(others, Audio):
            raise InputError(
                f"scorer 'speaker-similarity' compares sounds: set '{self._to}' of the items to a column of sound files"
            )
        known: dict[bytes, Float32[np.ndarray, " d"]] = {}

        def judge(row: int, wave: Wave) -> Sequence[float]:
            assert isinstance(samples, Audio)
            try:
                other = wave_of("speaker-similarity", others, row)
            except Failed as reason:
                raise NotApplicable(f"the {self._to} of the item: {reason}") from None
            if not other.any():
                raise NotApplicable(f"the {self._to} of the item is silent")
            if not wave.any():
                raise Failed("the sound is silent")
            voice = other.tobytes()
            if voice not in known:  # many items have one voice
                known[voice] = self._embed(other, others.rate)
            return [_cosine(self._embed(wave, samples.rate), known[voice])]

        return score_sounds(self.info, samples, judge)

    def _embed(self, wave: Wave, rate: int) -> Float32[np.ndarray, " d"]:
        embedding: Float32[np.ndarray, " d"] = self._inner.rows(Audio((torch.from_numpy(wave),), rate))[0]
        return embedding


def _cosine(one: Float32[np.ndarray, " d"], other: Float32[np.ndarray, " d"]) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0:
        raise NotApplicable("an embedding is zero, which has no direction")
    return float(a @ b) / lengths
