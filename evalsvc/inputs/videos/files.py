"""Sets of video files in a folder."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import tempfile
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from evalsvc.core.digests import digest_files
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import read_whole
from evalsvc.inputs.class_folders import folder_labels
from evalsvc.inputs.prefetch import DecodingProcess, Found, Pixels, Positions, Prefetcher, start_processes
from evalsvc.inputs.skip_list import exclude_files
from evalsvc.inputs.videos.clips import MAX_BYTES, Clip
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Videos

BLOCK = 16


class VideoDecoder:
    """Decodes the files below ``path`` in sandboxed processes; this one never reads them."""

    what = "videos"
    budget = 2**30

    def __init__(self, path: Path, clip: Clip) -> None:
        if importlib.util.find_spec("av") is None:
            raise InputError(f"{path} contains videos, which need an extra: pip install 'evalsvc[video]'")
        self.path, self.least = path, 0
        self._clip = clip
        self._process: DecodingProcess | None = None
        self._owner = 0

    def decode(self, names: Sequence[str]) -> list[Found]:
        """The clip (t, h, w, 3) of each file, or the error message."""
        return [self._decode(name) for name in names]

    def command(self) -> list[str]:
        """Of :mod:`evalsvc.inputs.videos.decoding_process`."""
        return ["evalsvc.inputs.videos.decoding_process", str(self.path), json.dumps(asdict(self._clip))]

    def _decode(self, name: str) -> Found:
        if self._process is None or self._owner != os.getpid():  # a forked process must not use its pipes
            (self._process,), self._owner = start_processes(self, 1, MAX_BYTES), os.getpid()
        self._process.ask([name])
        answer = self._process.answer()
        if answer is None:
            end, self._process = self._process.end(), None
            raise InputError(f"{self.path}: the process that decoded {name} died ({end}): memory may have run out")
        (clip,) = answer
        if clip is None:
            return f"{self.path / name}: its clip has more than {MAX_BYTES:,} bytes: use fewer frames, or smaller ones"
        if not isinstance(clip, str):
            self.least = max(self.least, clip.size)
        return clip


def decode_content(content: bytes) -> Pixels:
    """All frames (t, h, w, 3) of the video with this content, decoded like those of files.

    Raises:
        InputError: it cannot be read; the message completes the name of the video.
    """
    with _LOCK:
        folder, decoder = _scratch()
        file = Path(folder.name, "video")
        file.write_bytes(content)
        (clip,) = decoder.decode([file.name])
        file.unlink()
    if isinstance(clip, str):
        raise InputError(clip.removeprefix(f"{file} "))
    return clip


_LOCK = threading.Lock()


@functools.cache
def _scratch() -> tuple[tempfile.TemporaryDirectory[str], VideoDecoder]:
    """A folder for one video at a time, and a decoder of it, which keeps its process."""
    folder = tempfile.TemporaryDirectory(prefix="evalsvc-")
    return folder, VideoDecoder(Path(folder.name), Clip())


class NamedVideos:
    """The named files of a folder, except those in ``skip``, with one clip each."""

    modality: Modality = "video"

    def __init__(self, path: Path, names: Iterable[str], skip: Collection[str]) -> None:
        self._path, self.skipped = path, tuple(sorted(skip))
        self._names = exclude_files(path, names, skip, "videos")

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files without their suffixes."""
        return tuple(name.rpartition(".")[0] for name in self._names)

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class labels by folder (:func:`~evalsvc.inputs.class_folders.folder_labels`)."""
        return folder_labels(self._names)

    def digest(self) -> str:
        """sha256 of the current content of the files."""
        return digest_files(self._path, self._names)


class VideoFiles(NamedVideos):
    """The named videos of a folder, except those in ``skip``: one clip from the beginning of each, in RGB.

    All clips must have one size and one number of frames. The next videos are decoded ahead, in order or in the order
    passed to :meth:`expect`.
    """

    def __init__(self, path: Path, names: Iterable[str], clip: Clip, skip: Collection[str] = ()) -> None:
        super().__init__(path, names, skip)
        self._decoder = VideoDecoder(path, clip)
        self._feed = Prefetcher(self._decoder, self._names)

    def expect(self, indices: Positions) -> None:
        """Announce the order of the next reads, so that these videos are decoded ahead."""
        self._feed.expect(indices)

    def read(self, start: int, stop: int) -> Videos:
        """Clips ``start`` to ``stop``; an unreadable video, or one of another shape, raises an error that names it."""
        stop = min(stop, len(self))
        return self._batch(range(start, stop), self._feed.read(start, stop))

    def read_at(self, indices: Sequence[int]) -> Videos:
        """The clips at these indices, in this order."""
        return self._batch(indices, self._feed.read_at(indices))

    def file(self, index: int) -> bytes:
        """The encoded video."""
        return read_whole(self._path / self._names[index])

    def unreadable(self) -> tuple[str, ...]:
        """Names of all videos that cannot be read. Decodes every video."""
        names = []
        for start in range(0, len(self), BLOCK):
            clips = self._feed.read(start, start + BLOCK)
            names += [self._names[start + i] for i, each in enumerate(clips) if isinstance(each, str)]
        return tuple(names)

    def _batch(self, indices: Sequence[int], clips: Sequence[Found]) -> Videos:
        alike = [readable(clip) for clip in clips]
        for index, clip in zip(indices, alike, strict=True):
            require_shape(self._path, self._names[index], clip.shape, self._shape)
        # Channels stay last in memory, as they are in the files: a copy would cost a third of the decoding.
        return Videos(torch.from_numpy(np.stack(alike)).permute(0, 1, 4, 2, 3))

    @functools.cached_property
    def _shape(self) -> tuple[int, ...]:
        return readable(self._decoder.decode(self._names[:1])[0]).shape


def readable(clip: Found) -> Pixels:
    """The clip; an error message is raised, with the way out."""
    if isinstance(clip, str):
        raise InputError(f"{clip}: repair or remove it, or leave it out with --skip-bad")
    return clip


def require_shape(path: Path, name: str, shape: tuple[int, ...], first: tuple[int, ...]) -> None:
    """Raise unless the clip ``name``, of shape (t, h, w, c), has the shape of the first clip of a set."""
    if shape[0] != first[0]:
        raise InputError(
            f"{path} mixes lengths: {name} has {shape[0]} frames and the first video {first[0]}: "
            "cut them to one with the option frames, such as frames=16"
        )
    if shape != first:
        raise InputError(
            f"{path} mixes sizes: {name} has {shape[2]} x {shape[1]} pixels in {shape[3]} channels and the first video "
            f"{first[2]} x {first[1]} in {first[3]}: convert them to one size"
        )
