"""The samples themselves, as far as an evaluation kept them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8

from evalsvc.analysis.items import ItemTable
from evalsvc.core.errors import DamagedError, MissingError
from evalsvc.core.files.verification import report


@dataclass(frozen=True)
class KeptSample:
    """One sample: a ``text``, an image (c, h, w) or a clip (t, c, h, w) in ``pixels``, or a ``wave`` in [-1, 1].

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


BEYOND = KeptSample(absent="beyond the budget of kept samples")
MISSING = KeptSample(absent="samples are missing from the artifacts of this machine")
DAMAGED = KeptSample(absent="samples are damaged: score again with --rerun")


@dataclass(frozen=True)
class _Shard:
    """The arrays of a file of kept samples: all contents as bytes, with the end and the shape of each."""

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]
    absent: KeptSample = BEYOND

    def __getitem__(self, place: int) -> KeptSample:
        ends = self.arrays.get("ends", ())
        if place >= len(ends):
            return self.absent
        part = self.arrays["content"][ends[place - 1] if place else 0 : ends[place]]
        kind = self.metadata["type"]
        if kind == "texts":
            return KeptSample(text=part.tobytes().decode("utf-8", "surrogatepass"))
        if kind == "audio":
            return KeptSample(wave=part.view(np.float32), rate=int(self.metadata["rate"]))
        return KeptSample(pixels=part.reshape(self.arrays["shapes"][place]))


class KeptSamples:
    """Reader of the kept samples of one evaluation; the shard that was read last stays in memory."""

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        self._key, self._shard = "", _Shard({}, {})

    def __getitem__(self, number: int) -> KeptSample:
        """The sample with this number, or the reason why it is not kept."""
        size = int(self._table.spec["suite"]["shard"])
        start = number // size * size
        key = f"{self._table.facts['samples']}/{start}-{min(start + size, len(self._table))}.safetensors"
        if self._key != key:
            self._key, self._shard = key, self._read(key)
        try:
            return self._shard[number - start]
        except (KeyError, ValueError, TypeError):  # of another version
            return DAMAGED

    def _read(self, key: str) -> _Shard:
        artifacts, none = self._table.artifacts, _Shard({}, {})
        try:
            return _Shard(artifacts.read_arrays(key), artifacts.read_metadata(key))
        except MissingError:
            return replace(none, absent=MISSING)
        except DamagedError as error:
            report(error)
            return replace(none, absent=DAMAGED)
