"""Sharded folders of ``torch.distributed.checkpoint`` (DCP), as FSDP saves them, read in the sandboxed process.

``.metadata`` is a pickle with names, shapes and the byte ranges of their chunks, each of which is a torch file in a
``.distcp`` file. This reader knows DCP's record types only, as inert objects: nothing that a file names is imported or
called.
"""

from __future__ import annotations

import io
import itertools
import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

from evalsvc.core.errors import RefusedError, first_line
from evalsvc.inputs.checkpoint_folders import DCP_METADATA as METADATA
from evalsvc.inputs.checkpoint_folders import EXPORT_DCP
from evalsvc.inputs.inert_objects import PLAIN
from evalsvc.inputs.state_dicts import StateDicts
from evalsvc.inputs.torch_files import load_torch

_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


class _Record:
    """Replaces an object of a pickle: keeps its attributes, and discards arguments and any other state."""

    def __new__(cls, *_arguments: Any) -> _Record:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Tensor(_Record):
    size: Any
    chunks: Any


_DCP = "torch.distributed.checkpoint"
_TYPES: dict[tuple[str, str], type] = {
    ("torch", "Size"): tuple,
    ("torch.serialization", "_get_layout"): _Record,
    (f"{_DCP}.metadata", "TensorStorageMetadata"): _Tensor,
    (f"{_DCP}.filesystem", "_StorageInfo"): _Record,
    (f"{_DCP}.filesystem", "_StoragePrefix"): _Record,
    **{
        (f"{_DCP}.metadata", name): _Record
        for name in (
            *("Metadata", "BytesStorageMetadata", "TensorProperties", "ChunkStorageMetadata", "MetadataIndex"),
            *("StorageMeta", "_MEM_FORMAT_ENCODING"),
        )
    },
    **{
        (module, name): _Record
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}


class _Metadata(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The inert type for a name, or a dtype."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) not in _TYPES:
            raise RefusedError(f"has a {METADATA} that refers to {module}.{name}, not a type of DCP: {PLAIN}")
        return _TYPES[module, name]


def read_shards(files: Mapping[str, BinaryIO]) -> StateDicts:
    """All tensors of a DCP folder, whose files are given by name, joined from their chunks.

    Raises:
        RefusedError: ``.metadata`` is damaged or refers to other types, or a chunk is missing, overlaps another or
            exceeds its file.
    """
    try:
        metadata = _Metadata(files[METADATA]).load()
        places = {
            (index.fqn, _sizes(index.offset)): place
            for index, place in metadata.storage_data.items()
            if index.__dict__.get("offset") is not None
        }
        names = vars(metadata).get("planner_data") or {}
        entries: dict[str, dict[str, Tensor]] = {}
        others: list[str] = []
        for name, stored in metadata.state_dict_metadata.items():
            *above, own = _path(name, names.get(name))
            if isinstance(stored, _Tensor):
                entries.setdefault(".".join(above), {})[own] = _stored(name, stored, places, files)
            else:
                others.append(".".join(above) or own)
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # a pickle can raise anything, and its records may lack any attribute
        raise RefusedError(f"has a damaged {METADATA} ({first_line(error, 160)}): copy the folder again") from None
    if not entries:
        raise RefusedError("does not contain tensors")
    return StateDicts(entries, tuple(dict.fromkeys(others)))


def _path(name: Any, path: Any) -> tuple[str, ...]:
    """The keys that lead to a value of the saved dictionary; its flat name, if they are not saved."""
    if isinstance(path, tuple) and path and all(isinstance(key, str | int) for key in path):
        return tuple(map(str, path))
    return (str(name),)


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, tuple) and all(type(each) is int and each >= 0 for each in value):
        return value
    raise TypeError("a shape that is not a tuple of sizes")


def _stored(name: str, stored: _Tensor, places: Mapping[Any, Any], files: Mapping[str, BinaryIO]) -> Tensor:
    """One tensor from its chunks."""
    boxes = [(_sizes(chunk.offsets), _sizes(chunk.sizes)) for chunk in stored.chunks]
    chunks = [(offsets, _chunk(name, places[name, offsets], files)) for offsets, _ in boxes]
    if any(tuple(chunk.shape) != sizes for (_, chunk), (_, sizes) in zip(chunks, boxes, strict=True)):
        raise RefusedError(f"has a chunk of {name} of another shape than its {METADATA} declares: copy it again")
    return join_chunks(name, _sizes(stored.size), chunks)


def join_chunks(name: str, size: tuple[int, ...], chunks: Sequence[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    """A tensor of this size from chunks, each given with the offsets of its first element.

    Raises:
        RefusedError: the chunks do not cover it exactly once, or have several dtypes.
    """
    boxes = [(offsets, tuple(chunk.shape)) for offsets, chunk in chunks]
    if not _cover(size, boxes) or len({chunk.dtype for _, chunk in chunks}) > 1:
        raise RefusedError(f"has chunks of {name} that do not cover it exactly once: copy the folder again")
    if len(chunks) == 1:
        return chunks[0][1]
    whole = torch.empty(size, dtype=chunks[0][1].dtype)
    for offsets, chunk in chunks:
        whole[tuple(slice(start, start + length) for start, length in zip(offsets, chunk.shape, strict=True))] = chunk
    return whole


def _cover(size: tuple[int, ...], boxes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether boxes, each of offsets and sizes, lie within ``size``, are disjoint, and fill it."""
    inside = all(
        len(offsets) == len(sizes) == len(size)
        and all(start >= 0 and start + length <= most for start, length, most in zip(offsets, sizes, size, strict=True))
        for offsets, sizes in boxes
    )
    return (
        inside
        and bool(boxes)
        and sum(math.prod(sizes) for _, sizes in boxes) == math.prod(size)
        and not any(
            all(a < b + n and b < a + m for a, m, b, n in zip(*first, *second, strict=True))
            for first, second in itertools.combinations(boxes, 2)
        )
    )


def _chunk(name: str, place: Any, files: Mapping[str, BinaryIO]) -> Tensor:
    """The tensor in a byte range of a file."""
    where, start, length = place.relative_path, place.offset, place.length
    if where not in files or where == METADATA:
        raise RefusedError(f"has a {METADATA} that names {where!r} for {name}, which is not a shard in this folder")
    if vars(place).get("transform_descriptors"):
        raise RefusedError(f"has shards that are encoded by {place.transform_descriptors!r}: {EXPORT_DCP}")
    source = files[where]
    end = source.seek(0, io.SEEK_END)
    (start, length) = _sizes((start, length))
    if start + length > end:
        raise RefusedError(f"has a {where} of {end:,} bytes, but {name} ends at {start + length:,}: copy it again")
    source.seek(start)
    try:
        chunk = load_torch(io.BytesIO(source.read(length)))
    except RefusedError as error:
        raise RefusedError(f"has a chunk of {name} in {where} that {error}") from None
    if not isinstance(chunk, Tensor):
        raise RefusedError(f"has an object in {where} where {METADATA} declares the tensor {name}")
    return chunk
