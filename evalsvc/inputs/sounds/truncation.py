"""Signs that the end of a sound file is missing. Readers return the part that is there, without an error."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_UNKNOWN_SIZE = 0x7FFFF000
"""A size from this on means that the writer did not know it: sox and ffmpeg write such headers into pipes."""
_LONGEST_PAGE = 27 + 255 + 255 * 255
"""Bytes of the longest page of Ogg."""
_END_OF_STREAM = 4
_FIRST_BYTES = 8192
"""The first MP3 frame lies in these bytes behind the tags; its encoder's header names the size of the whole."""


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk of a WAV or AIFF; the file stands at the content of the chunk."""
    file.seek(0)
    order = "<" if file.read(12).startswith((b"RIFF", b"RF64")) else ">"
    while len(header := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}4sI", header)
        place = file.tell()
        yield kind, size
        file.seek(place + size + size % 2)


def what_is_missing(file: BinaryIO) -> str:
    """The part that a WAV, AIFF, Ogg or MP3 file lacks at its end, as far as it says how long it is; or nothing.

    A FLAC without its end fails when it is decoded.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(4)
    if start == b"OggS":
        return _of_ogg(file, size)
    if start in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        for kind, promised in chunks(file):
            if kind in (b"data", b"SSND"):
                missing = 0 if promised >= _UNKNOWN_SIZE else file.tell() + promised - size
                return f"{missing:,} bytes of its samples are missing" if missing > 0 else ""
        return ""
    return _of_mp3(file, size)


def _of_ogg(file: BinaryIO, size: int) -> str:
    """The last page says that it is the last, and lies in the file completely."""
    file.seek(max(0, size - _LONGEST_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    whole = len(page) > 27 and page[5] & _END_OF_STREAM and 27 + page[26] + sum(page[27 : 27 + page[26]]) <= len(page)
    return "" if whole else "its last page is missing"


def _of_mp3(file: BinaryIO, size: int) -> str:
    """A header by Xing in the first frame may name the bytes of all frames; without one, nothing is known."""
    file.seek(0)
    begin = file.read(10)
    tag = 0
    if begin.startswith(b"ID3") and len(begin) == 10:
        tag = 10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(begin[6:])))
    file.seek(tag)
    head = file.read(_FIRST_BYTES)
    for name in (b"Xing", b"Info"):
        if (at := head.find(name)) >= 0 and len(head) >= at + 16:
            flags, _, promised = struct.unpack(">III", head[at + 4 : at + 16])
            missing = tag + promised - size
            return f"{missing:,} of its bytes are missing" if flags & 3 == 3 and missing > 0 else ""
    return ""
