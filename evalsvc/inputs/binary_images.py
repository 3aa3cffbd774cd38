"""Images in the binary files of CIFAR (``.bin``) and MNIST (``idx3-ubyte``), by which many sets are published."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from evalsvc.core.digests import digest_files
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import most_unpacked, open_regular
from evalsvc.inputs.image_arrays import ImageArray, labeled_images
from evalsvc.inputs.items.splits import files_of_split
from evalsvc.inputs.reading_options import ReadingOptions

CIFAR = re.compile(r"(?:data_batch_[0-9]+|test_batch)\.bin")
IDX = re.compile(r"(.*)images[-.]idx3-ubyte(\.gz)?")
PICKLES = re.compile(r"(?:data_batch_[0-9]+|test_batch|batches\.meta)")
"""Names of the files of CIFAR for Python, which are pickles."""
_SPLITS = {"data_batch": "train", "test_batch": "test", "t10k": "test"}
_LABELS = {3073: {"label": 10}, 3074: {"coarse_label": 20, "label": 100}}
"""Bytes of one image of CIFAR-10 and CIFAR-100, and the number of classes of the labels that precede its pixels."""
_CLASS_NAMES = {"label": ("batches.meta.txt", "fine_label_names.txt"), "coarse_label": ("coarse_label_names.txt",)}


def is_binary(file: Path) -> bool:
    """Whether a file has a name of images of CIFAR or MNIST, and their size if others use the name too."""
    if file.name in ("train.bin", "test.bin"):
        return file.stat().st_size % max(_LABELS) == 0
    return bool(CIFAR.fullmatch(file.name) or IDX.fullmatch(file.name))


def open_binary(path: Path, names: Sequence[str], reading: ReadingOptions) -> ImageArray:
    """The images of a file, or of those with these names in a folder; labels lie in the files, or beside them.

    Raises:
        InputError: a file is damaged, there is no such split, or a label that the options name.
    """
    folder = path if path.is_dir() else path.parent
    reading.require_only(path, "labels", "where", *(["split"] if path.is_dir() else []))
    if path.is_dir():
        by_split = {f"{_split(name)}/{i}.bin": name for i, name in enumerate(names)}
        names = [by_split[each] for each in files_of_split(by_split, reading.split, str(path))]
    if IDX.fullmatch(PurePosixPath(names[0]).name):
        return _idx(path, folder, names[0], reading)
    return _cifar(path, folder, names, reading)


def _split(name: str) -> str:
    stem = PurePosixPath(name).name.partition(".")[0]
    return next((split for start, split in _SPLITS.items() if stem.startswith(start)), stem.partition("-")[0])


def _cifar(path: Path, folder: Path, names: Sequence[str], reading: ReadingOptions) -> ImageArray:
    sizes = {name: (folder / name).stat().st_size for name in names}
    bytes_ = next((each for each in _LABELS if all(size and size % each == 0 for size in sizes.values())), None)
    if bytes_ is None:
        raise InputError(f"{path} is truncated or not of CIFAR: its images have 3,073 or 3,074 bytes each")
    fields = [*((name, "u1") for name in _LABELS[bytes_]), ("image", "u1", (3, 32, 32))]
    parts = [np.memmap(folder / name, np.dtype(fields), "r") for name in names]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    for label, classes in _LABELS[bytes_].items():
        if int(rows[label].max()) >= classes:
            raise InputError(f"{path} is not of CIFAR: it has the {label} {rows[label].max()} of {classes} classes")
    columns = {label: partial(np.array, rows[label]) for label in _LABELS[bytes_]}
    classes_of = {label: _class_names(folder / PurePosixPath(names[0]).parent, label) for label in columns}
    digest = partial(digest_files, folder, names) if path.is_dir() else None
    return labeled_images(path, rows["image"], columns, reading, classes_of, digest)


def _class_names(folder: Path, label: str) -> tuple[str, ...]:
    for name in _CLASS_NAMES[label]:
        if (folder / name).is_file():
            with open_regular(folder / name) as file:
                return tuple(file.read(2**16).decode(errors="replace").split())
    return ()


def _idx(path: Path, folder: Path, name: str, reading: ReadingOptions) -> ImageArray:
    images = _array(folder / name, 3)
    beside = name.replace("images", "labels").replace("idx3", "idx1")
    columns = {}
    if (folder / beside).exists():
        labels = _array(folder / beside, 1)
        if len(labels) != len(images):
            raise InputError(
                f"{folder / beside} has {len(labels)} labels, and {folder / name} has {len(images)} images"
            )
        columns["label"] = partial(np.array, labels)
    digest = partial(digest_files, folder, [name, *([beside] if columns else [])])
    return labeled_images(path, images, columns, reading, digest=digest)


def _array(file: Path, axes: int) -> np.ndarray:
    """The bytes of an idx file with so many axes, memory-mapped unless it is compressed."""
    with open_regular(file) as opened:
        size = opened.seek(0, 2)
        opened.seek(0)
        try:
            if file.suffix == ".gz":
                limit = most_unpacked(size)
                with gzip.GzipFile(fileobj=opened) as unpacked:
                    content = unpacked.read(limit + 1)
                if len(content) > limit:
                    raise InputError(f"{file} unpacks to more than {limit:,} bytes and looks like a decompression bomb")
                values = np.frombuffer(content, np.uint8)
            else:
                values = np.memmap(opened, np.uint8, "r")
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise InputError(f"{file} is not a readable idx file ({error})") from None
    start = 4 + 4 * axes
    if bytes(values[:4]) != bytes((0, 0, 8, axes)) or len(values) < start:
        raise InputError(f"{file} is not an idx file of bytes with {axes} axes")
    shape = np.frombuffer(bytes(values[4:start]), ">u4").astype(int).tolist()
    if len(values) != start + math.prod(shape):
        raise InputError(f"{file} is truncated: its header declares {' x '.join(map(str, shape))} bytes")
    return values[start:].reshape(shape)
