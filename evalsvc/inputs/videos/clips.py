"""Clips: which frames of a video are read, and how large a clip may be. Does not import PyAV or torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif"}
MAX_PIXELS = 2**26
"""64 megapixels. A larger frame is refused before it is decoded, as a decompression bomb."""
MAX_BYTES = 2**29
"""512 MB: the largest clip. A longer one is refused before its memory is needed."""


class BadVideoError(ValueError):
    """A file cannot be read as a clip; the message completes ``FILE is not a readable video (...)``."""


@dataclass(frozen=True)
class Clip:
    """One clip from the beginning of a video: ``frames`` of them (all by default), ``fps`` a second (as stored by
    default).
    """

    frames: int | None = None
    fps: float | None = None


def is_video(name: str) -> bool:
    """Whether a name has the suffix of a video."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES
