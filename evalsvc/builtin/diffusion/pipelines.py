"""Opening of a pipeline's folder: its ``model_index.json``, and a class of ``diffusers`` around its components."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evalsvc.builtin.diffusion.components import WHO, attribute, component_class, library, open_component, read_object
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.inputs.checkpoint_folders import LEFT_OUT
from evalsvc.inputs.weight_sets import DIFFUSION_MODEL, MODEL

INDEX = "model_index.json"
READ = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Ends of the names of files that are read."""
HUB_FILES = (
    *(INDEX, "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja"),
    *(f"*/{stem}{shard}.safetensors" for stem in (MODEL, DIFFUSION_MODEL) for shard in ("", "-*-of-*")),
)
"""Patterns of the files that are downloaded: no weights in half precision, nor those of the whole model in one file."""

Opener = Callable[[torch.dtype], Any]
"""A function that opens a component from elsewhere."""


@dataclass(frozen=True)
class PipelineFolder:
    """A pipeline's folder, checked: the class of the pipeline, the classes of its components, its other arguments."""

    folder: Path
    kind: type
    components: Mapping[str, type]
    arguments: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> PipelineFolder:
        """Read the index of a pipeline.

        Raises:
            InputError: the folder has no index.
            CheckpointError: the index is damaged, or names a class of another library.
        """
        file = folder / INDEX
        if not file.is_file():
            raise InputError(f"{folder} is not a pipeline of diffusers: it has no {INDEX}")
        index = read_object(file)
        named = {name: value for name, value in index.items() if not name.startswith("_")}
        kind = _pipeline_class(file, index.get("_class_name"))
        parameters = inspect.signature(kind).parameters
        components, arguments = {}, {}
        for name, value in named.items():
            absent = value is None or value == [None, None]
            if isinstance(value, list) and not absent:
                components[name] = component_class(file, name, value)
            elif name in parameters:
                arguments[name] = None if absent else value
        components = {name: each for name, each in components.items() if name in parameters}
        needed = [name for name, each in parameters.items() if each.default is each.empty]
        if missing := [name for name in needed if name not in {**components, **arguments}]:
            raise CheckpointError(f"{file} does not name {missing[0]!r}, which {kind.__name__} needs")
        return cls(folder, kind, components, arguments)

    def open(self, dtype: torch.dtype, openers: Mapping[str, Opener] = {}) -> Any:
        """The pipeline on the CPU, with some components from elsewhere; errors as of ``open_component``."""
        parts = {
            name: openers[name](dtype) if name in openers else open_component(self.folder / name, kind, dtype)
            for name, kind in self.components.items()
        }
        try:
            pipeline = self.kind(**parts, **self.arguments)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error, 160)}"
            raise CheckpointError(f"{self.folder} does not make a {self.kind.__name__} ({reason})") from None
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def files_of(folder: Path) -> Iterator[str]:
    """The files of a folder that are read: those of a pipeline and its components, or of one component or adapter.

    The folder of a training run may hold a pipeline beside checkpoints; these are not part of the pipeline.
    """
    index = folder / INDEX
    named = read_object(index) if index.is_file() else None
    for name in LEFT_OUT.files(folder):
        if name.endswith(READ) and (named is None or name == INDEX or name.partition("/")[0] in named):
            yield name


def with_scheduler(pipeline: Any, name: str) -> Any:
    """A scheduler of this class with the configuration of the pipeline's own.

    Raises:
        InputError: ``diffusers`` has no such scheduler, or it does not fit the pipeline.
    """
    own, kind = pipeline.scheduler, attribute(library(), str(name))
    like = type(own).__name__
    if not (isinstance(kind, type) and issubclass(kind, library().SchedulerMixin)):
        raise InputError(f"invalid option scheduler={name!r} of {WHO}: use a scheduler of diffusers, such as {like}")
    try:
        made = kind.from_config(own.config)  # type: ignore[attr-defined]
    except Exception as error:
        raise InputError(f"cannot build the scheduler {name} for {WHO} ({first_line(error, 160)})") from None
    if _follows_flow(made) != _follows_flow(own):
        raise InputError(
            f"invalid option scheduler={name!r} of {WHO}: the network of {type(pipeline).__name__} predicts another "
            f"quantity; use a scheduler like {like}"
        )
    return made


def _follows_flow(scheduler: Any) -> bool:
    """Whether a scheduler takes the velocity of a flow, and not a noise or an image."""
    return type(scheduler).__name__.startswith("FlowMatch") or bool(scheduler.config.get("use_flow_sigmas"))


def _pipeline_class(file: Path, name: object) -> type:
    diffusers = library()
    kind = attribute(diffusers, name) if isinstance(name, str) else None
    general = diffusers.DiffusionPipeline
    if isinstance(kind, type) and issubclass(kind, general) and kind is not general:
        return kind
    raise CheckpointError(
        f"{file} names {name!r}, which {WHO} does not import: use a pipeline class of diffusers "
        f"(version {diffusers.__version__})"
    )
