"""Safetensors files from outside. The header is measured first: parsing it takes 25 times its size in memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open

from evalsvc.core.files.regular_files import open_regular

LARGEST_HEADER = 2**24
"""Bytes, enough for about 100,000 tensors."""
SMALL_HEADER, DATA_A_BYTE = 2**20, 16
"""Header bytes that any file may have, and tensor bytes required for each further header byte."""
LONGEST_NAME = 2000
"""Maximum length of a tensor's name, in characters."""


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a file as ``safe_open`` for torch; the descriptor stays valid if the file is replaced.

    Raises:
        SafetensorError: the file is damaged, or its header is too large for its tensors.
        InputError: it is a pipe or a device.
        OSError: it cannot be opened.
    """
    with open_regular(path) as file, open_descriptor(file) as opened:
        yield opened


@contextmanager
def open_descriptor(file: BinaryIO) -> Iterator[Any]:
    """Like :func:`open_safetensors`, for an open file."""
    _measure_header(file)
    with safe_open(f"/dev/fd/{file.fileno()}", framework="pt") as opened:
        if any(len(name) > LONGEST_NAME for name in opened.keys()):  # noqa: SIM118
            raise SafetensorError(f"a tensor has a name of more than {LONGEST_NAME} characters")
        yield opened


def _measure_header(file: BinaryIO) -> None:
    whole = os.fstat(file.fileno()).st_size
    (header,) = struct.unpack("<Q", os.pread(file.fileno(), 8, 0).ljust(8, b"\0"))
    data = whole - 8 - header
    if data < 0:
        raise SafetensorError(f"{whole:,} bytes, less than its declared header length")
    if header > min(LARGEST_HEADER, SMALL_HEADER + data // DATA_A_BYTE):
        raise SafetensorError(f"header of {header:,} bytes is too large for {data:,} bytes of tensors")
