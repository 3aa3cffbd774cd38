"""Process that decodes images into shared memory: ``python -m evalsvc.inputs.images.decoding_process PATH BYTES
FD...``.

Each line on stdin is a chunk ``[slot, [name, ...]]``. The response is a line with one entry per name: the shape of its
pixels, which are consecutive in the slot, an error message, or ``null`` if the slot was full. The process exits when
stdin closes, including when its parent dies.

If PATH is empty, a chunk has lengths in place of names: the encoded images are consecutive in the slot. A damaged image
is ``null`` then, since only the parent can name it.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import mmap
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TypeAlias

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


class _SlotSource:
    """Encoded images that the parent wrote into a slot, named by their places."""

    path = Path()

    def __init__(self, slot: mmap.mmap, lengths: Sequence[int]) -> None:
        ends = list(itertools.accumulate(lengths, initial=0))
        self._contents = [slot[start:end] for start, end in itertools.pairwise(ends)]

    def read(self, name: str) -> bytes:
        """A copy, since pixels overwrite the slot."""
        return self._contents[int(name)]

    def open(self, name: str) -> IO[bytes]:
        """The same as a file."""
        return io.BytesIO(self.read(name))


def _fill_in_place(slot: mmap.mmap, lengths: Sequence[int]) -> Answer:
    answer = fill(slot, _SlotSource(slot, lengths), [str(i) for i in range(len(lengths))])
    return [None if isinstance(entry, str) else entry for entry in answer]


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
    source = open_source(Path(path)) if path else None
    slots = [mmap.mmap(int(descriptor), int(size)) for descriptor in descriptors]
    for line in sys.stdin:
        slot, names = json.loads(line)
        answer = fill(slots[slot], source, names) if source else _fill_in_place(slots[slot], names)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
