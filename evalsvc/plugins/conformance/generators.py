"""Conformance of generators: samples as declared, deterministic, sample i dependent only on seed i."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from evalsvc.core.errors import ModelError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins import validation
from evalsvc.plugins.conformance.findings import Finding
from evalsvc.plugins.interfaces import Generator, HoldsSamples
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Samples, Texts, Videos, concatenate

if TYPE_CHECKING:
    from torch import Tensor

CHECKED = 16
"""Number of samples that :func:`check_generator` requests."""


def check_generator(generator: Generator, device: torch.device) -> list[Finding]:
    """Run a generator on small requests. A breach that stops the checks is reported as the last finding."""
    findings: list[Finding] = []
    try:
        whole = sample(generator, SampleRequest.of(1, 0, CHECKED, device))
        findings.append(Finding("count, type and shape", True, f"{CHECKED} samples{_looks(whole)}"))
        second = sample(generator, SampleRequest.of(1, 0, CHECKED, device))
        off = _distance(whole, second)
        findings.append(Finding("determinism: same seeds, second run", off == 0, _differ(off)))
        cuts = [0, 1, 6, CHECKED]
        parts = [sample(generator, SampleRequest.of(1, a, b, device)) for a, b in pairwise(cuts)]
        off = _distance(whole, concatenate(parts))
        # Float kernels may round differently in another batch, by one gray level; a larger difference means that
        # samples share a random stream.
        findings.append(Finding(f"batches of 1, 5 and {CHECKED - 6} samples", off <= 1, _differ(off)))
        if not isinstance(generator, HoldsSamples):
            # A text generator may have prompts of its own, by index, unless the request has prompts.
            prompts = ("Once",) * CHECKED if generator.info.modality == "text" else ()
            ahead = SampleRequest.of(1, 0, CHECKED, device, prompts)
            back = replace(ahead, indices=ahead.indices.flip(0))
            off = _distance(sample(generator, ahead), sample(generator, back))
            findings.append(Finding("same seeds at other indices", off <= 1, _differ(off)))
    except ModelError as error:
        findings.append(Finding("count, type and shape", False, str(error)))
    return findings


def sample(generator: Generator, request: SampleRequest) -> Samples:
    """The samples of a request, without failures and costs."""
    return validation.sample(generator, request).samples


def _looks(samples: Samples) -> str:
    if isinstance(samples, Texts):
        return ""
    if isinstance(samples, Audio):
        return f" of {min(map(len, samples.waves))} to {max(map(len, samples.waves))} steps at {samples.rate} Hz"
    if isinstance(samples, MixedImages):
        return " of several sizes, uint8"
    pixels = samples.pixels
    return f" of shape {tuple(pixels.shape[1:])}, uint8, levels {int(pixels.min())} to {int(pixels.max())}"


def _distance(a: Samples, b: Samples) -> int:
    """Largest difference in gray levels, for audio in 16-bit levels; for texts twice the number that differ."""
    if isinstance(a, Images | MixedImages) and isinstance(b, Images | MixedImages):
        return max(_levels(x, y) for x, y in zip(a.items, b.items, strict=True))
    if isinstance(a, Videos) and isinstance(b, Videos):
        return _levels(a.pixels, b.pixels)
    if isinstance(a, Texts) and isinstance(b, Texts):
        return 2 * sum(x != y for x, y in zip(a.items, b.items, strict=True))
    if isinstance(a, Audio) and isinstance(b, Audio):
        pairs = list(zip(a.waves, b.waves, strict=True))
        if any(len(x) != len(y) for x, y in pairs):
            return 2**16
        return max(round(float((x - y).abs().max()) * 2**15) for x, y in pairs)
    raise ModelError("the generator changed the type of its samples")


def _levels(a: Tensor, b: Tensor) -> int:
    return int((a.int() - b.int()).abs().max()) if a.shape == b.shape else 256


def _differ(off: int) -> str:
    return "identical" if off == 0 else f"samples differ by up to {off}"
