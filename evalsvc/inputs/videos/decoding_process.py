"""Process that decodes videos into shared memory: ``python -m evalsvc.inputs.videos.decoding_process PATH CLIP BYTES
FD...``.

It speaks as :mod:`evalsvc.inputs.images.decoding_process` does, but interprets no byte of a video itself: FFmpeg's
decoders are a large surface. It reads files for a child that has given up everything but memory and two pipes
(:mod:`evalsvc.inputs.videos.sandboxed_decoding`). Hence a video can at most change pixels of its own set.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.videos import sandboxed_decoding
from evalsvc.inputs.videos.clips import Clip

SECONDS, BYTES_A_SECOND = 60, 200_000
"""Seconds for any video, and further ones by its size."""
LONGEST_MESSAGE, LONGEST_ERROR = 4096, 300
DIMENSIONS = 4


def main(path: str, clip: str, size: str, *descriptors: str) -> None:
    """Respond to chunks until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    slots = [mmap.mmap(int(descriptor), int(size)) for descriptor in descriptors]
    sandboxed_decoding.prepare()
    sandbox = Sandbox(slots, Clip(**json.loads(clip)))
    for line in sys.stdin:
        slot, names = json.loads(line)
        answer: list[list[int] | str | None] = []
        offset = 0
        for name in names:
            answer.append(entry := decode(sandbox, slot, offset, Path(path) / name))
            offset += math.prod(entry) if isinstance(entry, list) else 0
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def decode(sandbox: Sandbox, slot: int, offset: int, path: Path) -> list[int] | str | None:
    """Decode a file into a slot behind ``offset``: the clip's shape, an error message, or ``None`` if it was full."""
    try:
        with open_regular(path) as file:
            entry = sandbox.decode(slot, offset, file.fileno())
    except (InputError, OSError) as error:
        entry = getattr(error, "strerror", None) or str(error)
    return f"{path} is not a readable video ({entry})" if isinstance(entry, str) else entry


class Sandbox:
    """The child that decodes, started again after a file that ended it."""

    def __init__(self, slots: Sequence[mmap.mmap], clip: Clip) -> None:
        self._slots, self._clip = slots, clip
        self._window = mmap.mmap(-1, sandboxed_decoding.WINDOW)
        self._child = 0

    def decode(self, slot: int, offset: int, file: int) -> list[int] | str | None:
        """Decode an open file into a slot behind ``offset``: the clip's shape, its fault, or ``None`` if it was full.

        Raises:
            OSError: the file cannot be read.
        """
        size = os.fstat(file).st_size
        deadline = time.monotonic() + SECONDS + size // BYTES_A_SECOND
        if not self._child:
            self._start(deadline)
        message: Any = [slot, offset, size, self._load(file, 0)]
        while True:
            try:
                self._send(message)
                answer = self._receive(deadline)
                if not isinstance(answer, int):
                    return _checked(answer, len(self._slots[slot]) - offset)
            except (ValueError, BrokenPipeError):
                return self._end(late=time.monotonic() > deadline)
            message = self._load(file, max(0, answer))

    def _start(self, deadline: float) -> None:
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            sandboxed_decoding.serve(requests, answers, self._window, self._slots, self._clip)
        os.close(requests)
        os.close(answers)
        self._receive(deadline)  # it is ready

    def _load(self, file: int, start: int) -> int:
        """Read the bytes from ``start`` on into the window; return their number."""
        return os.preadv(file, [self._window], start)

    def _send(self, message: Any) -> None:
        os.write(self._requests, json.dumps(message).encode() + b"\n")

    def _receive(self, deadline: float) -> Any:
        line, poll = b"", select.poll()
        poll.register(self._answers, select.POLLIN)
        while not line.endswith(b"\n"):
            if len(line) > LONGEST_MESSAGE or not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise ValueError
            if not (part := os.read(self._answers, LONGEST_MESSAGE)):
                raise BrokenPipeError
            line += part
        return json.loads(line)

    def _end(self, *, late: bool) -> str:
        """End the child; how the file ended it."""
        os.close(self._requests)
        os.close(self._answers)
        os.kill(self._child, signal.SIGKILL)
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        return "its decoding takes too long" if late else f"it crashed its decoder (signal {os.WTERMSIG(status)})"


def _checked(entry: Any, room: int) -> list[int] | str | None:
    """An answer of the child, which the video may have taken over."""
    if isinstance(entry, str):
        return "".join(each for each in entry[:LONGEST_ERROR] if each.isprintable())
    if entry is None:
        return None
    if not isinstance(entry, list) or len(entry) != DIMENSIONS:
        raise ValueError
    if not all(isinstance(each, int) and each > 0 for each in entry) or math.prod(entry) > room:
        raise ValueError
    return entry


if __name__ == "__main__":
    main(*sys.argv[1:])
