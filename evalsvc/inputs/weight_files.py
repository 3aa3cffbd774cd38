"""The files that hold the weights of a checkpoint, and their tensors: one file, shards with an index, or DCP's folder.

A folder of a trainer is read if exactly one set of weights is in it: optimizers and other states of training do not
count (:data:`~evalsvc.inputs.checkpoint_folders.LEFT_OUT`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from evalsvc.core.errors import CheckpointError, InputError, RefusedError, first_line
from evalsvc.core.files.regular_files import open_regular
from evalsvc.core.files.safetensors_files import open_safetensors
from evalsvc.inputs.checkpoint_folders import ADAPTER_CONFIG, DCP_METADATA, DCP_SHARD, LEFT_OUT
from evalsvc.inputs.state_dicts import StateDicts
from evalsvc.inputs.torch_loader import read_shards, read_tensors
from evalsvc.inputs.weight_sets import is_lfs_pointer, shards_of

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
INDEXES = (".safetensors.index.json", ".bin.index.json")
_DCP_SAFETENSORS = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")
"""Chunks that DCP's writer for the hub leaves, with their offsets in the metadata."""


def read_weights(path: Path, *, trusted: bool = False) -> StateDicts:
    """The tensors of a file, or of the only set of weights in a folder, on the CPU; no pickled code is executed.

    An untrusted torch file is read by a sandboxed process.

    Raises:
        CheckpointError: there are no weights or several sets, or a file is damaged or missing.
        InputError: a file is a pipe or a device.
    """
    if path.is_dir():
        return _read_folder(path)
    if path.name.endswith(INDEXES) or path.name == DCP_METADATA or DCP_SHARD.fullmatch(path.name):
        raise CheckpointError(f"checkpoint {path} is one file of a sharded checkpoint: pass its folder")
    if is_lfs_pointer(path):
        raise CheckpointError(f"checkpoint {path} is a Git LFS pointer: run 'git lfs pull'")
    if path.suffix == ".safetensors":
        return StateDicts({"": _read_safetensors(path)})
    if not trusted:
        return read_tensors(path)
    from evalsvc.inputs.torch_files import read_state  # it imports torch

    try:
        with open_regular(path) as file:
            return read_state(file)
    except RefusedError as error:
        raise CheckpointError(f"checkpoint {path} {error}") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} is truncated or not a torch file ({error})") from None


def weight_files(folder: Path) -> list[Path]:
    """The sets of weights in a trainer's folder: files, indexes of shards, and folders of DCP such as FSDP's."""
    paths = [path for path in sorted(folder.iterdir()) if not LEFT_OUT(path.name)]
    indexes = [path for path in paths if path.name.endswith(INDEXES)]
    shards = {folder / name for index in indexes for name in shards_of(index)}
    files = [path for path in paths if path.suffix in WEIGHTS_FILES and path.is_file() and path not in shards]
    return [*indexes, *files, *(path for path in paths if (path / DCP_METADATA).is_file())]


def _read_folder(folder: Path) -> StateDicts:
    if (folder / DCP_METADATA).is_file():
        return read_shards(folder)
    sets = weight_files(folder)
    if sets and all(_DCP_SAFETENSORS.fullmatch(path.name) for path in sets):
        return StateDicts({"": _read_chunks(folder, sets)})
    if wrong := _refusal(folder, sets):
        raise CheckpointError(f"checkpoint {folder} {wrong}")
    (chosen,) = sets
    if chosen.name.endswith(INDEXES):
        return replace(_joined(folder / name for name in sorted(shards_of(chosen))), file=chosen.name)
    return replace(read_weights(chosen), file=chosen.name)


def _refusal(folder: Path, sets: list[Path]) -> str:
    """Why a folder is not exactly one set of weights, and what to do; empty if it is."""
    names = [path.name for path in sets]
    parts = [path.name for path in (*folder.glob("*_model_states.pt"), *folder.glob("*/*_model_states.pt"))]
    if parts and (len(sets) != 1 or names[0].startswith("zero_")):
        # Not by the script of this name in the folder, which is as untrusted as the weights.
        return "is sharded by DeepSpeed: convert it by 'python -m deepspeed.utils.zero_to_fp32 FOLDER FILE'"
    if (folder / ADAPTER_CONFIG).is_file():
        return "is an adapter: merge it into its base, and pass the merged weights"
    if any(DCP_SHARD.fullmatch(path.name) for path in folder.iterdir()):
        return f"has shards but no {DCP_METADATA}, which is written last: wait for it, or pass another checkpoint"
    if not sets:
        return f"contains no weights ({', '.join(f'*{suffix}' for suffix in WEIGHTS_FILES)}): pass a file or its folder"
    if len(sets) > 1 and all("-of-" in name for name in names):
        return f"contains {len(sets)} shards ({names[0]}) but no index: restore it, such as model{INDEXES[0]}"
    if len(sets) > 1:
        more = f" and {len(sets) - 3} more" if len(sets) > 3 else ""
        way = "move all but one away" if any(name.endswith(INDEXES) for name in names) else "pass one of them"
        return f"contains {len(sets)} sets of weights, {' and '.join(names[:3])}{more}: {way}"
    return ""


def _joined(paths: Iterable[Path]) -> StateDicts:
    """The tensors of several files, each of which is a state dict."""
    joined: dict[str, Tensor] = {}
    for path in paths:
        try:
            tensors = read_weights(path).only()
        except CheckpointError:
            raise
        except InputError as error:
            raise CheckpointError(f"checkpoint {path} {error}") from None
        if twice := joined.keys() & tensors.keys():
            raise CheckpointError(f"checkpoint {path} contains {min(twice)}, as another shard does: copy it again")
        joined |= tensors
    return StateDicts({"": joined})


def _read_chunks(folder: Path, paths: Iterable[Path]) -> dict[str, Tensor]:
    """The tensors of safetensors files of DCP, joined from their chunks."""
    from evalsvc.inputs.distributed_checkpoints import join_chunks  # it imports torch

    chunks: dict[str, list[tuple[tuple[int, ...], Tensor]]] = {}
    try:
        for path in paths:
            with open_safetensors(path) as file:
                places = json.loads(file.metadata()["DCP_SHARDING_INFO"])
                for name in file.keys():  # noqa: SIM118
                    chunks.setdefault(name, []).append((tuple(places[name]["saved_offsets"]), file.get_tensor(name)))
        return {name: join_chunks(name, _reach(parts), parts) for name, parts in chunks.items()}
    except RefusedError as error:
        raise CheckpointError(f"checkpoint {folder} {error}") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {path} is not a complete shard of DCP ({first_line(error, 160)})") from None


def _reach(chunks: list[tuple[tuple[int, ...], Tensor]]) -> tuple[int, ...]:
    """The size of the smallest tensor that contains chunks at their offsets."""
    ends = [[start + length for start, length in zip(starts, chunk.shape, strict=True)] for starts, chunk in chunks]
    return tuple(map(max, zip(*ends, strict=True)))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with open_safetensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {path} is not a complete safetensors file ({first_line(error, 160)})"
        ) from None
