"""Prefetching: processes decode images or videos into shared memory of bounded size before they are read."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from evalsvc.core.errors import InputError
from evalsvc.core.sandbox import restrictions
from evalsvc.inputs.images.decoding_process import Answer, empty

Positions: TypeAlias = Sequence[int] | Int64[np.ndarray, " n"]
Pixels = UInt8[np.ndarray, "..."]
Found: TypeAlias = Pixels | str
"""Decoded pixels, or an error message that names the file."""

WORTH = 1.0
"""Seconds of decoding from which on starting processes pays off."""
CHUNK, SLOTS, MOST = 32, 2, 16


class Decoder(Protocol):
    """How the files of one set are decoded: on demand, and by processes that decode ahead.

    ``what`` names the files ("images"), ``budget`` is the number of bytes of decoded files that may wait, and ``least``
    the size of a decoded file if all have the same, else 0.
    """

    what: str
    budget: int
    least: int

    @property
    def path(self) -> Path:
        """Where the files are, for errors."""
        ...

    def decode(self, names: Sequence[str]) -> list[Found]:
        """The pixels of these files, on demand."""
        ...

    def command(self) -> list[str]:
        """Module and first arguments of a process that decodes them (:class:`DecodingProcess`)."""
        ...


@runtime_checkable
class HandsOver(Protocol):
    """Optional interface of a decoder whose processes cannot open its files, but are given their content."""

    def content(self, name: str) -> bytes:
        """The encoded file; empty if it cannot be read."""
        ...


class Prefetcher:
    """Decoded files by position; those that are expected next are decoded ahead.

    Expected are the positions passed to :meth:`expect`, else the following positions. Small sets and unexpected
    positions are decoded on demand; the pixels are the same.
    """

    def __init__(self, decoder: Decoder, names: Sequence[str], *, worth: float = WORTH) -> None:
        self._decoder, self._names, self._worth = decoder, names, worth
        self._expected: Positions = range(len(names))
        self._decoded, self._seconds = 0, 0.0
        self._crew: _WorkerPool | None = None

    def expect(self, positions: Positions) -> None:
        """Announce the positions of the next reads, in order and in batches of any size."""
        if not np.array_equal(positions, self._expected):
            self._expected, self._crew = positions, None

    def read(self, start: int, stop: int) -> list[Found]:
        """Images ``start`` to ``stop``."""
        stop = min(stop, len(self._names))
        return self._read(range(start, stop), range(stop, len(self._names)))

    def read_at(self, positions: Positions) -> list[Found]:
        """The images at these positions, in this order."""
        return self._read(positions, ())

    def _read(self, wanted: Positions, after: Positions) -> list[Found]:
        """The images at ``wanted``; ``after`` them these are expected, if they were not already."""
        expected = np.array_equal(wanted, self._expected[: len(wanted)])
        crew, self._crew = self._crew if expected else None, None
        if crew is None and expected and self._pays(len(self._expected)):
            crew = _WorkerPool(self._decoder, self._names, self._expected)
        images = crew.take(len(wanted)) if crew else self._here(wanted)
        # Not after a failure; and at the end, no reads follow, while the set may be kept for long.
        self._expected = self._expected[len(wanted) :] if expected else after
        self._crew = crew if len(self._expected) else None
        return images

    def _here(self, positions: Positions) -> list[Found]:
        before = time.perf_counter()
        images = self._decoder.decode([self._names[i] for i in positions])
        self._seconds += time.perf_counter() - before
        self._decoded += len(images)
        return images

    def _pays(self, count: int) -> bool:
        return self._decoded > 0 and self._seconds / self._decoded * count > self._worth


class _WorkerPool:
    """Processes that take chunks in turn, in order, two chunks each, so that none waits while a slot is copied."""

    def __init__(self, decoder: Decoder, names: Sequence[str], positions: Positions) -> None:
        self._decoder, self._names, self._positions = decoder, names, positions
        self._asked = 0
        fitting = decoder.budget // SLOTS // decoder.least if decoder.least else MOST
        count = max(1, min(MOST, _cores(), fitting))
        self._slot_bytes = max(decoder.budget // SLOTS // count, decoder.least)
        self._workers = start_processes(decoder, count, self._slot_bytes)
        self._waiting: deque[tuple[DecodingProcess, list[str]]] = deque()
        self._ready: deque[Found] = deque()
        self._turn, self._bytes, self._images = 0, 0, 0

    def take(self, n: int) -> list[Found]:
        """The next ``n`` images; about as many more are requested before it returns."""
        images: list[Found] = []
        while len(images) < n:
            if not self._ready:
                self._ask(2 * n)
                self._collect()
            images.append(self._ready.popleft())
        self._ask(n)
        return images

    def _ask(self, ahead: int) -> None:
        """Send chunks until ``ahead`` images are requested, or every slot is full."""
        mean = self._bytes // self._images if self._images else self._slot_bytes
        chunk = max(1, min(CHUNK, self._slot_bytes // max(1, mean), ahead // (SLOTS * len(self._workers))))
        while sum(len(names) for _, names in self._waiting) < ahead and self._asked < len(self._positions):
            worker = self._workers[self._turn % len(self._workers)]
            if not worker.ask(names := [self._names[i] for i in self._positions[self._asked : self._asked + chunk]]):
                return
            self._waiting.append((worker, names))
            self._asked += len(names)
            self._turn += 1

    def _collect(self) -> None:
        """Wait for the oldest chunk; images that did not fit into its slot are decoded here."""
        worker, names = self._waiting.popleft()
        answer = worker.answer()
        if answer is None:
            raise InputError(
                f"{self._decoder.path}: the process that decoded {names[0]} to {names[-1]} died ({worker.end()}): "
                "one of them may be damaged, or memory ran out"
            )
        for name, entry in zip(names, answer, strict=True):
            pixels = self._decoder.decode([name])[0] if entry is None else entry
            if not isinstance(pixels, str):
                self._bytes += pixels.size
                self._images += 1
            self._ready.append(pixels)


def start_processes(decoder: Decoder, count: int, slot_bytes: int) -> list[DecodingProcess]:
    """Start processes that decode; too few descriptors or processes raise an error."""
    try:
        return [DecodingProcess(decoder, slot_bytes) for _ in range(count)]
    except OSError as error:
        raise InputError(
            f"{decoder.path}: cannot start {count} processes to decode its {decoder.what} "
            f"({error.strerror or error}): raise the limits on open files and processes ('ulimit -n 4096 -u 4096')"
        ) from None


class DecodingProcess:
    """A decoding process and its slots of anonymous shared memory, which its last user frees."""

    def __init__(self, decoder: Decoder, slot_bytes: int) -> None:
        arguments = [sys.executable, "-P", "-m", *decoder.command(), str(slot_bytes)]
        with ExitStack() as stack:
            descriptors = [stack.enter_context(_memory(slot_bytes)) for _ in range(SLOTS)]
            self._slots = [mmap.mmap(descriptor, slot_bytes) for descriptor in descriptors]
            self._process = subprocess.Popen(
                [*arguments, *map(str, descriptors)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # no access to our terminal
                pass_fds=descriptors,
                env=restrictions.environment() | restrictions.import_path(),
                text=True,
            )
        self._decoder = decoder
        self._busy: deque[int] = deque()
        self._turn = 0
        weakref.finalize(self, _stop, self._process)

    def ask(self, names: list[str]) -> bool:
        """Send it a chunk; ``False`` if both slots are in use."""
        if len(self._busy) == SLOTS:
            return False
        slot, self._turn = self._turn % SLOTS, self._turn + 1
        given = _put(self._slots[slot], self._decoder, names) if isinstance(self._decoder, HandsOver) else names
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it died, which is reported when its response is read
            self._process.stdin.write(json.dumps([slot, given]) + "\n")
            self._process.stdin.flush()
        self._busy.append(slot)
        return True

    def answer(self) -> list[Pixels | str | None] | None:
        """The oldest chunk, copied out of its slot; ``None`` if the process died."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            return None
        answer: Answer = json.loads(line)
        return empty(self._slots[self._busy.popleft()], answer)

    def end(self) -> str:
        """How the process ended."""
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit {code}"


def _put(slot: mmap.mmap, decoder: HandsOver, names: Sequence[str]) -> list[int]:
    """Write encoded files into a slot, one after the other, and return their lengths; 0 for those that do not fit."""
    lengths, end = [], 0
    for content in map(decoder.content, names):
        length = len(content) if end + len(content) <= len(slot) else 0
        slot[end : end + length] = content[:length]
        lengths.append(length)
        end += length
    return lengths


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _memory(size: int) -> Iterator[int]:
    """A descriptor of anonymous memory. Not in /dev/shm, of which containers have 64 MB before a bus error."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("evalsvc")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)


def _stop(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe
        with suppress(BrokenPipeError):
            pipe.close()
    process.kill()
    process.wait()
