"""Process that decodes images into shared memory: ``python -m evalsvc.inputs.images.decoding_process PATH BYTES
FD...``.

Each line on stdin is a chunk ``[slot, [name, ...]]``. The response is a line with one entry per name: the shape of its
pixels, which are consecutive in the slot, an error message, or ``null`` if the slot was full. The process exits when
stdin closes, including when its parent dies.
"""

from __future__ import annotations

import json
import math
import mmap
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from evalsvc.inputs.images.decoding import Source, decode_from, open_source

Answer: TypeAlias = list[list[int] | str | None]


def fill(slot: mmap.mmap, source: Source, names: Sequence[str]) -> Answer:
    """Decode images into a slot, one after the other."""
    answer: Answer = []
    offset = 0
    for name in names:
        pixels = decode_from(source, name)
        if isinstance(pixels, str):
            answer.append(pixels)
        elif offset + pixels.size > len(slot):
            answer.append(None)
        else:
            np.frombuffer(slot, np.uint8, pixels.size, offset)[:] = pixels.reshape(-1)
            offset += pixels.size
            answer.append(list(pixels.shape))
    return answer


def empty(slot: mmap.mmap, answer: Answer) -> list[np.ndarray | str | None]:
    """Copy the result of :func:`fill` out of a slot."""
    images: list[np.ndarray | str | None] = []
    offset = 0
    for entry in answer:
        if isinstance(entry, list):
            size = math.prod(entry)
            images.append(np.frombuffer(slot, np.uint8, size, offset).reshape(entry).copy())
            offset += size
        else:
            images.append(entry)
    return images


def main(path: str, size: str, *descriptors: str) -> None:
    """Respond to chunks until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    source = open_source(Path(path))
    slots = [mmap.mmap(int(descriptor), int(size)) for descriptor in descriptors]
    for line in sys.stdin:
        slot, names = json.loads(line)
        sys.stdout.write(json.dumps(fill(slots[slot], source, names)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
