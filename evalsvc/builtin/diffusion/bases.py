"""Checkpoints that are a part of a pipeline: components or an adapter, as trainers save them, over a base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from evalsvc.builtin.diffusion.adapters import adapter_file, add_adapter
from evalsvc.builtin.diffusion.components import WHO, open_component, read_object
from evalsvc.builtin.diffusion.pipelines import HUB_FILES, INDEX, Opener, PipelineFolder
from evalsvc.builtin.pretrained import from_hub
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.inputs.weight_sets import refuse_adapter

CONFIG = "config.json"


def open_checkpoint(
    checkpoint: Checkpoint, base: str, component: str, state: str, dtype: torch.dtype
) -> tuple[Any, str]:
    """The pipeline of a checkpoint, on the CPU, and the parts of it that the checkpoint holds, in words.

    ``base`` is the folder or hub id of the pipeline that a checkpoint without an index belongs to, ``component`` the
    part of it that the checkpoint replaces, and ``state`` the state dict of its file (see ``load_into``).

    Raises:
        InputError: the base or the component is missing, or does not fit.
        CheckpointError: a file is damaged, or names code.
    """
    path = checkpoint.path
    if (path / INDEX).is_file():
        if given := [name for name, value in (("base", base), ("component", component), ("state", state)) if value]:
            raise InputError(f"{path} is a whole pipeline, which does not take option {given[0]}: remove the option")
        return PipelineFolder.read(path).open(dtype), ""
    if not base:
        raise InputError(
            f"{path} is not a pipeline of diffusers (it has no {INDEX}): to score a component or an adapter, pass the "
            "pipeline that it belongs to as option base=FOLDER"
        )
    whole = PipelineFolder.read(Path(base) if Path(base).is_dir() else from_hub(base, WHO, HUB_FILES))
    if adapter := adapter_file(path):
        if component or state:
            raise InputError(f"{path} is an adapter, which takes neither option component nor state: remove it")
        pipeline = whole.open(dtype)
        add_adapter(pipeline, adapter, whole.folder)
        return pipeline, adapter.name
    refuse_adapter(path, WHO)
    parts = _parts(path, whole, component)
    openers = {name: _opener(whole, name, part, checkpoint, state) for name, part in parts.items()}
    return whole.open(dtype, openers), ", ".join(sorted(parts))


def _parts(path: Path, whole: PipelineFolder, component: str) -> dict[str, Path]:
    """The folder or file of each component that a checkpoint holds: one by its class, several by their folders."""
    models = sorted(name for name, kind in whole.components.items() if issubclass(kind, torch.nn.Module))
    if component and component not in models:
        raise InputError(f"{whole.folder} has no model {component!r} for option component: use {' or '.join(models)}")
    wanted = [component] if component else whole.components
    if folders := {name: path / name for name in wanted if (path / name).is_dir()}:
        return folders
    fitting = [component]
    if not component and (path / CONFIG).is_file():
        config = read_object(path / CONFIG)
        classes = [config.get("_class_name"), *(config.get("architectures") or ())]
        fitting = [name for name in models if whole.components[name].__name__ in classes]
    if len(fitting) == 1 and fitting[0]:
        return {fitting[0]: path}
    raise InputError(
        f"cannot tell what {path} replaces in {whole.folder}: pass option component, {' or '.join(models)}"
    )


def _opener(whole: PipelineFolder, name: str, part: Path, checkpoint: Checkpoint, state: str) -> Opener:
    """A function that opens a component from its own folder, or from a file of tensors."""
    kind = whole.components[name]

    def from_folder(dtype: torch.dtype) -> Any:
        own = read_object(part / CONFIG).get("_class_name", kind.__name__) if (part / CONFIG).is_file() else ""
        if own not in ("", kind.__name__):
            raise InputError(f"{part} is a {own}, but {name} of {whole.folder} is a {kind.__name__}: pass its own base")
        return open_component(part, kind, dtype)

    def from_file(dtype: torch.dtype) -> Any:
        network = open_component(whole.folder / name, kind, torch.float32)
        load_into(network, checkpoint, state)
        return network.to(dtype)

    if not part.is_dir():
        return from_file
    if state:
        raise InputError(f"{part} is a folder, which does not take option state: remove the option")
    return from_folder
