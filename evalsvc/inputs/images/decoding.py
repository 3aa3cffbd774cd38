"""Decoding of image files to pixels, by mode. Does not import torch, so that decoding processes start quickly."""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from evalsvc.core.digests import digest_files, digest_json, digest_path, walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular
from evalsvc.core.files.system_files import is_system_file

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"}
MAX_PIXELS = 2**26
"""64 megapixels. A larger image is refused before it is decoded, as a decompression bomb."""
MAX_BYTES = 4 * MAX_PIXELS
_BOMB = f"it would unpack to more than {MAX_PIXELS} pixels and looks like a decompression bomb"
_PNG = b"\x89PNG\r\n\x1a\n"
_PILLOWS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp", b"acTL")
"""PNG chunks that may contain an orientation or several frames, which OpenCV handles differently."""

_GREY = ("1", "L", "LA", "La")
"""Pillow's modes of grayscale images."""
_GREY_PNG = (0, 4)
"""The same for PNGs, by the color type in the header."""

Pixels = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]


def _opencv() -> Any:
    """OpenCV if it is installed, for speed; Pillow gives the same pixels."""
    try:
        import cv2
    except ImportError:
        return None
    if int(cv2.__version__.partition(".")[0]) < 5:  # silently returned the upper part of a truncated JPEG
        return None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # one sentence names a damaged file
    return cv2


cv2 = _opencv()


class BadImageError(ValueError):
    """A file cannot be decoded; the message completes ``FILE is not a readable image (...)``."""


def decode(data: bytes) -> Pixels:
    """Decode an image to pixels: (h, w) if it is grayscale, (h, w, 3) RGB if it has color.

    Alpha is dropped and palettes are applied, as in published tools. CMYK, YCbCr and LAB are converted to RGB by
    Pillow. Of 16 bits, the upper eight are kept. EXIF orientations are applied. Only the first frame is used. Floats,
    and integers of more than 16 bits, have no defined range and raise :class:`BadImageError`.
    """
    try:
        return _plain_png(data) if data.startswith(_PNG) and len(data) > 26 else _by_pillow(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(_BOMB) from None
    except UnidentifiedImageError:
        raise BadImageError("its content is not a known image format") from None
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # Pillow's readers raise errors of many types for damaged files: struct.error, RuntimeError, ...
        raise BadImageError(str(error)) from None


def planes(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "3 h w"]:
    """The channels of an image one after the other; many times as fast by OpenCV."""
    if cv2 is None:
        return np.ascontiguousarray(image.transpose(2, 0, 1))
    separate = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(separate))
    return separate


def _plain_png(data: bytes) -> Pixels:
    """Decode a PNG of 8 bits without palette, orientation or frames with OpenCV, any other with Pillow."""
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    _refuse_bomb(width, height)
    if cv2 is not None and depth == 8 and kind in (0, 2, 6) and not any(mark in data for mark in _PILLOWS):
        pixels = _by_opencv(data, gray=kind == 0)
        if pixels is not None:
            return pixels
    return _by_pillow(data)


def _by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        _refuse_bomb(*image.size)
        turned = image.getexif().get(0x0112, 1) != 1
        if cv2 is not None and image.format == "JPEG" and image.mode in ("L", "RGB") and not turned:
            pixels = _by_opencv(data, gray=image.mode == "L")
            if pixels is not None:
                return pixels
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            return _upper_eight_bits(np.asarray(upright))
        if upright.mode == "F":
            raise BadImageError("it contains floats of unknown range: convert it to 8 bits")
        return np.array(upright.convert("L" if upright.mode in _GREY else "RGB"))


def _by_opencv(data: bytes, *, gray: bool) -> Pixels | None:
    """``None`` if OpenCV reports damage: Pillow then names it or decodes the image."""
    flags = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR_RGB
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else np.asarray(pixels)


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} x {height}: {_BOMB}")


def _upper_eight_bits(levels: np.ndarray) -> Pixels:
    if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) < 2**16:
        raise BadImageError("it contains integers of more than 16 bits: convert it to 8 bits")
    return (levels >> 8).astype(np.uint8)


# --- sources of encoded images ---


class Source(Protocol):
    """Encoded images by name."""

    path: Path

    def read(self, name: str) -> bytes:
        """The encoded image; raises a :class:`BadImageError` if there is none."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """The encoded image as a file, for reading its first bytes."""
        ...


class FolderSource:
    """All images in a folder and its subfolders, named by their relative paths."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Names without hidden and system files, sorted by the parts of their paths."""
        return [name for name in walk(self.path, exclude_files=is_system_file) if is_image(name)]

    def digest(self, names: Sequence[str]) -> str:
        """sha256 of these files only."""
        return digest_files(self.path, names)

    def read(self, name: str) -> bytes:
        """The file's bytes; a file that is too large for an image is refused."""
        file = os.path.join(self.path, name)  # noqa: PTH118 (a Path costs as much as opening the file)
        with open_regular(file) as opened:
            if os.fstat(opened.fileno()).st_size > MAX_BYTES:
                raise BadImageError(f"it has more than {MAX_BYTES} bytes")
            return opened.read()

    def open(self, name: str) -> IO[bytes]:
        """The file."""
        return open_regular(self.path / name)


class ZipSource:
    """All images in a zip archive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise InputError(f"{self.path} is not a readable zip archive ({error})") from None

    def names(self) -> list[str]:
        """Sorted."""
        return sorted({name for name in self._images if not is_system_file(name)})

    def digest(self, names: Sequence[str]) -> str:
        """sha256 of the archive, and of the included names if system files are excluded."""
        whole = digest_path(self.path)
        return digest_json([whole, names]) if any(map(is_system_file, self._images)) else whole

    @property
    def _images(self) -> list[str]:
        return [info.filename for info in self._archive.infolist() if not info.is_dir() and is_image(info.filename)]

    def read(self, name: str) -> bytes:
        """The unpacked bytes; a member that is too large for an image is refused."""
        if self._archive.getinfo(name).file_size > MAX_BYTES:
            raise BadImageError(f"it would unpack to more than {MAX_BYTES} bytes and looks like a decompression bomb")
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last if a password is required
            raise BadImageError(str(error)) from None

    def open(self, name: str) -> IO[bytes]:
        """The member, unpacked while it is read."""
        return self._archive.open(name)


def open_source(path: Path) -> FolderSource | ZipSource:
    """The source at a folder or a ``.zip``."""
    return FolderSource(path) if path.is_dir() else ZipSource(path)


def decode_from(source: Source, name: str) -> Pixels | str:
    """The pixels of one image, or the error message."""
    try:
        return decode(source.read(name))
    except (BadImageError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):  # not a fault of this file
            raise InputError(
                f"{source.path}: {name} could not be opened ({error.strerror}): raise 'ulimit -n'"
            ) from None
        return f"{source.path}: {name} is not a readable image ({error})"


def has_colour(source: Source, name: str) -> bool:
    """Whether :func:`decode` returns three channels, from the header only; ``False`` for damaged files."""
    try:
        with source.open(name) as file:
            head = file.read(26)
            if head.startswith(_PNG):
                return head[25] not in _GREY_PNG
            file.seek(0)
            with Image.open(file) as image:
                return image.mode not in _GREY and image.mode != "F" and not image.mode.startswith("I")
    except Exception:  # decoding reports the error
        return False


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
