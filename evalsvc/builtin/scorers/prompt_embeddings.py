"""Embeddings of the prompts of a batch of items, each distinct prompt once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from evalsvc.builtin.scorers.rows import NotApplicable
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import EmbedsTexts
from evalsvc.plugins.items import Prompt, messages_of

PLACE = "{prompt}"
"""Place of the prompt in a template."""


class PromptEmbeddings:
    """The embeddings by row; ``template`` is a text around each prompt, which stands for ``{prompt}``."""

    def __init__(self, extractor: EmbedsTexts, prompts: Sequence[Prompt], template: str = PLACE) -> None:
        self._prompts = [" ".join(said["content"] for said in messages_of(each)) for each in prompts]
        self._places = {prompt: place for place, prompt in enumerate(dict.fromkeys(self._prompts))}
        if self._places:
            texts = [template.replace(PLACE, prompt) for prompt in self._places]
            self._embedded = validation.embed_texts(extractor, texts)

    def __getitem__(self, row: int) -> Float32[np.ndarray, "1 d"]:
        """The embedding of the prompt of a row.

        Raises:
            NotApplicable: the item has no prompt.
        """
        if not self._prompts or not self._prompts[row]:
            raise NotApplicable("the item has no prompt")
        place = self._places[self._prompts[row]]
        embedding: Float32[np.ndarray, "1 d"] = self._embedded[place : place + 1]
        return embedding
