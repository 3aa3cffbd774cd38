"""Trial conditions: requests with two different prompts, labels or sources for the same seeds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Condition
from evalsvc.plugins.samples import Audio, Images, SampleRequest, Samples, Texts, Videos

PROMPTS = ("Once upon a time", "The price of seven apples is")
SIZE = (3, 32, 32)
"""Shape of the trial sources of a generator that declares no shape of its samples."""


def conditioned(
    request: SampleRequest, info: GeneratorInfo, conditions: Collection[Condition], variant: Condition | None = None
) -> SampleRequest:
    """The request with the same prompt, label and source for all samples; ``variant`` is the one that is different.

    Sources are of the generator's own modality, since a declaration does not name another.
    """
    n = len(request)
    sources = _sources(info, n, variant == "source") if "source" in conditions else None
    return replace(
        request,
        prompts=(PROMPTS[variant == "prompt"],) * n if "prompt" in conditions else request.prompts,
        labels=torch.full((n,), int(variant == "label"), device=request.device) if "label" in conditions else None,
        sources=sources,
        item_ids=("trial",) * n,
        draws=request.indices,
    )


def _sources(info: GeneratorInfo, n: int, other: bool) -> Samples:
    level = 200 if other else 50
    if info.modality == "text":
        return Texts((PROMPTS[other],) * n)
    if info.modality == "audio":
        wave = 0.3 * torch.sin(torch.arange(16_000) * level / 1000)
        return Audio((wave,) * n, 16_000)
    shape = info.sample_shape or (SIZE if info.modality == "image" else (4, *SIZE))
    pixels = torch.full((n, *shape), level, dtype=torch.uint8)
    return Images(pixels) if info.modality == "image" else Videos(pixels)
