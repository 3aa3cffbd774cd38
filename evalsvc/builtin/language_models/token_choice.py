"""The choice of a text's next token from its logits, by its own random number."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from evalsvc.inputs.decoding_options import Decoding

UNIT = 2.0**52
"""Probabilities in units of 2^-52 are integers that float64 represents exactly, as are their sums."""


def choose(logits: Float[Tensor, "n v"], uniforms: Float64[Tensor, " n"], decoding: Decoding) -> Int64[Tensor, " n"]:
    """One token per row: the most likely at temperature 0, else by inversion of the cumulative distribution."""
    if decoding.temperature == 0:
        return logits.argmax(1)
    logits = logits / decoding.temperature
    if 0 < decoding.top_k < logits.shape[1]:
        least = logits.topk(decoding.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if decoding.top_p < 1:
        ranked, order = logits.sort(dim=1, descending=True, stable=logits.device.type != "cpu")
        chances = ranked.softmax(1)
        beyond = _running_sums(chances) - chances >= decoding.top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
    total = _running_sums(logits.double().softmax(1))
    chosen = torch.searchsorted(total, (uniforms * total[:, -1])[:, None], right=True).squeeze(1)
    return chosen.clamp(max=logits.shape[1] - 1)


def penalize(logits: Float[Tensor, "n v"], seen: Bool[Tensor, "n v"], penalty: float) -> Float[Tensor, "n v"]:
    """Repetition penalty (Keskar et al., 2019): tokens that occurred become less likely, for logits of either sign."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _running_sums(chances: Float[Tensor, "n v"]) -> Float[Tensor, "n v"]:
    """Sums of the first probabilities of each row.

    The CPU adds from left to right. An accelerator adds in an order of its own, which does not change sums of integers.
    """
    if chances.device.type == "cpu":
        return chances.cumsum(1)
    return ((chances.double() * UNIT).round().long().cumsum(1).double() / UNIT).to(chances.dtype)
