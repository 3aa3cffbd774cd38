"""Lines of JSON over descriptors, between a program's process and its host."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any


def read_lines(descriptor: int) -> Iterator[Any]:
    """The JSON of each line, until the other side ends."""
    waiting = b""
    while True:
        line, end, rest = waiting.partition(b"\n")
        if end:
            waiting = rest
            yield json.loads(line)
        elif chunk := os.read(descriptor, 2**16):
            waiting += chunk
        else:
            return


def write_line(descriptor: int, content: Any) -> None:
    """Write one line of JSON."""
    rest = memoryview(json.dumps(content, separators=(",", ":")).encode() + b"\n")
    while rest:
        rest = rest[os.write(descriptor, rest) :]
