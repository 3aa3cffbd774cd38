"""How much people are expected to prefer an image for its prompt, by a CLIP that was trained on their choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalsvc.builtin.scorers.prompt_embeddings import PLACE, PromptEmbeddings
from evalsvc.builtin.scorers.rows import checked, score_rows
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins import validation
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@dataclass(frozen=True)
class _Kind:
    """A kind of model: its quantity, its preprocessing, and whether the model's scale multiplies the cosine."""

    quantity: Quantity
    preprocess: Literal["clip", "pad"]
    scaled: bool


_KINDS: Mapping[str, _Kind] = {
    "pickscore": _Kind(
        Quantity("pickscore", Direction.HIGHER, "logit", title="PickScore", title_zh="PickScore 偏好分"), "clip", True
    ),
    "hpsv2": _Kind(
        Quantity("hpsv2", Direction.HIGHER, "cosine", -1.0, 1.0, title="HPS v2", title_zh="HPS v2 偏好分"), "pad", False
    ),
}


@open_to_clients("kind", "template")
@versioned("1")
class Preference:
    """The plug-in ``preference``: ``pickscore`` or ``hpsv2`` of an image and its prompt.

    PickScore (Kirstain et al. 2023) is the cosine of the embeddings times the model's ``exp(logit_scale)``; HPS v2 (Wu
    et al. 2023) is the cosine of an image that is resized with black borders instead of being cropped. ``model`` is a
    folder or a hub id of a CLIP of ``transformers``; HPS v2 is published for ``open_clip``, and has to be converted.
    ``template`` is a text around each prompt, which stands for ``{prompt}``.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        kind: str = "pickscore",
        model: str = "yuvalkirstain/PickScore_v1",
        template: str = PLACE,
    ) -> None:
        from evalsvc.builtin.extractors.clip import Clip

        chosen = _kind(kind)
        if PLACE not in checked("preference", "template", template, str):
            raise InputError(f"option template={template!r:.80} of scorer 'preference' lacks {PLACE}: add it")
        checked("preference", "model", model, str)
        self._clip, self._template = Clip(device, model=model, preprocess=chosen.preprocess), template
        self._scale = self._clip.scale if chosen.scaled else 1.0
        self.info = ScorerInfo(
            "preference",
            frozenset({"image"}),
            (chosen.quantity,),
            frozenset({"prompt"}),
            self._clip.info.weights,
            {"kind": kind, "template": template, "extractor": self._clip.info.protocol},
        )

    @staticmethod
    def quantities(kind: str = "pickscore", **options: Any) -> tuple[Quantity, ...]:
        """The quantity of this kind."""
        return (_kind(kind).quantity,)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The preference for each image."""
        prompts = PromptEmbeddings(self._clip, items.prompts, self._template)
        embedded = validation.extract(self._clip, samples)["embedding"]

        def judge(row: int) -> Sequence[float]:
            return [self._scale * float(embedded[row].astype("float64") @ prompts[row][0])]

        return score_rows(self.info, len(samples), judge)


def _kind(name: object) -> _Kind:
    if not isinstance(name, str) or name not in _KINDS:
        raise InputError(f"scorer 'preference' has no kind {name!r:.80}; available are {', '.join(_KINDS)}")
    return _KINDS[name]
