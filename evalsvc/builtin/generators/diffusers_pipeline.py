"""Any pipeline of ``diffusers``: a folder with a ``model_index.json``, or a part of one over a base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from evalsvc.builtin.diffusion.bases import open_checkpoint
from evalsvc.builtin.diffusion.calls import OURS, Calls
from evalsvc.builtin.diffusion.components import WHO
from evalsvc.builtin.diffusion.pipelines import HUB_FILES, files_of, with_scheduler
from evalsvc.builtin.pretrained import pin_models
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Drawn
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest

LARGEST_SIDE = 8192
"""Maximum height and width of samples, in pixels."""
MOST_STEPS = 10_000
"""Maximum number of steps of a sample."""
Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@versioned("0.1.0")
@open_to_clients("steps", "guidance", "size", "scheduler", "negative_prompt", "mask", "dtype")
class DiffusersPipeline:
    """The plug-in ``diffusers``.

    ``steps``, ``guidance``, ``negative_prompt`` and ``size`` (of the sides in pixels: one number, or [height, width])
    are arguments of the call, and ``arguments`` are further ones by their names; the defaults are those of the
    pipeline. ``scheduler`` is a class of ``diffusers`` that takes the configuration of the pipeline's own. ``mask`` is
    the part of a source that an inpainting pipeline paints over: [left, top, right, bottom], each in [0, 1].

    A checkpoint that is a part of a pipeline, its components or a LoRA adapter, needs its ``base``: the folder or hub
    id of the pipeline. ``component`` names the part if it is unclear, ``state`` the state dict of a file of tensors.

    Another batch may change the rounding of a sample: by one level of 255, or more if the network amplifies it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        base: str = "",
        component: str = "",
        state: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str | None = None,
        size: int | list[int] | None = None,
        scheduler: str | None = None,
        mask: list[float] | None = None,
        dtype: Dtype = "float32",
        arguments: dict[str, object] | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"invalid option dtype={dtype!r} of {WHO}: use {' or '.join(DTYPES)}")
        fixed = _arguments(steps, guidance, _sides(size), arguments or {})
        part = _part(mask)
        pipeline, weights = open_checkpoint(checkpoint, base, component, state, DTYPES[dtype])
        if scheduler is not None:
            pipeline.scheduler = with_scheduler(pipeline, scheduler)
        self._calls = Calls(pipeline.to(device), fixed, negative_prompt, part)
        family, conditions = type(pipeline).__name__, self._calls.conditions
        self.info = GeneratorInfo(family, self._calls.modality, (), weights, conditions, conditions)

    @staticmethod
    def checkpoint_files(folder: Path) -> Iterator[str]:
        """Configurations, safetensors and tokenizers of the pipeline's components; other formats are never read."""
        return files_of(folder)

    @staticmethod
    def pin(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the content, or the commit on the hub, of the base."""
        return pin_models(options, ["base"], WHO, HUB_FILES)

    def sample(self, request: SampleRequest) -> Drawn:
        """One sample for each seed; those that a safety checker blacked out are failures."""
        return self._calls.draw(request)


def _sides(size: int | list[int] | None) -> tuple[int | None, int | None]:
    """Height and width."""
    match size:
        case None:
            return None, None
        case int(side):
            sides = side, side
        case [int(height), int(width)]:
            sides = height, width
        case _:
            sides = 0, 0
    if not 0 < min(sides) <= max(sides) <= LARGEST_SIDE:
        raise InputError(
            f"invalid option size={size!r} of {WHO}: use one number of pixels up to {LARGEST_SIDE}, or [height, width]"
        )
    return sides


def _part(mask: list[float] | None) -> tuple[float, float, float, float] | None:
    match mask:
        case None:
            return None
        case [int() | float() as left, int() | float() as top, int() | float() as right, int() | float() as bottom]:
            if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
                return left, top, right, bottom
    raise InputError(f"invalid option mask={mask!r} of {WHO}: use [left, top, right, bottom], each in [0, 1]")


def _arguments(
    steps: int | None, guidance: float | None, sides: tuple[int | None, int | None], further: object
) -> dict[str, tuple[str, object]]:
    """Arguments of the call by their names, each with the option that gave it."""
    if steps is not None and not (isinstance(steps, int) and 0 < steps <= MOST_STEPS):
        raise InputError(f"invalid option steps={steps!r} of {WHO}: use a whole number from 1 to {MOST_STEPS}")
    if not isinstance(further, dict):
        raise InputError(f'invalid option arguments={further!r} of {WHO}: use an object, such as {{"strength": 0.6}}')
    if taken := sorted(OURS.intersection(further)):
        raise InputError(f"option arguments of {WHO} names {taken[0]!r}, which comes from items or another option")
    own: dict[str, tuple[str, object]] = {
        "num_inference_steps": ("steps", steps),
        "guidance_scale": ("guidance", guidance),
        "height": ("size", sides[0]),
        "width": ("size", sides[1]),
    }
    given = {name: pair for name, pair in own.items() if pair[1] is not None}
    return given | {name: ("arguments", value) for name, value in further.items()}
