"""Videos whose frames are images: a folder of folders, one for each video."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from evalsvc.core.digests import digest_files
from evalsvc.core.errors import InputError
from evalsvc.inputs.class_folders import folder_labels
from evalsvc.inputs.images.decoding import FolderSource
from evalsvc.inputs.images.files import ImageDecoder
from evalsvc.inputs.prefetch import Found, Positions, Prefetcher
from evalsvc.inputs.skip_list import exclude_files
from evalsvc.inputs.videos.files import BLOCK, readable, require_shape
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Videos

_DIGITS = re.compile("([0-9]+)")


class FrameFolders:
    """Videos in the folders of the named images, except those in ``skip``: the first ``frames`` images of each, in RGB.

    Images are in the order of the numbers in their names: ``f2.png`` precedes ``f10.png``. The next videos are decoded
    ahead, in order or in the order passed to :meth:`expect`.
    """

    modality: Modality = "video"

    def __init__(self, path: Path, names: Iterable[str], frames: int, skip: Collection[str] = ()) -> None:
        by_folder: dict[str, list[str]] = {}
        for name in names:
            by_folder.setdefault(name.rpartition("/")[0], []).append(name)
        if "" in by_folder:
            raise InputError(
                f"{path} contains images beside its folders: give each video a folder of its own, or omit frames"
            )
        self._path, self._frames, self.skipped = path, frames, tuple(sorted(skip))
        self._folders = exclude_files(path, sorted(by_folder), skip, "videos")
        self._files = [sorted(by_folder[folder], key=_natural)[:frames] for folder in self._folders]
        self._starts = [0, *accumulate(map(len, self._files))]
        self._decoder = ImageDecoder(FolderSource(path))
        self._feed = Prefetcher(self._decoder, [name for each in self._files for name in each])

    def __len__(self) -> int:
        return len(self._folders)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the folders."""
        return tuple(self._folders)

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class labels by top folder (:func:`~evalsvc.inputs.class_folders.folder_labels`)."""
        return folder_labels(self._folders)

    def digest(self) -> str:
        """sha256 of the current content of the images that are used."""
        return digest_files(self._path, sorted(name for each in self._files for name in each))

    def expect(self, indices: Positions) -> None:
        """Announce the order of the next reads, so that these videos are decoded ahead."""
        self._feed.expect(self._frames_of(indices))

    def read(self, start: int, stop: int) -> Videos:
        """Clips ``start`` to ``stop``; a damaged or missing frame, or another size, raises an error that names it."""
        stop = min(stop, len(self))
        return self._batch(range(start, stop), self._feed.read(self._starts[start], self._starts[stop]))

    def read_at(self, indices: Sequence[int]) -> Videos:
        """The clips at these indices, in this order."""
        return self._batch(indices, self._feed.read_at(self._frames_of(indices)))

    def unreadable(self) -> tuple[str, ...]:
        """Names of all folders with a damaged or missing frame. Decodes every frame that is used."""
        names = []
        for start in range(0, len(self), BLOCK):
            block = range(start, min(start + BLOCK, len(self)))
            found = iter(self._feed.read(self._starts[block.start], self._starts[block.stop]))
            names += [self._folders[i] for i in block if isinstance(self._clip(i, found), str)]
        return tuple(names)

    def _frames_of(self, indices: Positions) -> Int64[np.ndarray, " n"]:
        ranges = [np.arange(self._starts[i], self._starts[i + 1]) for i in indices]
        return np.concatenate([np.zeros(0, np.int64), *ranges])

    def _batch(self, indices: Sequence[int], images: Iterable[Found]) -> Videos:
        images = iter(images)
        clips = [readable(self._clip(index, images)) for index in indices]
        for index, clip in zip(indices, clips, strict=True):
            require_shape(self._path, self._folders[index], clip.shape, self._shape)
        return Videos(torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3))

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return readable(self._clip(0, self._decoder.decode(self._files[0]))).shape

    def _clip(self, index: int, images: Iterable[Found]) -> Found:
        """The clip (t, h, w, 3) of one folder from the next images, or an error message."""
        files, bad = self._files[index], ""
        frames = []
        for _, image in zip(files, images, strict=False):  # files first, whose end takes no image
            if isinstance(image, str):
                bad = bad or image
            else:
                frames.append(image if image.ndim == 3 else np.repeat(image[:, :, None], 3, 2))
        if bad:
            return bad
        if len(files) < self._frames:
            have = f"has {len(files)} frames, fewer than the {self._frames} of a clip"
            return f"{self._path / self._folders[index]} {have}"
        if len({frame.shape for frame in frames}) > 1:
            return f"{self._path / self._folders[index]} mixes frames of several sizes"
        return np.stack(frames)


def _natural(name: str) -> list[str | int]:
    """Parts of a name for sorting: numbers by their values."""
    return [int(part) if place % 2 else part for place, part in enumerate(_DIGITS.split(name))]
