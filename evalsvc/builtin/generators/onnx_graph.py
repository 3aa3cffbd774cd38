"""ONNX files: which graph a checkpoint is, and the checks before a runtime opens it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evalsvc.core.errors import CheckpointError, first_line
from evalsvc.core.files.regular_files import open_regular, require_regular
from evalsvc.inputs.checkpoint_folders import weights_beside

LARGEST = 2**31 - 1
"""Maximum size of a file in bytes, which is that of its format; larger weights are in files beside it."""
LARGEST_INPUT = 2**26
"""Maximum number of values of one sample's input."""
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


@dataclass(frozen=True)
class GraphInput:
    """An input: its type (``float32``, ``int64``, ``object`` for texts) and sizes; 0 is a size that is not fixed."""

    name: str
    dtype: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A graph that was checked: its bytes, the folder of its other files, and its inputs in order."""

    content: bytes
    folder: Path
    inputs: tuple[GraphInput, ...]


def read_graph(path: Path) -> Graph:
    """Read the ``.onnx`` file at ``path``, or the only one in that folder.

    Raises:
        CheckpointError: it is not a graph of standard operators, draws random numbers, names files elsewhere, or
            exceeds a limit.
    """
    import onnx

    file = _file(path)
    with open_regular(file) as opened:
        if os.fstat(opened.fileno()).st_size > LARGEST:
            raise CheckpointError(f"{file} has more than {LARGEST:,} bytes: save its weights as external data")
        content = opened.read()
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:
        raise CheckpointError(f"{file} is not an ONNX graph ({first_line(error)}): export it again") from None
    if not model.graph.output:
        raise CheckpointError(f"{file} is not an ONNX graph with outputs: export it again")
    own = {(function.domain, function.name) for function in model.functions}
    for each in _messages(model):
        if isinstance(each, onnx.NodeProto):
            _check_operator(file, each, own)
        elif isinstance(each, onnx.TensorProto) and each.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(file, path, [(entry.key, entry.value) for entry in each.external_data])
    return Graph(content, file.parent, tuple(_inputs(model, file)))


def _file(path: Path) -> Path:
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    if len(files) != 1 or files[0].suffix.lower() != ".onnx":
        raise CheckpointError(
            f"{path} is not one ONNX graph: give a .onnx file, written by torch.onnx.export, or a folder with one"
        )
    return files[0]


def _check_operator(file: Path, node: Any, own: Set[tuple[str, str]]) -> None:
    """Raise unless a node is a standard operator, or one of the model's own functions, without random numbers."""
    if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
        raise CheckpointError(
            f"{file} uses the custom operator {node.domain}.{node.op_type}, which is code: export it with standard "
            "operators"
        )
    if node.op_type in RANDOM:
        raise CheckpointError(
            f"{file} draws its own random numbers ({node.op_type}), so that no sample could be repeated: export it "
            "with noise as an input"
        )


def _check_external(file: Path, path: Path, given: list[tuple[str, str]]) -> None:
    """Raise unless a tensor's file is in the folder that is the checkpoint, and holds the tensor."""
    entries = dict(given)
    # Of a key that is there twice, the runtime may read another value.
    location = entries.get("location", "") if len(entries) == len(given) else ""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or "\\" in location:
        raise CheckpointError(f"{file} reads weights from {location!r}, outside of its folder: export it again")
    if not path.is_dir() and location != weights_beside(file).name:  # of which the digest does not know
        raise CheckpointError(f"{file} keeps weights in {location}: give the folder {file.parent}, which has both")
    there = file.parent / location
    require_regular(there)
    if not there.is_file():
        raise CheckpointError(f"{there} is missing, but {file.name} needs it: restore it")
    start, length = (
        int(entries.get(key) or 0) if (entries.get(key) or "0").isdigit() else -1 for key in ("offset", "length")
    )
    if min(start, length) < 0 or start + length > there.stat().st_size:
        raise CheckpointError(f"{there} is truncated: copy it again")


def _inputs(model: Any, file: Path) -> Iterator[GraphInput]:
    from onnx.helper import tensor_dtype_to_np_dtype

    weights = {tensor.name for tensor in model.graph.initializer}
    for each in model.graph.input:
        if each.name in weights:
            continue
        tensor = each.type.tensor_type
        if not tensor.elem_type:
            raise CheckpointError(f"{file} takes {each.name}, which is not a tensor: export it with tensors as inputs")
        sizes = tuple(max(axis.dim_value, 0) for axis in tensor.shape.dim)
        per_sample = math.prod(max(size, 1) for size in sizes[1:])
        if per_sample > LARGEST_INPUT:
            raise CheckpointError(f"{file} takes {per_sample:,} values as {each.name}, more than {LARGEST_INPUT:,}")
        yield GraphInput(each.name, tensor_dtype_to_np_dtype(tensor.elem_type).name, sizes)


def _messages(model: Any) -> Iterator[Any]:
    """The model and all messages in it: nodes and tensors, of subgraphs and functions too."""
    waiting = [model]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type:
                waiting += [value] if hasattr(value, "ListFields") else value
