"""The 2015 Inception v3 on which FID is defined, with the tensor names of its PyTorch port.

It differs from torchvision's network: average pools exclude their padding, the last block uses max pooling, batch norm
has an epsilon of 1e-3, and there are 1008 classes and no auxiliary head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WIDTHS = {"64": 64, "192": 192, "sfid": 2023, "768": 768, "pool3": 2048, "logits": 1008}
"""Outputs and their dimensions, in the order of the network."""

_1x1, _3x3, _5x5, _1x3, _3x1, _1x7, _7x1 = (1, 1), (3, 3), (5, 5), (1, 3), (3, 1), (1, 7), (7, 1)


class HalvedConv2d(nn.Conv2d):
    """Sums each half of its input channels separately: shorter float32 sums are more accurate in the last blocks."""

    def forward(self, x: Tensor) -> Tensor:
        """The result of a full convolution."""
        (x1, x2), (w1, w2) = x.chunk(2, 1), self.weight.chunk(2, 1)
        whole: Tensor = self._conv_forward(x1, w1, self.bias) + self._conv_forward(x2, w2, None)
        return whole


class Conv(nn.Module):
    """Convolution without bias, batch norm with fixed statistics, ReLU."""

    def __init__(
        self,
        width: int,
        to: int,
        kernel: tuple[int, int],
        stride: int = 1,
        padded: bool = True,
        kind: type[nn.Conv2d] = nn.Conv2d,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded and stride == 1 else 0
        self.conv = kind(width, to, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(to, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, batch norm, ReLU."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class PooledConv(Conv):
    """A 1x1 convolution of 3 x 3 averages. Both are linear, so the convolution comes first, to average fewer channels.

    The shift of batch norm is unaffected, because averages exclude padding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolution and batch norm, average, ReLU."""
        return F.relu(_average(self.bn(self.conv(x))), inplace=True)


class MaximumConv(Conv):
    """A 1x1 convolution of 3 x 3 maxima."""

    def forward(self, x: Tensor) -> Tensor:
        """Maximum, convolution, batch norm, ReLU."""
        return super().forward(F.max_pool2d(x, 3, 1, 1))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2)


class BlockA(nn.Module):
    """35 x 35: 1x1, 5x5, double 3x3 and pooled branches."""

    def __init__(self, width: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(width, 64, _1x1)
        self.branch5x5_1 = Conv(width, 48, _1x1)
        self.branch5x5_2 = Conv(48, 64, _5x5)
        self.branch3x3dbl_1 = Conv(width, 64, _1x1)
        self.branch3x3dbl_2 = Conv(64, 96, _3x3)
        self.branch3x3dbl_3 = Conv(96, 96, _3x3)
        self.branch_pool = PooledConv(width, pooled, _1x1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, 35, 35) to (n, 224 + pooled, 35, 35)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(x)], 1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = Conv(288, 384, _3x3, stride=2)
        self.branch3x3dbl_1 = Conv(288, 64, _1x1)
        self.branch3x3dbl_2 = Conv(64, 96, _3x3)
        self.branch3x3dbl_3 = Conv(96, 96, _3x3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 288, 35, 35) to (n, 768, 17, 17)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, _halve(x)], 1)


class BlockC(nn.Module):
    """17 x 17: 1x1, 7x7, double 7x7 and pooled branches, the 7x7 in strips."""

    def __init__(self, middle: int, kind: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        conv = partial(Conv, kind=kind)
        self.branch1x1 = conv(768, 192, _1x1)
        self.branch7x7_1 = conv(768, middle, _1x1)
        self.branch7x7_2 = conv(middle, middle, _1x7)
        self.branch7x7_3 = conv(middle, 192, _7x1)
        self.branch7x7dbl_1 = conv(768, middle, _1x1)
        self.branch7x7dbl_2 = conv(middle, middle, _7x1)
        self.branch7x7dbl_3 = conv(middle, middle, _1x7)
        self.branch7x7dbl_4 = conv(middle, middle, _7x1)
        self.branch7x7dbl_5 = conv(middle, 192, _1x7)
        self.branch_pool = PooledConv(768, 192, _1x1, kind=kind)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 768, 17, 17) to the same."""
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(x)], 1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(768, 192, _1x1)
        self.branch3x3_2 = Conv(192, 320, _3x3, stride=2)
        self.branch7x7x3_1 = Conv(768, 192, _1x1)
        self.branch7x7x3_2 = Conv(192, 192, _1x7)
        self.branch7x7x3_3 = Conv(192, 192, _7x1)
        self.branch7x7x3_4 = Conv(192, 192, _3x3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 768, 17, 17) to (n, 1280, 8, 8)."""
        long = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), long, _halve(x)], 1)


class BlockE(nn.Module):
    """8 x 8: 1x1, split 3x3, double split 3x3 and pooled branches."""

    def __init__(self, width: int, pooled: type[Conv]) -> None:
        super().__init__()
        conv = partial(Conv, kind=HalvedConv2d)
        self.branch1x1 = conv(width, 320, _1x1)
        self.branch3x3_1 = conv(width, 384, _1x1)
        self.branch3x3_2a = conv(384, 384, _1x3)
        self.branch3x3_2b = conv(384, 384, _3x1)
        self.branch3x3dbl_1 = conv(width, 448, _1x1)
        self.branch3x3dbl_2 = conv(448, 384, _3x3)
        self.branch3x3dbl_3a = conv(384, 384, _1x3)
        self.branch3x3dbl_3b = conv(384, 384, _3x1)
        self.branch_pool = pooled(width, 192, _1x1, kind=HalvedConv2d)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, 8, 8) to (n, 2048, 8, 8)."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(single),
                self.branch3x3_2b(single),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(x),
            ],
            1,
        )


class Inception(nn.Module):
    """Returns the requested outputs as a tuple, and computes no layers after the last of them."""

    def __init__(self, outputs: Sequence[str]) -> None:
        super().__init__()
        self.outputs = tuple(outputs)
        self.Conv2d_1a_3x3 = Conv(3, 32, _3x3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, _3x3, padded=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, _3x3)
        self.Conv2d_3b_1x1 = Conv(64, 80, _1x1)
        self.Conv2d_4a_3x3 = Conv(80, 192, _3x3, padded=False)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB()
        self.Mixed_6b = BlockC(128)
        self.Mixed_6c = BlockC(160)
        self.Mixed_6d = BlockC(160)
        # Late sums are the longest, and pool3 averages their errors over 64 positions only.
        self.Mixed_6e = BlockC(192, HalvedConv2d)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, PooledConv)
        # The 2015 graph uses max pooling in its last block: an error that is part of every published FID.
        self.Mixed_7c = BlockE(2048, MaximumConv)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Float[Tensor, "n 3 299 299"]) -> tuple[Float[Tensor, "n d"], ...]:
        """The requested outputs of preprocessed images, in the order of the request."""
        outputs = self._reach(x, max(list(WIDTHS).index(output) for output in self.outputs))
        return tuple(outputs[output] for output in self.outputs)

    def _reach(self, x: Tensor, last: int) -> dict[str, Tensor]:
        """All outputs up to number ``last``."""
        outputs = {}
        x = _halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        outputs["64"] = _pool(x)
        if last == 0:
            return outputs
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        outputs["192"] = _pool(x)
        if last == 1:
            return outputs
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6c(self.Mixed_6b(x))
        if "sfid" in self.outputs:
            # sFID uses seven channels of the next block's first branch, in TensorFlow's order of axes.
            outputs["sfid"] = self.Mixed_6d.branch1x1(x)[:, :7].permute(0, 2, 3, 1).flatten(1)
        if last == 2:
            return outputs
        x = self.Mixed_6e(self.Mixed_6d(x))
        outputs["768"] = _pool(x)
        if last == 3:
            return outputs
        outputs["pool3"] = _pool(self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))))
        if "logits" in self.outputs:
            # The inception score of the literature omits the bias.
            outputs["logits"] = F.linear(outputs["pool3"], self.fc.weight)
        return outputs


def fold(network: nn.Module) -> nn.Module:
    """Merge every batch norm into its convolution, in double precision; modifies ``network``."""
    for module in network.modules():
        if isinstance(module, Conv) and isinstance(bn := module.bn, nn.BatchNorm2d):
            assert bn.running_mean is not None
            assert bn.running_var is not None
            scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
            weight = module.conv.weight.double() * scale.view(-1, 1, 1, 1)
            module.conv.weight = nn.Parameter(weight.to(module.conv.weight.dtype), requires_grad=False)
            bias = bn.bias.double() - bn.running_mean.double() * scale
            module.conv.bias = nn.Parameter(bias.to(bn.bias.dtype), requires_grad=False)
            module.bn = nn.Identity()
    return network


def _pool(x: Tensor) -> Tensor:
    return x.mean((2, 3))
