"""Sets of sound files in a folder, whole or cut into windows, at the rate of the files or at one that is asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from io import BufferedReader
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from evalsvc.core.digests import digest_files
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular, read_whole
from evalsvc.inputs.class_folders import folder_labels
from evalsvc.inputs.reading_options import AS_STORED, ReadingOptions
from evalsvc.inputs.skip_list import exclude_files
from evalsvc.inputs.sounds.decoding import BadSoundError, Sound, Wave, decode, resample
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Audio

BLOCK = 2**22
"""Samples of a windowed file that are decoded at once to find out whether it is readable."""
MOST_WINDOWS = 2**22


class SoundFiles:
    """The named sound files of a folder, except those in ``skip``; channels are averaged.

    ``reading.rate`` resamples every sample; without it, all files must have one rate. ``reading.window`` cuts each file
    into consecutive windows of this length, each of which is a sample: a rest that is shorter is left out, unless it is
    the whole file. Windows are cut at the rate of their file, and resampled one by one.
    """

    modality: Modality = "audio"

    def __init__(
        self, path: Path, names: Iterable[str], skip: Collection[str] = (), reading: ReadingOptions = AS_STORED
    ) -> None:
        reading.require_only(path, "rate", "window")
        self._path, self._reading, self.skipped = path, reading, tuple(sorted(skip))
        self._names = exclude_files(path, names, skip, "sounds")
        self._last: tuple[tuple[int, str], Sound] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files without their suffixes; of windows, with ``@`` and their number in the file from 0."""
        stems = [name.rpartition(".")[0] for name in self._names]
        if self._reading.window is None:
            return tuple(stems)
        counts = np.diff(self._ends, prepend=0).tolist()
        return tuple(f"{stem}@{i}" for stem, count in zip(stems, counts, strict=True) for i in range(count))

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class labels by folder; -1 for all sounds if they do not lie in class folders."""
        return np.repeat(folder_labels(self._names), np.diff(self._ends, prepend=0))

    def digest(self) -> str:
        """sha256 of the current content of the files."""
        return digest_files(self._path, self._names)

    def read(self, start: int, stop: int) -> Audio:
        """Sounds ``start`` to ``stop``; an unreadable file or another sample rate raises an error that names it."""
        return self.read_at(range(start, min(stop, len(self))))

    def read_at(self, indices: Sequence[int]) -> Audio:
        """The sounds at these indices, in this order; they are decoded in that of the files."""
        waves = {i: torch.from_numpy(self._sample(i)) for i in sorted({int(i) for i in indices})}
        return Audio(tuple(waves[int(i)] for i in indices), self._rate)

    def file(self, index: int) -> bytes:
        """The encoded file that a sound is, or is cut from."""
        return read_whole(self._path / self._names[int(np.searchsorted(self._ends, index, side="right"))])

    def unreadable(self) -> tuple[str, ...]:
        """Names of all files that cannot be read. Decodes every file."""
        return tuple(name for name in self._names if not self._is_readable(name))

    @cached_property
    def _rate(self) -> int:
        first = self._names[0]
        return self._reading.rate or (self._measures[0][0] if self._reading.window else self._whole(first)[0])

    @cached_property
    def _measures(self) -> list[tuple[int, int]]:
        """Rate in Hz and length in samples of each file."""
        return [(sound.rate, sound.frames) for sound in map(self._opened, self._names)]

    @cached_property
    def _ends(self) -> Int64[np.ndarray, " files"]:
        """For each file, the number of samples of the set up to its end."""
        if self._reading.window is None:
            return np.arange(1, len(self._names) + 1)
        ends = np.cumsum([max(1, frames // self._length(rate)) for rate, frames in self._measures])
        if ends[-1] > MOST_WINDOWS:
            raise InputError(f"{self._path} has {ends[-1]:,} windows (at most {MOST_WINDOWS:,}): use a longer window")
        return ends

    def _length(self, rate: int) -> int:
        """Length of a window in samples at this rate."""
        return max(1, round((self._reading.window or 0) * rate))

    def _sample(self, index: int) -> Wave:
        place = int(np.searchsorted(self._ends, index, side="right"))
        name = self._names[place]
        rate, wave = self._whole(name) if self._reading.window is None else self._part(place, index)
        if self._reading.rate:
            return resample(
                wave, rate, self._reading.rate, f"{name} has {rate} Hz (asked for: {self._reading.rate} Hz)"
            )
        if rate != self._rate:
            raise InputError(
                f"{self._path} mixes sample rates: {name} has {rate} Hz and the first file has {self._rate} Hz: "
                "resample them by option rate"
            )
        return wave

    def _whole(self, name: str) -> tuple[int, Wave]:
        with self._naming(name), self._file(name) as file:
            return decode(file)

    def _part(self, place: int, index: int) -> tuple[int, Wave]:
        """Rate and samples of a window of the file at this place."""
        rate, frames = self._measures[place]
        length = min(self._length(rate), frames)
        number = index - (int(self._ends[place - 1]) if place else 0)
        sound = self._opened(self._names[place])
        with self._naming(self._names[place]):
            return rate, sound.read(number * length, length)

    def _opened(self, name: str) -> Sound:
        """The file, kept open for the next windows; a forked process must not move this one's place in it."""
        which = os.getpid(), name
        if self._last is None or self._last[0] != which:
            self._last = None
            with self._naming(name):
                self._last = which, Sound(self._file(name))
        return self._last[1]

    def _file(self, name: str) -> BufferedReader:
        try:
            return open_regular(self._path / name)
        except (InputError, OSError) as error:
            raise BadSoundError(f"cannot be read ({error})") from None

    def _is_readable(self, name: str) -> bool:
        try:
            with self._file(name) as file:
                if self._reading.window is None:
                    decode(file)
                else:
                    sound = Sound(file)
                    for start in range(0, max(1, sound.frames), BLOCK):
                        sound.read(start, min(BLOCK, sound.frames - start))
        except BadSoundError:
            return False
        return True

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Name the file in errors about it."""
        try:
            yield
        except BadSoundError as error:
            raise InputError(
                f"{self._path / name} {error}: repair or remove it, or leave it out with --skip-bad"
            ) from None
