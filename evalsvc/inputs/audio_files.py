"""Sets of audio clips: folders of WAV files."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy.io import wavfile

from evalsvc.core.digests import digest_files
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.skip_list import exclude_files
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Audio

_FULL_SCALE = {"int16": 2**15, "int32": 2**31, "float32": 1, "float64": 1}
_UNKNOWN_SIZE = 0x7FFFF000
"""A size from this on means that the writer did not know it: sox and ffmpeg write such headers into pipes."""


class SoundFolder:
    """The named ``.wav`` files of a folder, except those in ``skip``; all must have the same sample rate.

    Channels are averaged. Integers are scaled by their full range; 8-bit samples are centered on 128.
    """

    modality: Modality = "audio"

    def __init__(self, path: Path, names: Iterable[str], skip: Collection[str] = ()) -> None:
        self._path, self.skipped = path, tuple(sorted(skip))
        self._names = exclude_files(path, names, skip, "sounds")

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files without their suffixes."""
        return tuple(name.rpartition(".")[0] for name in self._names)

    def digest(self) -> str:
        """sha256 of the current content."""
        return digest_files(self._path, self._names)

    def read(self, start: int, stop: int) -> Audio:
        """Clips ``start`` to ``stop``; an unreadable file or another sample rate raises an error that names it."""
        return self.read_at(range(start, min(stop, len(self))))

    def read_at(self, indices: Sequence[int]) -> Audio:
        """The clips at these indices, in this order."""
        waves = []
        for name in (self._names[i] for i in indices):
            rate, wave = self._read(name)
            if rate != self._rate:
                raise InputError(
                    f"{self._path} mixes sample rates: {name} has {rate} Hz and the first file has {self._rate} Hz: "
                    "resample them to one rate"
                )
            waves.append(wave)
        return Audio(tuple(waves), self._rate)

    def unreadable(self) -> tuple[str, ...]:
        """Names of all clips that cannot be read. Reads every file."""
        return tuple(name for name in self._names if isinstance(_decode(self._path / name), str))

    @cached_property
    def _rate(self) -> int:
        return self._read(self._names[0])[0]

    def _read(self, name: str) -> tuple[int, torch.Tensor]:
        decoded = _decode(self._path / name)
        if isinstance(decoded, str):
            raise InputError(f"{decoded}: repair or remove it, or leave it out with --skip-bad")
        return decoded


def _decode(file: Path) -> tuple[int, torch.Tensor] | str:
    """Rate and samples of a file, or the error message."""
    try:
        with open_regular(file) as opened:
            return decode_sound(opened, str(file))
    except (InputError, OSError) as error:
        return f"{file} is not a readable WAV file ({error})"


def decode_sound(file: BinaryIO, name: str) -> tuple[int, torch.Tensor] | str:
    """Rate and samples (t,) of an open WAV file, or an error message that begins with its name."""
    try:
        if missing := _missing(file):
            return f"{name} is not a readable WAV file (it is truncated: {missing:,} bytes of its samples are missing)"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # about chunks other than audio
            rate, wave = wavfile.read(file)
    except UnboundLocalError:  # SciPy found no data chunk, or its header is incomplete
        return f"{name} is not a readable WAV file (it has no data chunk)"
    except (
        Exception
    ) as error:  # SciPy raises errors of many types for damaged headers: struct.error, ZeroDivisionError, ...
        return f"{name} is not a readable WAV file ({error})"
    if wave.dtype == np.uint8:
        wave = (wave.astype(np.float32) - 128) / 128
    elif wave.dtype.name in _FULL_SCALE:
        wave = (wave / _FULL_SCALE[wave.dtype.name]).astype(np.float32)
    else:
        return f"{name} has {wave.dtype} samples: convert it to 8, 16, 24 or 32 bits"
    if not wave.size or not np.isfinite(wave).all():
        return f"{name} is empty or contains NaN"
    return int(rate), torch.from_numpy(wave.mean(1) if wave.ndim == 2 else wave)


def _missing(file: BinaryIO) -> int:
    """Number of sample bytes that are missing according to the header; SciPy ignores a truncated file."""
    size_of_file = file.seek(0, os.SEEK_END)
    file.seek(0)
    order = ">" if file.read(12).startswith(b"RIFX") else "<"
    missing = 0
    while len(header := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}4sI", header)
        if kind == b"data":
            missing = 0 if size >= _UNKNOWN_SIZE else max(0, file.tell() + size - size_of_file)
            break
        file.seek(size + size % 2, 1)
    file.seek(0)
    return missing
