"""Outputs of pipelines as samples: images, waves or clips, and those that a safety checker blacked out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalsvc.core.errors import InputError, ModelError
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Audio, Images, Samples, Videos

FIELDS: dict[Modality, str] = {"image": "images", "audio": "audios", "video": "frames"}
CENSORED = "the pipeline's safety checker blacked it out"


def samples_of(output: Any, modality: Modality, rate: int) -> Samples:
    """The samples of a pipeline's output; ``rate`` is that of audio, in samples per second. Stereo becomes the mean.

    Raises:
        ModelError: the output lacks them, or has another shape.
    """
    given = getattr(output, FIELDS[modality], None)
    if given is None or (isinstance(given, list) and not given):
        raise ModelError(f"the pipeline returned {type(output).__name__} without {FIELDS[modality]}")
    values = _tensor(given)
    if modality == "audio":
        waves = values.mean(1) if values.ndim == 3 else values
        if waves.ndim != 2:
            raise _misshapen(values, "(n, t) or (n, channels, t)")
        return Audio(tuple(waves.clamp(-1, 1)), rate)
    axes = 4 if modality == "image" else 5
    if values.ndim == axes - 1:  # of one channel
        values = values[..., None]
    if values.ndim != axes:
        raise _misshapen(values, "(n, h, w, c)" if axes == 4 else "(n, t, h, w, c)")
    pixels = values.movedim(-1, -3)
    if modality == "image":
        return Images.from_unit(pixels)
    n, t, *shape = pixels.shape
    return Videos(Images.from_unit(pixels.reshape(n * t, *shape)).pixels.reshape(n, t, *shape))


def censored(output: Any) -> dict[int, str]:
    """The rows that a safety checker blacked out, with the reason."""
    flags = getattr(output, "nsfw_content_detected", None) or []
    return {row: CENSORED for row, flag in enumerate(flags) if flag}


def modality_of(parameters: Any) -> Modality:
    """The modality of a pipeline's samples, by the parameters of its call."""
    if not {"num_frames", "video_length", "video"}.isdisjoint(parameters):
        return "video"
    return "audio" if any(name.startswith("audio_") for name in parameters) else "image"


def rate_of(pipeline: Any) -> int:
    """Samples per second of a pipeline of audio.

    Raises:
        InputError: none of its components knows the rate.
    """
    for part, name in (("vocoder", "sampling_rate"), ("vae", "sampling_rate"), ("unet", "sample_rate")):
        if rate := getattr(getattr(getattr(pipeline, part, None), "config", None), name, None):
            return int(rate)
    raise InputError(f"the rate of the audio of {type(pipeline).__name__} is unknown: use a pipeline with a vocoder")


def _tensor(given: Any) -> Tensor:
    """float32 on the CPU; lists are stacked."""
    if isinstance(given, Tensor):
        return given.detach().float().cpu()
    return torch.from_numpy(np.asarray(given)).float()


def _misshapen(values: Tensor, wanted: str) -> ModelError:
    return ModelError(f"the pipeline returned an array of shape {tuple(values.shape)}, expected {wanted}")
