"""Conformance of generators: samples as declared, deterministic, sample i dependent only on seed and condition i."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from evalsvc.core.errors import ModelError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins import validation
from evalsvc.plugins.conformance.findings import Finding
from evalsvc.plugins.conformance.trial_conditions import conditioned
from evalsvc.plugins.interfaces import Generator, HoldsSamples
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Samples, Texts, Videos, concatenate

if TYPE_CHECKING:
    from torch import Tensor

CHECKED = 16
"""Number of samples that :func:`check_generator` requests."""


def check_generator(generator: Generator, device: torch.device) -> list[Finding]:
    """Run a generator on small requests. A breach that stops the checks is reported as the last finding."""
    findings: list[Finding] = []
    info = generator.info

    def asked(start: int, stop: int) -> SampleRequest:
        return conditioned(SampleRequest.of(1, start, stop, device), info, info.needs)

    try:
        whole = sample(generator, asked(0, CHECKED))
        findings.append(Finding("count, type and shape", True, f"{CHECKED} samples{_looks(whole)}"))
        second = sample(generator, asked(0, CHECKED))
        off = _distance(whole, second)
        findings.append(Finding("determinism: same seeds, second run", off == 0, _differ(off)))
        cuts = [0, 1, 6, CHECKED]
        parts = [sample(generator, asked(a, b)) for a, b in pairwise(cuts)]
        off = _distance(whole, concatenate(parts))
        # Float kernels may round differently in another batch, by one gray level; a larger difference means that
        # samples share a random stream.
        findings.append(Finding(f"batches of 1, 5 and {CHECKED - 6} samples", off <= 1, _differ(off)))
        if not isinstance(generator, HoldsSamples):
            # A text generator may have prompts of its own, by index, unless the request has prompts.
            ahead = asked(0, CHECKED)
            if info.modality == "text" and not ahead.prompts:
                ahead = replace(ahead, prompts=("Once",) * CHECKED)
            back = replace(ahead, indices=ahead.indices.flip(0))
            off = _distance(sample(generator, ahead), sample(generator, back))
            findings.append(Finding("same seeds at other indices", off <= 1, _differ(off)))
            findings += _check_conditions(generator, SampleRequest.of(1, 0, CHECKED, device))
    except ModelError as error:
        findings.append(Finding("count, type and shape", False, str(error)))
    return findings


def _check_conditions(generator: Generator, request: SampleRequest) -> Iterator[Finding]:
    """Whether samples depend on each condition that the generator takes, and on it and their seeds alone."""
    info = generator.info
    if info.takes is None:
        detail = "warning: takes is not declared, so suites cannot be checked: add it to GeneratorInfo"
        yield Finding("conditions", True, detail)
        return
    if undeclared := sorted(info.needs - info.takes):
        yield Finding("conditions", False, f"needs {undeclared[0]}, which 'takes' does not name")
        return
    for condition in sorted(info.takes):
        given = info.needs | {condition}
        one, other = (conditioned(request, info, given, variant) for variant in (None, condition))
        samples = sample(generator, one)
        same, moved = (_distance(samples, sample(generator, each)) for each in (one, other))
        ok = same == 0 and moved > 0
        detail = "samples follow it" if ok else f"two {condition}s, the same samples" if same == 0 else _differ(same)
        yield Finding(f"{condition}: the same again, and another", ok, detail)


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
