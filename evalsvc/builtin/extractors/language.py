"""Likelihoods of texts under a fixed language model: perplexity of documents, fluency of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from evalsvc.builtin.language_models.model import Dtype, LanguageModel
from evalsvc.builtin.language_models.scorer import TokenScorer
from evalsvc.core.errors import InputError
from evalsvc.inputs.text_counts import count_bytes, count_words
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.samples import Samples, Texts

WHO = "extractor 'likelihood'"
OUTPUTS = ("nll", "tokens", "words", "bytes")


class LikelihoodExtractor:
    """Negative log-likelihoods of documents under the language model in ``model_dir`` (a folder, hub id or .gguf).

    ``window`` is the maximum number of tokens that the model sees at once (``None``: its context length), ``context``
    the minimum that it keeps in every window after the first: windows move by ``window - context + 1``. ``prefix``
    (``bos``, ``eos``, ``none``, or a token) precedes each document; it is seen, but not scored.

    Raises:
        InputError: the model or its tokenizer does not support the options.
    """

    def __init__(
        self,
        model_dir: str,
        window: int | None = None,
        context: int = 1,
        prefix: str = "bos",
        dtype: Dtype = "float32",
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        model = LanguageModel.open(str(model_dir), torch.device(device), dtype, WHO)
        self._scorer = TokenScorer(model, window, context, prefix, WHO)
        facts = ", ".join(f"{name} {value}" for name, value in self._scorer.facts.items())
        self.info = ExtractorInfo(
            "likelihood",
            "text",
            dict.fromkeys(OUTPUTS, 1),
            model.digest,
            f"{facts}, words at whitespace, bytes of UTF-8",
            backend=f"torch-{torch.device(device).type}",
        )

    def extract(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """One value per document, (n,): ``nll`` in nats (float64), scored ``tokens``, ``words``, ``bytes`` (int64)."""
        scored = self._scorer.score(texts)
        return {"nll": scored.nats, "tokens": scored.tokens, "words": count_words(texts), "bytes": count_bytes(texts)}


class Likelihoods:
    """The plug-in ``likelihood``: the same as one column per value, for samples of an evaluation."""

    def __init__(self, device: torch.device, *, model: str, **options: Any) -> None:
        self._extractor = LikelihoodExtractor(model, **options, device=device)
        self.info = self._extractor.info

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n 1"]]:
        """Four columns; float32 is sufficient for sums of nats."""
        if not isinstance(samples, Texts):
            raise InputError(f"{WHO} requires text samples")
        return {
            name: torch.from_numpy(a).float()[:, None] for name, a in self._extractor.extract(samples.items).items()
        }
