"""JSON from outside, measured before it is parsed: its size, depth and number of values bound the parser's work."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from evalsvc.core.files.regular_files import open_regular

LARGEST, MOST_VALUES, DEEPEST = 2**26, 2**23, 100
"""Bytes, values, and nesting depth. The largest published tokenizer has half of these bytes."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""A string. An unterminated one matches to the end: retrying at each quote inside would take quadratic time."""
_NO_MARKS = bytes(set(range(256)) - set(b"[]{},"))
_CHUNK = 2**20


def read_json(path: Path) -> Any:
    """Read the value in a file.

    Raises:
        ValueError: it is not valid JSON, or is larger or deeper than the limits.
        InputError: it is a pipe or a device.
        OSError: it cannot be opened.
    """
    return json.loads(read_measured(path).decode("utf-8-sig"))


def read_measured(path: Path) -> bytes:
    """Read a file that any JSON parser reads in bounded time and memory; raises like :func:`read_json`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise ValueError(f"{size:,} bytes, more than {LARGEST:,}")
        data = file.read(LARGEST + 1)
    marks = _STRING.sub(b"", data).translate(None, _NO_MARKS)
    if marks.count(b",") + marks.count(b"{") + marks.count(b"[") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    if _depth(marks.replace(b",", b"")) > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    return data


def _depth(brackets: bytes) -> int:
    """Maximum nesting depth of the brackets."""
    deepest = depth = 0
    for start in range(0, len(brackets), _CHUNK):
        chunk = np.frombuffer(brackets[start : start + _CHUNK], np.uint8)
        steps = np.where((chunk == ord("[")) | (chunk == ord("{")), 1, -1).cumsum(dtype=np.int64) + depth
        deepest, depth = max(deepest, int(steps.max())), int(steps[-1])
    return deepest
