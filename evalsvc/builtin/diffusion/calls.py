"""Calls of a pipeline by the signature of its class: which conditions it takes, which options, and one sample's noise.

Each sample has a random generator of its own on the CPU, so that its noise depends neither on its batch nor on the
device. A pipeline that draws from a global generator too is called for one sample at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from evalsvc.builtin.diffusion.components import WHO
from evalsvc.builtin.diffusion.outputs import censored, modality_of, rate_of, samples_of
from evalsvc.builtin.global_generators import seeded
from evalsvc.core.errors import InputError
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.items import Condition, Drawn, text_of
from evalsvc.plugins.samples import Images, MixedImages, SampleRequest, Samples, Videos, concatenate

BATCHED = (
    *("consistency_models", "controlnet", "controlnet_sd3", "ddim", "ddpm", "dit", "flux", "stable_diffusion"),
    *("stable_diffusion_3", "stable_diffusion_xl"),
)
"""Families of ``diffusers`` whose samples do not depend on their batch; others may pad prompts to the longest."""
OURS = frozenset(
    {
        *("prompt", "class_labels", "image", "control_image", "mask_image", "video", "batch_size", "generator"),
        *("output_type", "return_dict", "latents", "callback", "callback_on_step_end"),
        *("num_inference_steps", "guidance_scale", "negative_prompt", "height", "width"),
        *("num_images_per_prompt", "num_waveforms_per_prompt", "num_videos_per_prompt"),
    }
)
"""Parameters that requests and options fill."""
UNCONDITIONAL = 1000
"""The label without a class that ``DiTPipeline`` assumes for every network."""
SOURCES = ("image", "control_image", "video")


class Calls:
    """A pipeline with fixed arguments, called for requests.

    ``fixed`` are arguments by the names of the call, each with the option that gave it. ``mask`` is the part of a
    source that is painted over, (left, top, right, bottom) in [0, 1].

    Raises:
        InputError: the call lacks a parameter, or needs what items cannot give.
    """

    def __init__(
        self,
        pipeline: Any,
        fixed: Mapping[str, tuple[str, object]],
        negative_prompt: str | None,
        mask: tuple[float, float, float, float] | None,
    ) -> None:
        self._pipeline, self._name = pipeline, type(pipeline).__name__
        self._parameters = {
            name: each
            for name, each in inspect.signature(type(pipeline).__call__).parameters.items()
            if name != "self" and each.kind is not each.VAR_KEYWORD
        }
        for name, (option, _) in fixed.items():
            self._require(name, option)
        if negative_prompt is not None:
            self._require("negative_prompt", "negative_prompt")
        if (mask is not None) != ("mask_image" in self._parameters):
            self._require("mask_image", "mask")
            raise InputError(f"{self._name} paints a part of a source: pass option mask=[left, top, right, bottom]")
        self._fixed = {name: value for name, (_, value) in fixed.items()}
        self._negative_prompt, self._mask = negative_prompt, mask
        sources = [name for name in SOURCES if name in self._parameters]
        if len(sources) > 1:
            raise InputError(f"{self._name} takes {' and '.join(sources)} for each sample, but an item has one source")
        self._source = sources[0] if sources else ""
        self._check_guidance()
        self.modality: Modality = modality_of(self._parameters)
        self._rate = rate_of(pipeline) if self.modality == "audio" else 0
        self._alone = type(pipeline).__module__.split(".")[2] not in BATCHED

    @property
    def conditions(self) -> frozenset[Condition]:
        """The conditions that the call takes and needs."""
        there: dict[Condition, bool] = {
            "prompt": "prompt" in self._parameters,
            "label": "class_labels" in self._parameters and self._classes() != 0,
            "source": bool(self._source),
        }
        return frozenset(name for name, takes in there.items() if takes)

    def draw(self, request: SampleRequest) -> Drawn:
        """The samples of a request, in one call if the pipeline keeps the samples of a batch apart."""
        if not self._alone and len(request) > 1 and not isinstance(request.sources, MixedImages):
            if (drawn := self._together(request)) is not None:
                return drawn
            self._alone = True
        parts = [self._call(request.take([row]))[0] for row in range(len(request))]
        failures = {row: part.failures[0] for row, part in enumerate(parts) if part.failures}
        return Drawn(concatenate([part.samples for part in parts]), failures)

    def _together(self, request: SampleRequest) -> Drawn | None:
        """All samples by one call; ``None`` if it takes one generator only, or draws from a shared one."""
        try:
            drawn, shared = self._call(request)
        except (TypeError, ValueError, AttributeError):  # of schedulers that take a single generator
            return None
        return None if shared else drawn

    def _call(self, request: SampleRequest) -> tuple[Drawn, bool]:
        """The samples of one call, and whether it drew from a global generator."""
        seeds, n = request.seeds.tolist(), len(request)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        own: dict[str, object] = {
            "generator": generators if n > 1 else generators[0],
            "output_type": "np",
            "batch_size": n,
        }
        given = {name: value for name, value in own.items() if name in self._parameters}
        given |= self._fixed | self._conditions_of(request)
        with seeded(seeds[0], request.device) as is_used:
            output = self._pipeline(**given)
            shared = is_used()
        return Drawn(samples_of(output, self.modality, self._rate), censored(output)), shared

    def _conditions_of(self, request: SampleRequest) -> dict[str, object]:
        """The arguments that a request gives; those of one sample alone are not lists, which some pipelines refuse."""
        given: dict[str, list[Any]] = {}
        if "prompt" in self._parameters:
            given["prompt"] = [text_of(prompt) for prompt in request.prompts]
        if self._negative_prompt is not None:
            given["negative_prompt"] = [self._negative_prompt] * len(request)
        if self._source:
            given[self._source] = self._pictures(request.sources)
            if self._mask:
                given["mask_image"] = [_rectangle(picture.size, self._mask) for picture in given[self._source]]
        conditions = {name: values if len(request) > 1 else values[0] for name, values in given.items()}
        labels = {"class_labels": self._checked(request.labels)} if "label" in self.conditions else {}
        return conditions | labels

    def _pictures(self, sources: Samples | None) -> list[Any]:
        """Sources as the pipeline takes them: images of PIL, or for each clip its frames."""
        config = getattr(getattr(self._pipeline, "vae", None), "config", {})
        mode = "L" if config.get("in_channels") == 1 else "RGB"
        if self._source == "video" and isinstance(sources, Videos):
            return [[_picture(frame, mode) for frame in clip] for clip in sources.pixels]
        if self._source != "video" and isinstance(sources, Images | MixedImages):
            return [_picture(pixels, mode) for pixels in sources.items]
        raise InputError(f"{self._name} takes {self._source}s as sources, but the items have other samples")

    def _classes(self) -> int:
        """Number of classes of the network; 0 if it takes none."""
        network = getattr(self._pipeline, "transformer", None) or getattr(self._pipeline, "unet", None)
        config = getattr(network, "config", {})
        return int(config.get("num_embeds_ada_norm") or config.get("num_class_embeds") or 0)

    def _checked(self, labels: Int64[Tensor, " n"] | None) -> list[int]:
        """The labels, within the classes: an index out of range would end every later use of a GPU by the process."""
        values = [] if labels is None else labels.tolist()
        if not values or min(values) < 0 or max(values) >= self._classes():
            raise InputError(
                f"{self._name} takes labels from 0 to {self._classes() - 1}, but some items have another or none: "
                "change the suite's items"
            )
        return values

    def _check_guidance(self) -> None:
        """Raise if a call would look up a label that the network does not have, which ends later uses of a GPU."""
        scale = self._fixed.get("guidance_scale")
        guided = not isinstance(scale, int | float) or scale > 1
        if self._name == "DiTPipeline" and guided and self._classes() != UNCONDITIONAL:
            raise InputError(
                f"{self._name} guides by label {UNCONDITIONAL}, but its network has the labels 0 to "
                f"{self._classes() - 1}: pass option guidance=1"
            )

    def _require(self, name: str, option: str) -> None:
        """Raise unless the call takes a parameter that an option gives."""
        if name not in self._parameters:
            there = ", ".join(sorted(set(self._parameters) - OURS)) or "none"
            raise InputError(
                f"{self._name} does not take {name!r} (option {option} of {WHO}): remove the option, or use its "
                f"arguments: {there}"
            )


def _picture(pixels: UInt8[Tensor, "c h w"], mode: str) -> Image.Image:
    array = pixels.movedim(0, -1).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).convert(mode)


def _rectangle(size: tuple[int, int], part: tuple[float, float, float, float]) -> Image.Image:
    """A mask of this width and height: white inside the part, black outside."""
    width, height = size
    left, top, right, bottom = part
    mask = Image.new("L", size, 0)
    mask.paste(255, (round(left * width), round(top * height), round(right * width), round(bottom * height)))
    return mask
