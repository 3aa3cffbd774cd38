"""Decoding of sound files to one channel of floats: WAV by SciPy, other formats and parts of files by libsndfile."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32

from evalsvc.core.errors import InputError
from evalsvc.inputs.sounds.truncation import chunks, what_is_missing

SOUND_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc"}
MAX_VALUES = 2**28
"""Values (samples times channels) that are decoded at once; what unpacks to more is refused before it is decoded."""
MAX_CHANNELS = 64
RATES = range(100, 1_000_001)
"""Sample rates in Hz."""
_BLOCK = 2**18
_MOST_A_BYTE = 2**16
"""Samples that one byte of a file can stand for: more than silence in FLAC or Opus. A FLAC from a pipe claims 2^63."""
_STARTS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3")
_FULL_SCALE = {"int16": 2.0**-15, "int32": 2.0**-31, "float32": 1.0, "float64": 1.0}
_PLAIN = {b"\x01\0", b"\x03\0", b"\xfe\xff", b"\0\x01", b"\0\x03", b"\xff\xfe"}
"""Tags of WAV files with integers or floats, in both byte orders: those that SciPy reads."""

Wave = Float32[np.ndarray, " t"]


class BadSoundError(ValueError):
    """A file cannot be decoded; the message continues its name: ``is not a readable sound file (...)``."""


def decode(file: BinaryIO) -> tuple[int, Wave]:
    """Sample rate in Hz, and the mean of the channels in [-1, 1], of an open file.

    Integers are divided by their full range, and 8-bit samples of WAV are centered on 128. Lossy formats may exceed
    the range a little.

    Raises:
        BadSoundError: it is damaged, truncated, empty, contains NaN, or is too large.
        InputError: the reader of its format is not installed.
    """
    if _is_plain_wav(file):
        return _by_scipy(file)
    sound = Sound(file)
    return sound.rate, sound.read(0, sound.frames)


class Sound:
    """A file opened by libsndfile: ``rate`` in Hz, ``channels``, and ``frames``, the samples of each channel.

    Raises:
        BadSoundError: it is damaged or truncated, as far as its header and its end say.
        InputError: soundfile is not installed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | Any = file
        self._soundfile = _soundfile()
        _require_whole(file)
        file.seek(0)
        start = file.read(4)
        if not start.startswith(_STARTS) and not (start[:1] == b"\xff" and start[1:2] >= b"\xe0"):
            raise _bad("its content has none of the formats WAV, FLAC, MP3, Ogg and AIFF")
        if isinstance(file, io.BytesIO):  # libsndfile would call Python for each read, and print its errors
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the sound is freed)
            self._file.write(file.getbuffer())
            self._file.flush()
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        with self._errors():
            self._sound = self._soundfile.SoundFile(self._file.fileno(), closefd=False)
        self.rate, self.channels, self.frames = self._sound.samplerate, self._sound.channels, self._sound.frames
        self._jumps = self._sound.subtype.startswith(("PCM_", "FLOAT", "DOUBLE"))
        _require_rate(self.rate)
        if self.channels > MAX_CHANNELS:
            raise BadSoundError(f"has {self.channels} channels: use 1 to {MAX_CHANNELS}")
        if self.frames > _MOST_A_BYTE * os.fstat(self._file.fileno()).st_size:
            raise BadSoundError(
                f"claims {self.frames:,} samples, more than its size allows: encode it again, into a file, not a pipe"
            )

    def read(self, start: int, frames: int) -> Wave:
        """The mean of the channels of ``frames`` samples from number ``start`` on; they must be there, and finite.

        Earlier reads do not change them. Files of integers and floats are read from there on; others are decoded from
        the end of the last read, or from the beginning if ``start`` lies before it.
        """
        if frames * self.channels > MAX_VALUES:
            raise BadSoundError(f"has {frames:,} samples of {self.channels} channels: cut it by option window")
        with self._errors():
            self._move_to(start)
            values = self._sound.read(frames, dtype="float32", always_2d=True)
        if len(values) < frames:
            raise _bad(f"it is damaged or truncated: {frames - len(values):,} of its samples cannot be decoded")
        return _mixed(values)

    def _move_to(self, start: int) -> None:
        """Jump, or decode up to there: libsndfile's jumps in MP3 and Vorbis miss by some samples."""
        if self._jumps or start < self._sound.tell():
            self._sound.seek(start if self._jumps else 0)
        while (left := start - self._sound.tell()) > 0:
            if not len(self._sound.read(min(left, _BLOCK), dtype="float32", always_2d=True)):
                raise _bad("it is damaged or truncated")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._soundfile.SoundFileError as error:
            raise _bad(getattr(error, "error_string", str(error)).rstrip(".")) from None


def _mixed(values: Float32[np.ndarray, "t c"]) -> Wave:
    channels = values.shape[1]
    # The mean of two is the same number, without NumPy's slow sum over short rows.
    with np.errstate(invalid="ignore", over="ignore"):
        wave = values[:, 0] if channels == 1 else (values[:, 0] + values[:, 1]) / 2 if channels == 2 else values.mean(1)
    if not wave.size or not np.isfinite(wave).all():
        raise BadSoundError("is empty or contains NaN")
    return wave


def _by_scipy(file: BinaryIO) -> tuple[int, Wave]:
    from scipy.io import wavfile

    _require_whole(file)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # about chunks other than audio
            rate, wave = wavfile.read(file)
    except UnboundLocalError:  # SciPy found no data chunk, or its header is incomplete
        raise _bad("it has no data chunk") from None
    except Exception as error:  # of many types for damaged headers: struct.error, ZeroDivisionError, ...
        raise _bad(str(error)) from None
    if wave.dtype == np.uint8:
        wave = (wave.astype(np.float32) - 128) / 128
    elif wave.dtype.name in _FULL_SCALE:
        wave = wave.astype(np.float32) * np.float32(_FULL_SCALE[wave.dtype.name])
    else:
        raise BadSoundError(f"has {wave.dtype} samples: convert it to 8, 16, 24 or 32 bits")
    _require_rate(rate)
    return int(rate), _mixed(wave if wave.ndim == 2 else wave[:, None])


def _require_rate(rate: int) -> None:
    if rate not in RATES:
        raise BadSoundError(f"has a sample rate of {rate} Hz: use {RATES[0]} to {RATES[-1]:,} Hz")


def _require_whole(file: BinaryIO) -> None:
    if missing := what_is_missing(file):
        raise _bad(f"it is truncated: {missing}")


def _is_plain_wav(file: BinaryIO) -> bool:
    """Whether SciPy reads it: it is a WAV, without a compressed format; a damaged one is SciPy's to name."""
    file.seek(0)
    if file.read(4) not in (b"RIFF", b"RIFX", b"RF64"):
        return False
    kinds = (file.read(2) for name, _ in chunks(file) if name == b"fmt ")
    return next(kinds, b"\x01\0") in _PLAIN


def resample(wave: Wave, rate: int, to: int, need: str) -> Wave:
    """The wave at another rate in Hz, by soxr at high quality; ``need`` says in errors what it is for."""
    if rate == to:
        return wave
    try:
        import soxr
    except ImportError:
        raise InputError(f"{need}: install the resampler with pip install 'evalsvc[audio]'") from None
    return np.asarray(soxr.resample(wave, rate, to, "HQ"))


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # the latter if libsndfile is missing
        raise InputError(
            "sound files other than WAV, and windows of sounds, need a reader: pip install 'evalsvc[audio]'"
        ) from None
    return soundfile


def _bad(reason: str) -> BadSoundError:
    return BadSoundError(f"is not a readable sound file ({reason})")
