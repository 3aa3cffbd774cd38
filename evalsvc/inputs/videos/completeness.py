"""Whether a video file is complete, by the sizes that its container declares: FFmpeg plays a truncated one in part."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"mfra", b"free", b"skip", b"wide", b"uuid", b"meta")
"""Top-level boxes of MP4 and QuickTime files."""
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(file: BinaryIO) -> int:
    """Number of bytes that are missing at the end of an MP4, MOV, WebM, MKV, AVI or GIF file; 0 if it does not say."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[4:8] in _BOXES:
        end = _end_of_boxes(file, size)
    elif head.startswith(_EBML):
        end = _end_of_segment(file)
    elif head.startswith(b"RIFF"):
        end = 8 + int.from_bytes(head[4:8], "little")
    elif head.startswith(b"GIF8"):
        file.seek(max(0, size - 64))
        end = size if file.read().rstrip(b"\0").endswith(b";") else size + 1
    else:
        end = 0
    file.seek(0)
    return max(0, end - size)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(16)
        if header[4:8] not in _BOXES:  # not a box, or trailing bytes
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        if length < 8:  # 0: it ends with the file
            break
        end += length
    return end


def _end_of_segment(file: BinaryIO) -> int:
    """The end of the only segment of a Matroska file; 0 if it was written as a stream, without its length."""
    file.seek(4)
    header = _number(file)
    start = file.tell() + (header or 0)
    file.seek(start)
    if header is None or file.read(4) != _SEGMENT:
        return 0
    length = _number(file)
    return 0 if length is None else file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """A length of EBML: the zeros before its first bit count its further bytes. ``None`` if all its bits are set."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big")
    bits = 7 * (more + 1)
    value &= (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value
