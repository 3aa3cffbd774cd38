"""Safetensors files from outside, whose header is measured before it is parsed: parsed, it takes 25 times its size."""

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
"""Bytes, for some 100,000 tensors."""
SMALL_HEADER, DATA_A_BYTE = 2**20, 16
"""Bytes of header that any file may have, and bytes of tensors that each further one must describe."""
LONGEST_NAME = 2000
"""Characters of a tensor's name."""


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """The file as ``safe_open`` gives it, for torch: the one that was opened, whatever lies at ``path`` by then.

    Raises:
        SafetensorError: it is damaged, or its header is larger than its tensors explain.
        InputError: it is a pipe or a device.
        OSError: it cannot be opened.
    """
    with open_regular(path) as file, open_descriptor(file) as opened:
        yield opened


@contextmanager
def open_descriptor(file: BinaryIO) -> Iterator[Any]:
    """As :func:`open_safetensors`, of a file that is open."""
    _measure_header(file)
    with safe_open(f"/dev/fd/{file.fileno()}", framework="pt") as opened:
        if any(len(name) > LONGEST_NAME for name in opened.keys()):  # noqa: SIM118
            raise SafetensorError(f"a tensor has a name of over {LONGEST_NAME} characters")
        yield opened


def _measure_header(file: BinaryIO) -> None:
    whole = os.fstat(file.fileno()).st_size
    (header,) = struct.unpack("<Q", os.pread(file.fileno(), 8, 0).ljust(8, b"\0"))
    data = whole - 8 - header
    if data < 0:
        raise SafetensorError(f"{whole:,} bytes, too few for the header that it begins with")
    if header > min(LARGEST_HEADER, SMALL_HEADER + data // DATA_A_BYTE):
        raise SafetensorError(f"a header of {header:,} bytes for {data:,} bytes of tensors, which is too large")
