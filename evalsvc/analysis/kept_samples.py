"""The samples themselves, as far as an evaluation kept them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from evalsvc.analysis.items import ItemTable
from evalsvc.core.errors import DamagedError, MissingError
from evalsvc.core.files.verification import report


@dataclass(frozen=True)
class KeptSample:
    """One sample: a ``text``, an image (c, h, w) or a clip (t, c, h, w) in ``pixels``, or a ``wave``.

    A sample that is not kept has none of them, and ``absent`` says why.
    """

    text: str | None = None
    pixels: UInt8[np.ndarray, ...] | None = None
    wave: Float32[np.ndarray, " t"] | None = None
    rate: int = 0
    absent: str = ""

    @property
    def described(self) -> str:
        """The text itself, or the size of the media."""
        if self.pixels is not None:
            *frames, _, height, width = self.pixels.shape
            return f"video of {frames[0]} frames, {width} x {height}" if frames else f"image, {width} x {height}"
        if self.wave is not None:
            return f"sound of {len(self.wave) / self.rate:.2f} s"
        return self.text or ""


BEYOND = KeptSample(absent="the sample is beyond the budget of kept samples")


class KeptSamples:
    """Reader of the kept samples of one evaluation; the shard that was read last stays in memory."""

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        self._shard: tuple[str, Mapping[str, np.ndarray]] = ("", {})

    def __getitem__(self, number: int) -> KeptSample:
        """The sample with this number, or the reason why it is not kept."""
        size = int(self._table.spec["suite"]["shard"])
        start = number // size * size
        stop = min(start + size, len(self._table))
        key = f"{self._table.facts['samples']}/{start}-{stop}.safetensors"
        if self._shard[0] != key:
            self._shard = key, self._read(key)
        return _sample(self._shard[1], number - start)

    def _read(self, key: str) -> Mapping[str, np.ndarray]:
        try:
            return self._table.artifacts.read_arrays(key)
        except MissingError:
            return {}
        except DamagedError as error:
            report(error)
            return {}


def _sample(arrays: Mapping[str, np.ndarray], place: int) -> KeptSample:
    if "texts" in arrays:
        texts = json.loads(arrays["texts"].tobytes())
        return KeptSample(text=texts[place]) if place < len(texts) else BEYOND
    if f"image/{place}" in arrays:
        return KeptSample(pixels=arrays[f"image/{place}"])
    if f"wave/{place}" in arrays:
        return KeptSample(wave=arrays[f"wave/{place}"], rate=int(arrays["rate"][0]))
    return BEYOND
