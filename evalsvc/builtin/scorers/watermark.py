"""Whether the pixels of an image carry a known message: the watermark of Stable Diffusion's scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from pydantic import Field
from scipy.stats import binom

from evalsvc.builtin.scorers.rows import NotApplicable, checked, score_rows
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, MixedImages, Samples
from evalsvc.plugins.scorers import ScorerInfo

LEAST_PIXELS = 256 * 256
"""Smaller images are never marked."""
SCALE = 36
"""Distance of two levels that carry the same bit."""
HAAR = 0.7071067811865476
FALSE_ALARMS = 1e-6
"""Probability with which random bits count as the message, at most."""
LEAST_BITS, MOST_BITS = 32, 1024


@open_to_clients("message", "bits")
@versioned("1")
class Watermark:
    """The plug-in ``watermark``: the bits of a message in an image, as ``dwtDct`` of ``invisible-watermark`` has them.

    The message is the UTF-8 ``message``, or the ``bits``, such as the 48 of SDXL. Each block of 8 x 8 pixels votes for
    one bit: in the approximation of a Haar transform of the chroma U, the largest of its coefficients but the first
    is nearer to a quarter or to three quarters of a multiple of 36. ``watermark_bits`` is the share of bits that are
    those of the message: 1/2 by chance. ``watermark_detected`` is 1 if as many would be right with a probability of
    at most 1e-6 by a fair coin. It does not apply to images of less than 256 x 256 pixels, which are never marked.
    """

    quantities = (
        Quantity("watermark_bits", Direction.HIGHER, "share", 0.0, 1.0, title="Watermark bits", title_zh="水印比特"),
        Quantity(
            "watermark_detected", Direction.HIGHER, "share", 0.0, 1.0, title="Watermark detected", title_zh="检出水印"
        ),
    )

    def __init__(self, device: torch.device, *, message: str = "StableDiffusionV1", bits: str = "") -> None:
        checked("watermark", "message", message, str)
        checked("watermark", "bits", bits, Annotated[str, Field(pattern="^[01]*$")])
        self._message = _bits_of(message, bits)
        n = len(self._message)
        if not LEAST_BITS <= n <= MOST_BITS:
            raise InputError(
                f"the message of scorer 'watermark' has {n} bits, and needs {LEAST_BITS} to {MOST_BITS}: set the "
                "option 'message' or 'bits' to the message that was embedded"
            )
        self._enough = int(binom.isf(FALSE_ALARMS, n, 0.5)) + 1
        facts = {
            "message": "".join(map(str, self._message.astype(int))),
            "settings": f"dwtDct, chroma U, Haar, blocks of 4, scale {SCALE}, detected from {self._enough} bits",
        }
        self.info = ScorerInfo("watermark", frozenset({"image"}), self.quantities, facts=facts)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """Share of right bits, and whether they are more than chance, of each image."""
        if not isinstance(samples, Images | MixedImages):
            raise InputError("scorer 'watermark' requires image samples")

        def judge(row: int) -> Sequence[float]:
            pixels = samples.items[row].expand(3, -1, -1).cpu().numpy()
            right = int((_decoded(pixels, len(self._message)) == self._message).sum())
            return [right / len(self._message), float(right >= self._enough)]

        return score_rows(self.info, len(samples), judge)


def _bits_of(message: str, bits: str) -> Bool[np.ndarray, " bits"]:
    if bits:
        return np.array([each == "1" for each in bits])
    return np.unpackbits(np.frombuffer(message.encode(errors="replace"), np.uint8)).astype(bool)


def _decoded(pixels: UInt8[np.ndarray, "3 h w"], bits: int) -> Bool[np.ndarray, " bits"]:
    """The bits of the message in an RGB image, each by the majority of its blocks in the order of rows.

    Raises:
        NotApplicable: the image is too small for a mark, or for one of so many bits.
    """
    rows, columns = (side // 8 for side in pixels.shape[1:])
    if pixels[0].size < LEAST_PIXELS or rows * columns < bits:
        raise NotApplicable(
            f"the image has {pixels.shape[1]}x{pixels.shape[2]} pixels, and a mark of {bits} bits needs 256x256"
        )
    chroma = _chroma(pixels[:, : 8 * rows, : 8 * columns])
    # In the order of rows and columns that the reference adds in: values on the border of two bits depend on it.
    halved = chroma[0::2] * HAAR + chroma[1::2] * HAAR
    coarse = halved[:, 0::2] * HAAR + halved[:, 1::2] * HAAR
    blocks = np.abs(coarse.reshape(rows, 4, columns, 4).swapaxes(1, 2).reshape(-1, 16)[:, 1:])
    votes = blocks.max(1) % SCALE > SCALE / 2
    bit = np.arange(len(votes)) % bits
    share = np.bincount(bit, votes, bits) / np.bincount(bit, minlength=bits)
    return np.asarray(share * 255 > 127)


def _chroma(pixels: UInt8[np.ndarray, "3 h w"]) -> Float64[np.ndarray, "h w"]:
    """U of YUV in whole levels, as OpenCV rounds it."""
    red, green, blue = pixels.astype(np.int64)
    luma = (1868 * blue + 9617 * green + 4899 * red + 2**13) >> 14
    levels: Float64[np.ndarray, "h w"] = np.clip(((blue - luma) * 8061 + 2**21 + 2**13) >> 14, 0, 255) * 1.0
    return levels
