"""Attention of float32 models on CUDA whose query heads share keys and values.

PyTorch's only fused kernel for float32 needs as many heads of keys as of queries. Where ``transformers`` asks for
shared heads, PyTorch falls back to matrices of all scores, so keys and values are repeated here instead.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

NAME = "sdpa_with_repeated_heads"


def use_fused_kernel(network: Any, device: torch.device) -> None:
    """Have a network of ``transformers`` use the fused kernel where sharing would prevent it."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    shares = getattr(config, "num_key_value_heads", heads) != heads
    if device.type != "cuda" or not shares or network.dtype != torch.float32 or config._attn_implementation != "sdpa":
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """The function ``sdpa`` of ``transformers`` with as many heads of keys and values as of queries.

    A single query of each row is rather made into the queries of its group of heads, without copies of the cache.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, length, width = query.shape
    groups = heads // key.shape[1]
    unshared = SimpleNamespace(is_causal=getattr(module, "is_causal", True))
    alike = attention_mask is None or attention_mask.shape[1] == 1
    if length == 1 and alike and options.get("position_bias") is None:
        packed = query.reshape(rows, key.shape[1], groups, width)
        options["is_causal"] = False
        attended, _ = sdpa_attention_forward(unshared, packed, key, value, attention_mask, **options)
        return attended.transpose(1, 2).reshape(rows, 1, heads, -1), None
    repeated = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    result: tuple[Tensor, None] = sdpa_attention_forward(unshared, query, *repeated, attention_mask, **options)
    return result
