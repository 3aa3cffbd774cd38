"""Samples that already exist: a folder or zip of images, an array file, or a JSONL of texts."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from evalsvc.digests import digest_path, files_of
from evalsvc.errors import InputError
from evalsvc.plugins import Modality, SampleSet
from evalsvc.samples import Images, Samples, Texts
from evalsvc.sound_sets import SoundFolder

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
MAX_PIXELS = 2**26
"""64 megapixels. A larger image is refused before it is decoded, as a decompression bomb."""


def open_samples(path: Path) -> SampleSet:
    """The sample set at ``path``, by what it is: folder, ``.zip``, ``.npz``, ``.npy`` or ``.jsonl``."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        files = files_of(path)
        sounds = [file for file in files if file.suffix.lower() == ".wav"]
        return SoundFolder(path, sounds) if sounds else image_folder(path, files)
    readers: dict[str, Callable[[Path], SampleSet]] = {
        ".zip": image_zip,
        ".npz": image_arrays,
        ".npy": image_arrays,
        ".jsonl": TextLines,
    }
    if path.suffix not in readers:
        raise InputError(f"{path} is no folder, .zip, .npz or .npy of images and no .jsonl of texts")
    return readers[path.suffix](path)


class ImageFiles:
    """Encoded images of one size, in the order of their names."""

    modality: Modality = "image"

    def __init__(self, path: Path, names: list[str], read: Callable[[str], bytes]) -> None:
        if not names:
            raise InputError(f"{path} holds no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        self._path, self._names, self._bytes = path, names, read
        first = self._decode(names[0], mode=None)
        self._mode, self._size = first.mode, first.size

    def __len__(self) -> int:
        return len(self._names)

    def digest(self) -> str:
        """sha256 of the folder or archive as it is now."""
        return digest_path(self._path)

    def read(self, start: int, stop: int) -> Images:
        """Decode images ``start`` to ``stop``; grey stays grey, everything else becomes RGB."""
        arrays = []
        for name in self._names[start:stop]:
            image = self._decode(name, self._mode)
            if image.size != self._size:
                wanted, got = "x".join(map(str, self._size)), "x".join(map(str, image.size))
                raise InputError(
                    f"{self._path} mixes image sizes: {name} is {got} where the first is {wanted}; resize them to one"
                )
            arrays.append(np.asarray(image))
        pixels = torch.from_numpy(np.stack(arrays))
        return Images(pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous())

    def _decode(self, name: str, mode: str | None) -> Image.Image:
        try:
            with Image.open(io.BytesIO(self._bytes(name))) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"{self._path}: {name} would unpack to {image.width} x {image.height} pixels, over the limit "
                        f"of {MAX_PIXELS}: it looks like a decompression bomb"
                    )
                wanted = mode or ("L" if image.mode in ("1", "L") else "RGB")
                if wanted == "L" and image.mode not in ("1", "L"):
                    raise InputError(f"{self._path} mixes grey and colour images ({name}): make them all colour")
                return image.convert(wanted)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{self._path}: {name} is no readable image ({error})") from None


def image_folder(path: Path, files: list[Path]) -> ImageFiles:
    """All images among the files below a folder."""
    names = [f.relative_to(path).as_posix() for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
    return ImageFiles(path, names, lambda name: (path / name).read_bytes())


def image_zip(path: Path) -> ImageFiles:
    """All images in a zip archive."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is no readable zip ({error})") from None
    names = sorted(name for name in archive.namelist() if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)

    def read(name: str) -> bytes:
        if archive.getinfo(name).file_size > 4 * MAX_PIXELS:
            raise InputError(f"{path}: {name} would unpack to over {4 * MAX_PIXELS} bytes: it looks like a bomb")
        try:
            return archive.read(name)
        except zipfile.BadZipFile as error:
            raise InputError(f"{path}: {name} is damaged ({error})") from None

    return ImageFiles(path, names, read)


class ImageArray:
    """Images held in one uint8 array (n, h, w), (n, h, w, c) or (n, c, h, w) with one or three channels."""

    modality: Modality = "image"

    def __init__(self, path: Path, array: np.ndarray) -> None:
        if array.ndim == 3:
            array = array[:, None]
        elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
            array = array.transpose(0, 3, 1, 2)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size:
            raise InputError(
                f"{path} holds an array of {array.dtype} {array.shape}; uint8 images (n, h, w, c) are expected"
            )
        self._path, self._array = path, array

    def __len__(self) -> int:
        return len(self._array)

    def digest(self) -> str:
        """sha256 of the file as it is now."""
        return digest_path(self._path)

    def read(self, start: int, stop: int) -> Images:
        """Images ``start`` to ``stop``, copied out of the file."""
        return Images(torch.from_numpy(np.array(self._array[start:stop])))


def image_arrays(path: Path) -> ImageArray:
    """The one image array of an ``.npz`` or ``.npy``; where it is not compressed, it is mapped, not loaded."""
    try:
        if path.suffix == ".npy":
            return ImageArray(path, np.load(path, mmap_mode="r", allow_pickle=False))
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            named = {info.filename.removesuffix(".npy"): info for info in members}
            name = next((key for key in ("images", "arr_0", "x") if key in named), next(iter(named), None))
            if name is None:
                raise InputError(f"{path} holds no array")
            info = named[name]
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = read_header(member)
                header = member.tell()
            if dtype.hasobject:
                raise InputError(f"{path}: array {name!r} holds Python objects, which are never unpickled")
            if info.compress_type != zipfile.ZIP_STORED:
                with np.load(path, allow_pickle=False) as arrays:
                    return ImageArray(path, arrays[name])
            # A stored member's bytes follow its local header: 30 bytes, the name and the extra field.
            with path.open("rb") as file:
                file.seek(info.header_offset + 26)
                lengths = np.frombuffer(file.read(4), "<u2")
            offset = info.header_offset + 30 + int(lengths.sum()) + header
        mapped = np.memmap(path, dtype, "r", offset, tuple(shape), "F" if fortran else "C")
        return ImageArray(path, mapped)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no readable array file ({error})") from None


class TextLines:
    """A JSONL of documents: each line a string, or an object with a string ``text``."""

    modality: Modality = "text"

    def __init__(self, path: Path) -> None:
        self._path = path
        items = []
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number} is no JSON ({error})") from None
            text = record.get("text") if isinstance(record, dict) else record
            if not isinstance(text, str):
                raise InputError(f"{path}, line {number} is neither a string nor an object with a string 'text'")
            items.append(text)
        if not items:
            raise InputError(f"{path} holds no documents")
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def digest(self) -> str:
        """sha256 of the file as it is now."""
        return digest_path(self._path)

    def read(self, start: int, stop: int) -> Samples:
        """Documents ``start`` to ``stop``."""
        return Texts(self._items[start:stop])
