"""Media of items: images, sounds and videos in files beside the item file, or in its cells."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.inputs.images.decoding import IMAGE_SUFFIXES, MAX_BYTES, BadImageError, decode
from evalsvc.inputs.items.cells import CellError, is_empty
from evalsvc.inputs.sounds.decoding import SOUND_SUFFIXES, BadSoundError
from evalsvc.inputs.sounds.decoding import decode as decode_sound
from evalsvc.inputs.videos.arrays import clip_of
from evalsvc.inputs.videos.clips import VIDEO_SUFFIXES
from evalsvc.inputs.videos.files import decode_content
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Audio, Images, Samples, Videos, concatenate

SUFFIXES: dict[str, Modality] = {
    **dict.fromkeys(sorted(IMAGE_SUFFIXES), "image"),
    **dict.fromkeys(sorted(SOUND_SUFFIXES), "audio"),
    **dict.fromkeys(sorted({".npy", *VIDEO_SUFFIXES}), "video"),
}
"""Suffixes of media files; a ``.npy`` has the frames of a video, uint8 of shape (t, h, w, c) or (t, c, h, w)."""
_MAGIC = {
    **{b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"\x93NUMPY": ".npy", b"RIFF": ".wav"},
    **{b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"\xff\xf3": ".mp3"},
    **{b"\x1a\x45\xdf\xa3": ".webm", b"GIF8": ".gif"},
}
_KINDS = {b"WEBP": ".webp", b"AVI ": ".avi"}
"""Kinds of RIFF files other than sounds."""


@dataclass(frozen=True)
class MediaFile:
    """A file or a cell; ``place`` names its row in errors."""

    name: str
    place: str
    source: Path | bytes

    def read(self) -> bytes:
        """Its content."""
        if isinstance(self.source, bytes):
            return self.source
        with open_regular(self.source) as file:
            return file.read()


def modality_of(name: str) -> Modality | None:
    """Modality of a media file by the suffix of its name."""
    return SUFFIXES.get(PurePosixPath(name).suffix.lower())


def holds_media(values: Sequence[Any]) -> bool:
    """Whether the cells of a column hold media, or name files of media."""
    there = [value for value in values if not is_empty(value)]
    return bool(there) and all(
        isinstance(value, bytes) or _is_feature(value) or (isinstance(value, str) and modality_of(value) is not None)
        for value in there
    )


def media_file(value: Any, folder: Path, place: str) -> MediaFile:
    """The media of one cell: bytes, an object with ``bytes`` and ``path``, or the name of a file below ``folder``.

    Raises:
        CellError: it is empty, of an unknown format or too large, or the file is missing or outside of the folder.
    """
    path = value
    if _is_feature(value):
        value, path = value["bytes"], value.get("path") or ""
        value = path if value is None else value
    if is_empty(value):
        raise CellError("has no file: every item needs one")
    if isinstance(value, bytes):
        suffix = _suffix(value, path if isinstance(path, str) else "")
        if len(value) > MAX_BYTES:
            raise CellError(f"has more than {MAX_BYTES:,} bytes")
        return MediaFile(f"{hashlib.sha256(value).hexdigest()}{suffix}", place, value)
    file = beside(folder, value)
    return MediaFile(f"{digest_path(file)}{file.suffix.lower()}", place, file)


def decoded(content: bytes, name: str) -> Samples:
    """A batch of one sample from the content of a media file.

    Raises:
        InputError: it is damaged.
    """
    modality = modality_of(name)
    if modality == "image":
        try:
            pixels = torch.from_numpy(np.ascontiguousarray(decode(content)))
        except BadImageError as error:
            raise InputError(f"is not a readable image ({error})") from None
        return Images(pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()[None])
    if modality == "audio":
        try:
            rate, wave = decode_sound(io.BytesIO(content))
        except BadSoundError as error:
            raise InputError(str(error)) from None
        return Audio((torch.from_numpy(wave),), rate)
    if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES:
        return Videos(torch.from_numpy(decode_content(content)).permute(0, 3, 1, 2)[None])
    return Videos(torch.from_numpy(np.ascontiguousarray(clip_of(content)))[None])


def read_media(read: Callable[[str], bytes], names: Sequence[str]) -> Samples:
    """The samples of these media files, whose content ``read`` returns, in order; each file is read once."""
    each = {name: decoded(read(name), name) for name in dict.fromkeys(names)}
    parts = [each[name] for name in names]
    if isinstance(parts[0], Images):
        return concatenate(parts)
    check_alike(parts, names)
    return concatenate(parts)


def check_alike(parts: Sequence[Samples], places: Sequence[str]) -> None:
    """Raise unless sounds have one rate, and videos one shape, which batches of them need."""
    shapes = [_shape(part) for part in parts]
    if other := next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None):
        raise InputError(f"{places[other]} has {shapes[other]}, and {places[0]} has {shapes[0]}: convert them to one")


def _shape(part: Samples) -> str:
    if isinstance(part, Audio):
        return f"{part.rate} Hz"
    return f"frames of shape {tuple(part.pixels.shape[1:])}" if isinstance(part, Videos) else ""


def _is_feature(value: Any) -> bool:
    return isinstance(value, Mapping) and "bytes" in value and set(value) <= {"bytes", "path"}


def _suffix(content: bytes, path: str) -> str:
    if content[8:12] in _KINDS:
        return _KINDS[content[8:12]]
    if content[4:8] == b"ftyp":
        return ".mp4"
    known = next((suffix for magic, suffix in _MAGIC.items() if content.startswith(magic)), "")
    suffix = known or PurePosixPath(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise CellError(f"holds an unknown format: use one of {', '.join(SUFFIXES)}")
    return suffix


def beside(folder: Path, name: str) -> Path:
    """The file of this name below a folder; raises a :class:`CellError` if it is missing, outside or too large."""
    root = folder.resolve()
    try:
        file = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):
        raise CellError("is not the name of a file") from None
    if not file.is_relative_to(root):
        raise CellError(f"names a file outside of {folder}: move it there")
    if not file.is_file():
        raise CellError(f"names the file {name[:100]!r}, which is not in {folder}: add it")
    if file.stat().st_size > MAX_BYTES:
        raise CellError(f"names a file of more than {MAX_BYTES:,} bytes")
    return file
