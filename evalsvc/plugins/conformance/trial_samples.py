"""Trial samples of each modality in common sizes, and selection of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Audio, Images, MixedImages, Samples, Texts, Videos

COUNT = 12
"""Number of samples in a trial."""
TEXTS = (
    "A cat sleeps here.",
    "The old engineer writes a letter to the city.",
    "Rain falls on warm stones",
    "Nobody answers",
    "One of the seven bridges carries trains, carts and people, day after day.",
    "She counts to ten.",
    "A cat finds the letter.",
    "The old engineer draws a bridge",
    "Rain leaves",
    "Nobody asks why the trains are late.",
    "One of the seven bridges and a city",
    "She is here.",
)


def trial_samples(modality: Modality) -> Iterator[Samples]:
    """Batches of :data:`COUNT` samples of different sizes and channels: an extractor may accept only one of them."""
    noise = torch.Generator().manual_seed(7)

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, (COUNT, *shape), dtype=torch.uint8, generator=noise)

    if modality == "image":
        yield from (Images(pixels(*shape)) for shape in ((3, 32, 32), (1, 8, 8), (1, 28, 28), (3, 224, 224)))
    elif modality == "video":
        yield from (Videos(pixels(*shape)) for shape in ((4, 3, 32, 32), (4, 1, 8, 8), (16, 3, 64, 64)))
    elif modality == "audio":
        for rate in (16_000, 48_000):
            lengths = [rate + 997 * i for i in range(COUNT)]
            yield Audio(tuple(0.1 * torch.randn(length, generator=noise) for length in lengths), rate)
    else:
        yield Texts(TEXTS)


def same(a: Samples, b: Samples) -> bool:
    """Whether two batches are equal."""
    if isinstance(a, Texts) or isinstance(b, Texts):
        return a == b
    rates = [each.rate for each in (a, b) if isinstance(each, Audio)]
    pairs = list(zip(_tensors(a), _tensors(b), strict=False))
    return len(a) == len(b) and len({*rates}) <= 1 and all(torch.equal(x, y) for x, y in pairs)


def _tensors(samples: Images | MixedImages | Videos | Audio) -> tuple[torch.Tensor, ...]:
    if isinstance(samples, Audio):
        return samples.waves
    return tuple(samples.pixels) if isinstance(samples, Images | Videos) else samples.items
