"""Checks of plug-ins before they are trusted with work: determinism, independence of batches, range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from evalsvc.core.errors import ModelError
from evalsvc.plugins.interfaces import Generator, HoldsSamples
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Samples, Texts, Videos, concatenate
from evalsvc.plugins.validation import sample

CHECKED = 16
"""Samples that :func:`check_generator` asks for."""


@dataclass(frozen=True)
class Finding:
    """One clause of the generator contract, and how it came out."""

    check: str
    ok: bool
    detail: str


def check_generator(generator: Generator, device: torch.device) -> list[Finding]:
    """Try a generator on small requests. A breach that stops the checks is itself the last finding."""
    findings: list[Finding] = []
    try:
        whole = sample(generator, SampleRequest.of(1, 0, CHECKED, device))
        findings.append(Finding("count, type and shape", True, f"{CHECKED} samples{_looks(whole)}"))
        again = sample(generator, SampleRequest.of(1, 0, CHECKED, device))
        off = _distance(whole, again)
        findings.append(Finding("determinism: the same seeds again", off == 0, _differ(off)))
        cuts = [0, 1, 6, CHECKED]
        parts = [sample(generator, SampleRequest.of(1, a, b, device)) for a, b in pairwise(cuts)]
        off = _distance(whole, concatenate(parts))
        # Float kernels may round differently in another batch; one grey level is that, more is a shared random stream.
        findings.append(Finding(f"batches of 1, 5 and {CHECKED - 6} samples", off <= 1, _differ(off)))
        if not isinstance(generator, HoldsSamples):
            # Who writes answers prompts of his own by index, unless the request brings some.
            prompts = ("Once",) * CHECKED if generator.info.modality == "text" else ()
            ahead = SampleRequest.of(1, 0, CHECKED, device, prompts)
            back = replace(ahead, indices=ahead.indices.flip(0))
            off = _distance(sample(generator, ahead), sample(generator, back))
            findings.append(Finding("the same seeds at other indices", off <= 1, _differ(off)))
    except ModelError as error:
        findings.append(Finding("count, type and shape", False, str(error)))
    return findings


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
    """Largest difference in grey levels, of sounds in 16-bit levels; of texts, how many differ, counted double."""
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
