"""Videos in arrays: one array of clips, or a folder of files with one clip each."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.videos.clips import MAX_BYTES
from evalsvc.inputs.videos.files import NamedVideos, readable, require_shape
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Videos

CHANNELS = (1, 3)


def channels_first(clips: np.ndarray) -> UInt8[np.ndarray, "... t c h w"] | None:
    """A view (..., t, c, h, w) of uint8 clips whose channels, one or three, are the last or third last axis.

    ``None`` if there is no such axis, or if the array is empty or of another type.
    """
    if clips.dtype != np.uint8 or clips.ndim < 4 or not clips.size:
        return None
    if clips.shape[-1] in CHANNELS:
        return np.moveaxis(clips, -1, -3)
    return clips if clips.shape[-3] in CHANNELS else None


def clip_of(content: bytes) -> UInt8[np.ndarray, "t c h w"]:
    """The clip in the content of a ``.npy``: uint8 of shape (t, h, w, c) or (t, c, h, w).

    Raises:
        InputError: it is something else; the message completes the name of the file.
    """
    try:
        frames = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, TypeError, MemoryError, SyntaxError) as error:
        raise InputError(f"is not a readable array file ({error})") from None
    clip = channels_first(frames) if isinstance(frames, np.ndarray) and frames.ndim == 4 else None
    if clip is None:
        held = f"{frames.dtype} of shape {frames.shape}" if isinstance(frames, np.ndarray) else "an archive"
        raise InputError(f"is not a video (it has {held}): use uint8 frames (t, h, w, c) with 1 or 3 channels")
    return clip


class VideoArray:
    """Clips in one array (n, t, c, h, w) or (n, t, h, w, c) of uint8 with one or three channels.

    ``frames`` is the number of frames that are used, from the first; all by default.
    """

    modality: Modality = "video"

    def __init__(
        self, path: Path, array: np.ndarray, labels: Int64[np.ndarray, " n"] | None = None, frames: int | None = None
    ) -> None:
        clips = channels_first(array)
        if clips is None:
            raise InputError(
                f"{path} contains an array of dtype {array.dtype} and shape {array.shape}, expected uint8 videos "
                "(n, t, h, w, c) with 1 or 3 channels"
            )
        if frames and clips.shape[1] < frames:
            raise InputError(f"{path} has clips of {clips.shape[1]} frames, fewer than {frames}: use fewer frames")
        self._path, self._clips = path, clips[:, :frames]
        self.labels = np.full(len(clips), -1) if labels is None else labels

    def __len__(self) -> int:
        return len(self._clips)

    def digest(self) -> str:
        """sha256 of the current content of the file."""
        return digest_path(self._path)

    def read(self, start: int, stop: int) -> Videos:
        """Clips ``start`` to ``stop``, copied from the file."""
        return Videos(torch.from_numpy(np.array(self._clips[start:stop])))

    def read_at(self, indices: Sequence[int]) -> Videos:
        """The clips at these indices, copied from the file."""
        return Videos(torch.from_numpy(np.ascontiguousarray(self._clips[np.asarray(indices, np.int64)])))


class ClipArrays(NamedVideos):
    """The named ``.npy`` of a folder, except those in ``skip``, with one clip each (:func:`clip_of`).

    ``frames`` is the number of frames that are used, from the first; all by default.
    """

    def __init__(self, path: Path, names: Iterable[str], frames: int | None, skip: Collection[str] = ()) -> None:
        super().__init__(path, names, skip)
        self._frames = frames

    def read(self, start: int, stop: int) -> Videos:
        """Clips ``start`` to ``stop``; an unreadable file, or one of another shape, raises an error that names it."""
        return self.read_at(range(start, min(stop, len(self))))

    def read_at(self, indices: Sequence[int]) -> Videos:
        """The clips at these indices, in this order."""
        clips = []
        for name in (self._names[index] for index in indices):
            clip = readable(self._clip(name))
            require_shape(self._path, name, _seen(clip), self._shape)
            clips.append(clip)
        return Videos(torch.from_numpy(np.stack(clips)))

    def unreadable(self) -> tuple[str, ...]:
        """Names of all files that cannot be read. Reads every file."""
        return tuple(name for name in self._names if isinstance(self._clip(name), str))

    def _clip(self, name: str) -> UInt8[np.ndarray, "t c h w"] | str:
        try:
            with open_regular(self._path / name) as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise InputError(f"has more than {MAX_BYTES:,} bytes")
            clip = clip_of(content)
            if self._frames and len(clip) < self._frames:
                raise InputError(f"has {len(clip)} frames, fewer than the {self._frames} of a clip")
        except (InputError, OSError) as error:
            return f"{self._path / name} {getattr(error, 'strerror', None) or error}"
        return clip[: self._frames]

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        clip = self._clip(self._names[0])
        return () if isinstance(clip, str) else _seen(clip)


def _seen(clip: UInt8[np.ndarray, "t c h w"]) -> tuple[int, ...]:
    """The shape (t, h, w, c)."""
    t, c, h, w = clip.shape
    return t, h, w, c
