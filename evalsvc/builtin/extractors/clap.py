"""CLAP embeddings of sounds and their descriptions, for a Frechet audio distance on music and effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from evalsvc.builtin.extractors.audio import waves_at
from evalsvc.builtin.extractors.batches import Pieces
from evalsvc.builtin.pretrained import offline, open_pretrained, open_tokenizer
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Samples


@open_to_clients()
class Clap:
    """The plug-in ``clap``: output ``embedding``, projected and normalized. ``model`` is a folder or a hub id.

    Mel spectrograms are computed by the model's own feature extractor. Longer clips are cut to the first ten seconds:
    its default, a random crop, would make scores random.
    """

    def __init__(self, device: torch.device, *, model: str = "laion/clap-htsat-unfused") -> None:
        loaded, digest, folder = open_pretrained("ClapModel", model, "extractor 'clap'", "audio")
        from transformers import ClapFeatureExtractor

        with offline():
            self._features = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self._model, self._folder, self._device = loaded.to(device), folder, device
        self._rate = int(self._features.sampling_rate)
        self._longest = int(self._features.nb_max_samples)
        self.info = ExtractorInfo(
            "clap",
            "audio",
            {"embedding": int(loaded.config.projection_dim)},
            digest,
            f"{self._rate} Hz by soxr HQ, the first {self._longest / self._rate:g} s, short ones repeated, "
            f"{_bands(self._features)}, L2, float32",
            backend=f"torch-{device.type}",
        )
        self._pieces = Pieces(16, "clap")

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """One embedding per clip of any length."""
        waves = [wave[: self._longest].numpy() for wave in waves_at(samples, self._rate, "clap")]
        mels = self._features(
            waves, sampling_rate=self._rate, truncation="rand_trunc", padding="repeatpad", return_tensors="pt"
        )["input_features"]
        (embedding,) = self._pieces.run(self._embed, staged(mels, self._device))
        return {"embedding": embedding}

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Normalized embeddings of prompts; longer ones are truncated at the model's limit."""
        tokenizer = open_tokenizer(self._folder, "the prompts of extractor 'clap'")
        config = self._model.config.text_config
        limit = int(config.max_position_embeddings - config.pad_token_id - 1)  # positions begin after the padding's
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        pooled = self._model.text_model(**tokens.to(self._device)).pooler_output
        return F.normalize(self._model.text_projection(pooled), dim=-1)

    @torch.inference_mode()
    def _embed(self, mels: Tensor) -> tuple[Tensor, ...]:
        pooled = self._model.audio_model(input_features=mels, is_longer=None).pooler_output
        return (F.normalize(self._model.audio_projection(pooled), dim=-1),)


def _bands(features: Any) -> str:
    return (
        f"{features.feature_size} mel bands of {features.frequency_min:g} to {features.frequency_max:g} Hz "
        f"(window {features.fft_window_size}, hop {features.hop_length})"
    )
