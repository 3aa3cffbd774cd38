"""The random numbers of :mod:`evalsvc.plugins.rng` by one kernel on CUDA, in place of some 150 operators.

torch compiles it by NVRTC, which comes with its wheels: neither a compiler nor Triton is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float, Int64

from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

Law = Literal["uniform", "normal"]

_WORDS = """
template <typename T> T philox_LAW(T seed, T stream, T pair) {
    unsigned int k0 = seed, k1 = seed >> 32;
    unsigned int c0 = pair >> 1, c1 = pair >> 33, c2 = stream, c3 = stream >> 32;
    for (int round = 0; round < 10; ++round) {
        unsigned long long p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        c0 = (unsigned int)(p1 >> 32) ^ c1 ^ k0;
        c2 = (unsigned int)(p0 >> 32) ^ c3 ^ k1;
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    unsigned int a = pair & 1 ? c2 : c0, b = pair & 1 ? c3 : c1;
    union { float two[2]; T both; } out;
"""
_NUMBERS: dict[Law, str] = {
    "uniform": """
    out.two[0] = ((a >> 9) + 0.5) / 8388608.0;
    out.two[1] = ((b >> 9) + 0.5) / 8388608.0;
""",
    "normal": """
    double radius = sqrt(-2.0 * log((a + 0.5) / 4294967296.0)), angle = 6.283185307179586 * (b / 4294967296.0);
    out.two[0] = radius * cos(angle);
    out.two[1] = radius * sin(angle);
""",
}


def source(law: Law) -> str:
    """The function of one element in CUDA C++: a pair of float32 numbers, as the halves of an integer."""
    return _WORDS.replace("LAW", law) + _NUMBERS[law] + "    return out.both;\n}\n"


def kernel(law: Law) -> Callable[[Tensor, Tensor, int], Tensor]:
    """A function of seeds, streams and an even count; it raises where torch cannot build the kernel."""
    elementwise = torch.cuda.jiterator._create_jit_fn(source(law))

    def draw(seeds: Int64[Tensor, " n"], streams: Int64[Tensor, " s"], count: int) -> Float[Tensor, "s n count"]:
        numbers = torch.arange(count // 2, device=seeds.device)
        both: Tensor = elementwise(seeds[:, None], streams[:, None, None], numbers)
        return both.contiguous().view(torch.float32)

    return draw
