"""How many tokens a language model reads at once, by the free memory of its device; memory that runs out halves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from evalsvc.builtin.language_models.model import DTYPES, LanguageModel
from evalsvc.core.batching import free_memory, out_of_memory
from evalsvc.core.errors import ModelError

T = TypeVar("T")
BUDGET = {"cpu": 2048}
BUDGET_ON_GPU = 16_384
"""Tokens in a batch, including padding, where free memory is not known."""
LEAST, MOST = 2048, 65_536
"""Tokens in a batch on a CUDA device."""
SHARE = 0.5
"""Of free memory that a batch may take; the rest is for other processes, and for memory in pieces."""
FLOAT = 4


class TokenBudget:
    """The number of ``tokens`` in a batch.

    It is a power of two, so that the same machine has the same batches, and the same rounding, while its free memory
    varies a little. ``window`` is the largest number of tokens in a row; ``whole_logits`` says that the logits of all
    tokens are made at once.
    """

    def __init__(self, model: LanguageModel, window: int, *, whole_logits: bool) -> None:
        self._device = model.device
        self.tokens = BUDGET.get(model.device.type, LEAST if whole_logits else BUDGET_ON_GPU)
        if model.device.type == "cuda":
            free = SHARE * free_memory(model.device) / bytes_per_token(model, window, whole_logits=whole_logits)
            self.tokens = 2 ** (int(min(max(free, LEAST), MOST)).bit_length() - 1)

    def attempt(self, work: Callable[[], T], rows: int, length: int, alone: str) -> T | None:
        """The result of a batch of rows of this length; ``None`` if memory ran out: the next one is half as large.

        Raises:
            ModelError: it was a batch of one row, of which ``alone`` says what it was and the way out.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if rows == 1:
                raise ModelError(alone) from error
            self.tokens = min(self.tokens, rows * length) // 2
        # Outside of the handler: the frames of the error keep the allocated memory alive.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def bytes_per_token(model: LanguageModel, window: int, *, whole_logits: bool) -> int:
    """An upper estimate of the memory that a network takes for each token that it reads, without a cache.

    Of the layer that is computed, about eight hidden states are alive at once, and four of its feed-forward part;
    of a state-space layer, four times its states in float32; of attention without a kernel of its own, four matrices.
    """
    config: Any = model.network.config.get_text_config()

    def asked(*names: str) -> int:
        value = next((value for name in names if (value := getattr(config, name, None))), 0)
        return int(max(value) if isinstance(value, list | tuple) else value)  # of all layers

    vocabulary, width = model.network.get_input_embeddings().weight.shape
    hidden, size = asked("hidden_size") or width, DTYPES[model.dtype].itemsize
    wide = asked("intermediate_size", "ffn_dim", "n_inner", "d_ff") or 4 * hidden
    needed = size * (8 * hidden + 4 * wide * (asked("num_experts_per_tok") or 1))
    needed += FLOAT * 4 * wide * asked("state_size")
    if getattr(config, "_attn_implementation", "") == "eager":
        needed += FLOAT * 4 * asked("num_attention_heads") * window
    if whole_logits:
        needed += (2 * size + 3 * FLOAT) * vocabulary
    return needed
