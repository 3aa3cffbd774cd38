"""The sandboxed half of a decoding process: decodes one file after the other and can reach nothing else.

It is sent ``[slot, offset, size, loaded]``: a file of ``size`` bytes, whose first ``loaded`` are in the window, is to
be decoded into a slot behind ``offset``. It answers with a position if it needs the bytes from there in the window, and
is sent their number; at last, it answers with the clip's shape, an error message, or ``null`` if the slot was full.
"""

from __future__ import annotations

import io
import json
import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np

from evalsvc.core.sandbox import restrictions
from evalsvc.inputs.videos.clips import BadVideoError, Clip
from evalsvc.inputs.videos.decoding import frames_of

WINDOW = 2**22
"""Bytes of a file that are in memory at once."""
MEMORY = 2**31
_NO_LIMIT = 2**31
_TINY = bytes.fromhex("47494638396101000100800000ffffff0000002c000000000100010000020144003b")
"""A GIF of one pixel."""


def prepare() -> None:
    """Import all that decoding imports late: a sandboxed process can open no files."""
    list(frames_of(io.BytesIO(_TINY), Clip(1, 1)))


def serve(requests: int, answers: int, window: mmap.mmap, slots: Sequence[mmap.mmap], clip: Clip) -> NoReturn:
    """Give up everything but memory and these pipes, and decode until ``requests`` closes; ends the process."""
    with suppress(BaseException):
        requests, answers = restrictions.keep_only(requests, answers)
        restrictions.limit(MEMORY, _NO_LIMIT, 0)
        restrictions.confine()
        with os.fdopen(requests, "rb", buffering=0) as reading, os.fdopen(answers, "wb", buffering=0) as writing:

            def ask(answer: Any) -> Any:
                writing.write(json.dumps(answer).encode() + b"\n")
                return json.loads(reading.readline())

            answer: Any = None
            while request := ask(answer):
                slot, offset, size, loaded = request
                answer = _decode(slots[slot], offset, _WindowFile(window, size, loaded, ask), clip)
    os._exit(0)


def _decode(slot: mmap.mmap, offset: int, file: _WindowFile, clip: Clip) -> list[int] | str | None:
    """Write a clip behind ``offset``, frame by frame; its shape, the fault, or ``None`` if the slot is full."""
    shape, end = [0], offset
    try:
        for frame in frames_of(cast(BinaryIO, file), clip):
            if end + frame.size > len(slot):
                return None
            np.frombuffer(slot, np.uint8, frame.size, end).reshape(frame.shape)[:] = frame
            end += frame.size
            shape = [shape[0] + 1, *frame.shape]
    except BadVideoError as error:
        return str(error)
    except MemoryError:
        return "its decoding needs too much memory"
    except Exception as error:  # of any type: FFmpeg and PyAV read what is damaged
        return f"{type(error).__name__}: {error}"
    return shape


class _WindowFile(io.RawIOBase):
    """A file of which a part is in memory; ``ask(position)`` replaces it by the bytes from there on."""

    def __init__(self, window: mmap.mmap, size: int, loaded: int, ask: Callable[[int], int]) -> None:
        self._window, self._size, self._ask = window, size, ask
        self._start, self._loaded, self._at = 0, loaded, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; the number of bytes."""
        if not 0 <= self._at < self._size:
            return 0
        if not self._start <= self._at < self._start + self._loaded:
            self._start, self._loaded = self._at, self._ask(self._at)
        first = self._at - self._start
        part = self._window[first : min(self._loaded, first + len(buffer))]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)
