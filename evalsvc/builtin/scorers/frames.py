"""Frames of videos, for scorers that look at each by an extractor of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8

from evalsvc.builtin.scorers.inner_extractor import InnerExtractor
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Samples, Videos

if TYPE_CHECKING:
    from torch import Tensor


def build_frame_extractor(
    scorer: str,
    name: str,
    output: str,
    options: Mapping[str, Any] | None,
    device: torch.device,
    plugins: Plugins | None,
) -> InnerExtractor:
    """Build an extractor of images.

    Raises:
        InputError: there is no such extractor or output, or it does not take images.
    """
    inner = InnerExtractor.build(scorer, name, output, options, device, plugins)
    takes = inner.extractor.info.takes
    if "image" not in takes:
        raise InputError(
            f"scorer {scorer!r} requires an image extractor for frames, but {name!r} takes "
            f"{' and '.join(sorted(takes))} samples"
        )
    return inner


def videos_of(scorer: str, samples: Samples) -> UInt8[Tensor, "n t c h w"]:
    """The frames of each video.

    Raises:
        InputError: the samples are not videos.
    """
    if not isinstance(samples, Videos):
        raise InputError(f"scorer {scorer!r} requires video samples")
    return samples.pixels
