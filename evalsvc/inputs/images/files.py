"""Sets of encoded images in a folder or zip archive, of any sizes and modes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from evalsvc.core.errors import InputError
from evalsvc.inputs.class_folders import folder_labels
from evalsvc.inputs.images.decoding import (
    IMAGE_SUFFIXES,
    BadImageError,
    Source,
    decode_from,
    has_colour,
    open_source,
    planes,
)
from evalsvc.inputs.prefetch import Found, Positions, Prefetcher
from evalsvc.inputs.skip_list import exclude_files
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Images, MixedImages

BLOCK = 256


@dataclass
class ImageDecoder:
    """Decodes the images of a source: in this process on demand, and ahead by processes, with the same pixels."""

    source: Source
    budget: int = 2**28
    least: int = 0
    what: str = "images"

    @property
    def path(self) -> Path:
        """The folder or archive."""
        return self.source.path

    def decode(self, names: Sequence[str]) -> list[Found]:
        """Each image, or the error message."""
        return [decode_from(self.source, name) for name in names]

    def command(self) -> list[str]:
        """Of :mod:`evalsvc.inputs.images.decoding_process`."""
        return ["evalsvc.inputs.images.decoding_process", str(self.path)]


class EncodedImages:
    """Encoded images of a source by name, of any sizes and modes.

    If any image has color, grayscale images are repeated to RGB. The next images are decoded ahead, in order or in the
    order passed to :meth:`expect`.
    """

    modality: Modality = "image"

    def __init__(self, decoder: ImageDecoder, names: Sequence[str]) -> None:
        self._encoded, self._names = decoder.source, names
        self._feed = Prefetcher(decoder, names)

    def __len__(self) -> int:
        return len(self._names)

    def expect(self, indices: Positions) -> None:
        """Announce the order of the next reads, so that these images are decoded ahead."""
        self._feed.expect(indices)

    def read(self, start: int, stop: int) -> Images | MixedImages:
        """Images ``start`` to ``stop``; an unreadable image raises an error that names it."""
        return self._batch(self._feed.read(start, stop))

    def read_at(self, indices: Sequence[int]) -> Images | MixedImages:
        """The images at these indices, in this order."""
        return self._batch(self._feed.read_at(indices))

    def file(self, index: int) -> bytes:
        """The encoded image; an unreadable file raises an error that names it."""
        name = self._names[index]
        try:
            return self._encoded.read(name)
        except (BadImageError, OSError) as error:
            raise InputError(f"{self._encoded.path}: {name} cannot be read ({error}): restore it") from None

    def _batch(self, decoded: list[Found]) -> Images | MixedImages:
        tensors = []
        for image in decoded:
            if isinstance(image, str):
                raise InputError(f"{image}: repair or remove it, or leave it out with --skip-bad")
            if image.ndim == 3:
                tensors.append(torch.from_numpy(planes(image)))
            else:
                tensors.append(torch.from_numpy(image).expand(self._channels, -1, -1))
        if len({tensor.shape for tensor in tensors}) == 1:
            return Images(torch.stack(tensors).contiguous())
        return MixedImages(tuple(tensors))

    def unreadable(self) -> tuple[str, ...]:
        """Names of all images that cannot be read. Decodes every image."""
        names = []
        for start in range(0, len(self), BLOCK):
            images = self._feed.read(start, start + BLOCK)
            names += [self._names[start + i] for i, each in enumerate(images) if isinstance(each, str)]
        return tuple(names)

    @cached_property
    def _channels(self) -> int:
        """Number of channels of every batch: three if any image of the set has color."""
        return 3 if any(has_colour(self._encoded, name) for name in self._names) else 1


class ImageFiles(EncodedImages):
    """All images of a folder or zip except those in ``skip``, in the order of their names.

    Hidden and system files are excluded.
    """

    def __init__(self, path: Path, skip: Collection[str] = ()) -> None:
        self._source, self.skipped = open_source(path), tuple(sorted(skip))
        names = exclude_files(path, self._source.names(), skip, "images")
        if not names:
            raise InputError(f"{path} contains no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        if len(names) == 1:
            raise InputError(f"{path} contains a single image, {names[0]}: use a set of two or more")
        super().__init__(ImageDecoder(self._source), names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files without their suffixes."""
        return tuple(name.rpartition(".")[0] for name in self._names)

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class labels by folder (:func:`~evalsvc.inputs.class_folders.folder_labels`)."""
        return folder_labels(self._names)

    def digest(self) -> str:
        """sha256 of the archive, or of the images of the folder, as they are now."""
        return self._source.digest(self._names)
