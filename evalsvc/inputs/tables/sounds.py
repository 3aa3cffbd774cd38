"""Sample sets of the sounds in the rows of a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property

from evalsvc.core.errors import InputError
from evalsvc.inputs.items.cells import CellError
from evalsvc.inputs.sounds.decoding import BadSoundError, Wave, decode, resample
from evalsvc.inputs.tables.samples import OfRows, Rows
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Audio


class SoundRows(OfRows):
    """Encoded sounds in a column, resampled to ``rate`` in Hz; without it, all must have one rate."""

    modality: Modality = "audio"

    def __init__(self, rows: Rows, rate: int | None) -> None:
        super().__init__(rows)
        self._asked = rate

    def read(self, start: int, stop: int) -> Audio:
        """Sounds ``start`` to ``stop``; an unreadable one, or another sample rate, raises an error that names it."""
        return self.read_at(range(start, min(stop, len(self))))

    def read_at(self, indices: Sequence[int]) -> Audio:
        """The sounds at these indices, in this order."""
        return Audio(tuple(torch.from_numpy(self._sample(int(i))) for i in indices), self._rate)

    def unreadable(self) -> tuple[str, ...]:
        """Names of all rows whose sound cannot be read. Decodes every sound."""
        return tuple(self._rows.name(i) for i in range(len(self)) if isinstance(self._decoded(i), str))

    @cached_property
    def _rate(self) -> int:
        return self._asked or self._whole(0)[0]

    def _sample(self, place: int) -> Wave:
        rate, wave = self._whole(place)
        name = self._rows.name(place)
        if self._asked:
            return resample(wave, rate, self._asked, f"{name} has {rate} Hz (asked for: {self._asked} Hz)")
        if rate != self._rate:
            raise InputError(
                f"{self._rows.path} mixes sample rates: {name} has {rate} Hz and {self._rows.name(0)} has {self._rate} "
                "Hz: resample them by option rate"
            )
        return wave

    def _whole(self, place: int) -> tuple[int, Wave]:
        decoded = self._decoded(place)
        if isinstance(decoded, str):
            raise InputError(
                f"{self._rows.path}: {self._rows.name(place)} {decoded}: repair or remove it, or leave it out with "
                "--skip-bad"
            )
        return decoded

    def _decoded(self, place: int) -> tuple[int, Wave] | str:
        """Rate and samples of a sound, or the error message."""
        try:
            return decode(io.BytesIO(self._rows.content(place)))
        except CellError as error:
            return f"has no sound ({error})"
        except BadSoundError as error:
            return str(error)
