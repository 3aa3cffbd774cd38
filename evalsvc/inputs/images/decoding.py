"""From encoded files to pixels, one rule a mode. Imports no torch, so that a decoding process starts at once."""

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
_BOMB = f"it would unpack to over {MAX_PIXELS} pixels and looks like a decompression bomb"
_PNG = b"\x89PNG\r\n\x1a\n"
_PILLOWS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp", b"acTL")
"""Of a PNG: the three places where an orientation is noted, and several frames: OpenCV takes another for the first."""

_GREY = ("1", "L", "LA", "La")
"""Pillow's modes of grey images."""
_GREY_PNG = (0, 4)
"""The same of PNGs, by the colour type in the header."""

Pixels = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]


def _opencv() -> Any:
    """OpenCV where it is installed, for speed; Pillow alone gives the same pixels."""
    try:
        import cv2
    except ImportError:
        return None
    # Before version 5 it gave the upper half of a truncated JPEG without a word.
    return cv2 if int(cv2.__version__.partition(".")[0]) >= 5 else None


cv2 = _opencv()


class BadImageError(ValueError):
    """Why a file gives no pixels; the message completes ``FILE is no readable image (...)``."""


def decode(data: bytes) -> Pixels:
    """The pixels of an encoded image: (h, w) where it is grey, (h, w, 3) RGB where it has colour.

    Alpha is dropped and palettes are looked up, as every published tool does. CMYK, YCbCr and LAB become RGB by
    Pillow's rules. Of 16 bits the upper eight are kept. An EXIF orientation is applied. Of several frames the first
    counts. Floats, and integers beyond 16 bits, have no range to go by and are refused with :class:`BadImageError`.
    """
    try:
        return _plain_png(data) if data.startswith(_PNG) and len(data) > 26 else _by_pillow(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(_BOMB) from None
    except UnidentifiedImageError:
        raise BadImageError("its content is of no known image format") from None
    except MemoryError:
        raise
    except Exception as error:  # damage meets Pillow's many readers unprepared: struct.error, RuntimeError, ...
        raise BadImageError(str(error)) from None


def _plain_png(data: bytes) -> Pixels:
    """A PNG of 8 bits without a palette, a turn or frames by OpenCV, any other by Pillow."""
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    _refuse_bomb(width, height)
    if cv2 is not None and depth == 8 and kind in (0, 2, 6) and not any(mark in data for mark in _PILLOWS):
        found = _by_opencv(data, grey=kind == 0)
        if found is not None:
            return found
    return _by_pillow(data)


def _by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        _refuse_bomb(*image.size)
        turned = image.getexif().get(0x0112, 1) != 1
        if cv2 is not None and image.format == "JPEG" and image.mode in ("L", "RGB") and not turned:
            found = _by_opencv(data, grey=image.mode == "L")
            if found is not None:
                return found
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            return _upper_eight_bits(np.asarray(upright))
        if upright.mode == "F":
            raise BadImageError("it holds floats, whose range nobody knows: convert it to 8 bits")
        return np.array(upright.convert("L" if upright.mode in _GREY else "RGB"))


def _by_opencv(data: bytes, *, grey: bool) -> Pixels | None:
    """``None`` where OpenCV sees damage: Pillow then says which, or reads on as it always did."""
    flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    found = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if found is None else np.asarray(found)


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} x {height}: {_BOMB}")


def _upper_eight_bits(levels: np.ndarray) -> Pixels:
    if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) < 2**16:
        raise BadImageError("it holds integers beyond 16 bits: convert it to 8 bits")
    return (levels >> 8).astype(np.uint8)


# --- where encoded images lie ---


class Source(Protocol):
    """A folder or an archive of encoded images."""

    path: Path

    def names(self) -> list[str]:
        """All images by name, sorted; hidden and system files are none."""
        ...

    def digest(self, names: Sequence[str]) -> str:
        """sha256 of these images as they are now."""
        ...

    def read(self, name: str) -> bytes:
        """The encoded image."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """The encoded image as a file, of which a few bytes may be enough."""
        ...


class FolderSource:
    """All images below a folder, named by their relative paths."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Sorted as their paths are, part by part."""
        return [name for name in walk(self.path, exclude_files=is_system_file) if is_image(name)]

    def digest(self, names: Sequence[str]) -> str:
        """sha256 of these files alone."""
        return digest_files(self.path, names)

    def read(self, name: str) -> bytes:
        """The file's bytes; one that no image of a sane size could fill is refused."""
        file = os.path.join(self.path, name)  # noqa: PTH118 (a Path costs as much as opening the file)
        with open_regular(file) as opened:
            if os.fstat(opened.fileno()).st_size > MAX_BYTES:
                raise BadImageError(f"it has over {MAX_BYTES} bytes")
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
            raise InputError(f"{self.path} is no readable zip ({error})") from None

    def names(self) -> list[str]:
        """Sorted."""
        return sorted({name for name in self._images if not is_system_file(name)})

    def digest(self, names: Sequence[str]) -> str:
        """sha256 of the archive; where it holds images that are left out as system files, of their names too."""
        whole = digest_path(self.path)
        return digest_json([whole, names]) if any(map(is_system_file, self._images)) else whole

    @property
    def _images(self) -> list[str]:
        return [info.filename for info in self._archive.infolist() if not info.is_dir() and is_image(info.filename)]

    def read(self, name: str) -> bytes:
        """The unpacked bytes; a member that would unpack to more than any image of a sane size is refused."""
        if self._archive.getinfo(name).file_size > MAX_BYTES:
            raise BadImageError(f"it would unpack to over {MAX_BYTES} bytes and looks like a bomb")
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last where a password is needed
            raise BadImageError(str(error)) from None

    def open(self, name: str) -> IO[bytes]:
        """The member, unpacked as it is read."""
        return self._archive.open(name)


def open_source(path: Path) -> Source:
    """The source at a folder or a ``.zip``."""
    return FolderSource(path) if path.is_dir() else ZipSource(path)


def decode_from(source: Source, name: str) -> Pixels | str:
    """The pixels of one image, or the sentence that says which file has none and why."""
    try:
        return decode(source.read(name))
    except (BadImageError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):  # no fault of this file
            raise InputError(
                f"{source.path}: {name} could not be opened ({error.strerror}): raise 'ulimit -n'"
            ) from None
        return f"{source.path}: {name} is no readable image ({error})"


def has_colour(source: Source, name: str) -> bool:
    """Whether :func:`decode` gives an image three channels, from its header alone; ``False`` of what is damaged."""
    try:
        with source.open(name) as file:
            head = file.read(26)
            if head.startswith(_PNG):
                return head[25] not in _GREY_PNG
            file.seek(0)
            with Image.open(file) as image:
                return image.mode not in _GREY and image.mode != "F" and not image.mode.startswith("I")
    except Exception:  # whoever decodes it says what is wrong
        return False


def is_image(name: str) -> bool:
    """Whether a name ends like an image's."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
