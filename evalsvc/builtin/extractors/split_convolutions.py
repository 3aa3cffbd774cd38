"""Convolutions with the accuracy of float32 on the tensor cores of CUDA devices, which compute in TensorFloat-32.

Each operand is the sum of a number with TF32's 10 bits of mantissa and of a rest; of their four products the one of
both rests is below the rounding of float32. The three others are three convolutions, which are added in float32.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
BITS, HALF = ~0x1FFF, 0x1000
"""The bits of a float32 number that TF32 keeps, and half of the last of them."""


def split(network: Module) -> Module:
    """Replace the arithmetic of all convolutions; modifies ``network``."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module._conv_forward = _SplitConvolution(module)  # type: ignore[assignment]
    return network


class _SplitConvolution:
    """``nn.Conv2d._conv_forward`` of one module."""

    def __init__(self, module: nn.Conv2d) -> None:
        self._module = module

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "n c h w"]:
        (x_high, x_low), (high, low) = _parts(x), _parts(weight)
        small = self._convolved(x_low, high, None) + self._convolved(x_high, low, None)
        return small.add_(self._convolved(x_high, high, bias))

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = nn.Conv2d._conv_forward(self._module, x, weight, bias)
        return result


def _parts(x: Float[Tensor, ...]) -> tuple[Float[Tensor, ...], Float[Tensor, ...]]:
    """The nearest number that TF32 has, and the rest, which is exact."""
    high = ((x.view(torch.int32) + HALF) & BITS).view(torch.float32)
    return high, x - high
