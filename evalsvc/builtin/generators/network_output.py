"""Samples from the output of a network: images, videos or audio, by its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from evalsvc.builtin.generators.call_options import CallOptions
from evalsvc.core.errors import ModelError
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Audio, Images, Samples, Videos

KEYS = ("sample", "samples", "images", "image")
"""Entries of a dictionary that are its samples, by priority."""
CHANNELS = (1, 3)
BY_AXES: dict[int, Modality] = {2: "audio", 3: "audio", 4: "image", 5: "video"}
"""Modality of an output by its number of axes."""


def tensor_of(output: Any, who: str) -> torch.Tensor:
    """The tensor of an output: itself, the first of a tuple, or the samples of a dictionary or of a model output.

    Raises:
        ModelError: there is no tensor.
    """
    entries = output if isinstance(output, Mapping) else {key: getattr(output, key, None) for key in KEYS}
    first = output[:1] if isinstance(output, tuple | list) else ()
    for each in (output, *(entries.get(key) for key in KEYS), *first):
        if isinstance(each, torch.Tensor):
            return each
    raise ModelError(
        f"{who} returned {type(output).__name__}, expected a tensor, a tuple that begins with one, or a dictionary "
        f"with {', '.join(KEYS[:-1])} or {KEYS[-1]}"
    )


def samples_of(output: Any, options: CallOptions, who: str) -> Samples:
    """Samples of an output (n, c, h, w), (n, t, c, h, w), (n, t) or (n, 1, t), floats or uint8.

    Videos may have their channels first, (n, c, t, h, w), if t is neither 1 nor 3. With the option ``modality``, images
    and videos may have no channels.

    Raises:
        ModelError: the shape is that of no sample, or audio has no rate.
    """
    tensor = tensor_of(output, who).detach()
    modality = options.modality or BY_AXES.get(tensor.ndim)
    axes, shape = tensor.ndim, tuple(tensor.shape)
    if modality == "audio" and (axes == 2 or (axes == 3 and shape[1] == 1)):
        if options.rate is None:
            raise ModelError(f"{who} returned audio of shape {shape}: give its sample rate in Hz as option rate")
        return Audio(tuple(tensor.reshape(len(tensor), -1).float()), options.rate)
    if modality == "image" and axes == 3:
        return samples_of(tensor[:, None], options, who)
    if modality == "image" and axes == 4:
        return Images(_pixels(tensor, options))
    if modality == "video" and axes == 4:
        return samples_of(tensor[:, :, None], options, who)
    if modality == "video" and axes == 5:
        if shape[1] in CHANNELS and shape[2] not in CHANNELS:
            tensor = tensor.transpose(1, 2)
        return Videos(_pixels(tensor.flatten(0, 1), options).view(tensor.shape))
    raise ModelError(
        f"{who} returned shape {shape}, expected images (n, c, h, w), videos (n, t, c, h, w) or audio (n, t)"
        + (f" (option modality={options.modality})" if options.modality else "")
    )


def _pixels(tensor: torch.Tensor, options: CallOptions) -> torch.Tensor:
    if tensor.dtype == torch.uint8:
        return tensor
    return (Images.from_signed if options.output == "signed" else Images.from_unit)(tensor).pixels
