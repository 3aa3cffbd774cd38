"""The samples themselves, as far as an evaluation kept them."""

from __future__ import annotations

import json
from dataclasses import dataclass

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
MISSING = KeptSample(absent="not kept: its scorers read likelihoods only, or its files were removed")
DAMAGED = KeptSample(absent="samples are damaged: score again with --rerun")


class KeptSamples:
    """Reader of the kept samples of one evaluation; the texts of the shard that was read last stay in memory.

    Files are those of :mod:`evalsvc.evaluation.kept_samples`, read without torch.
    """

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        self._key, self._texts = "", list[str]()

    def __getitem__(self, number: int) -> KeptSample:
        """The sample with this number, or the reason why it is not kept."""
        size = int(self._table.spec["suite"]["shard"])
        start = number // size * size
        key = f"{self._table.facts['samples']}/{start}-{min(start + size, len(self._table))}.safetensors"
        try:
            found = self._read(key, number - start)
            return self._among_worst(number) if found.absent else found
        except MissingError:
            return MISSING
        except DamagedError as error:
            report(error)
            return DAMAGED

    def _among_worst(self, number: int) -> KeptSample:
        """The sample with this number, if it is one of the worst, which are kept beyond the budget."""
        key = self._table.facts.get("worst")
        rows = self._table.artifacts.read_some(key, ("rows",))["rows"].tolist() if key else []
        return self._read(key, rows.index(number)) if key and number in rows else BEYOND

    def _read(self, key: str, place: int) -> KeptSample:
        image, wave, texts = f"image/{place}", f"wave/{place}", "texts"
        if key != self._key or not self._texts:
            found = self._table.artifacts.read_some(key, (image, wave, "rate", texts))
            self._key, self._texts = key, json.loads(found[texts].tobytes()) if texts in found else []
            if image in found:
                return KeptSample(pixels=found[image])
            if wave in found:
                return KeptSample(wave=found[wave], rate=int(found["rate"][0]))
        return KeptSample(text=self._texts[place]) if place < len(self._texts) else BEYOND
