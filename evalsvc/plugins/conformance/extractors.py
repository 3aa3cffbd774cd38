"""Conformance of extractors: outputs as declared, deterministic, row i dependent only on sample i."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch

from evalsvc.core.errors import EvalsvcError, InputError, ModelError
from evalsvc.plugins.conformance.findings import Finding, stated
from evalsvc.plugins.conformance.trial_samples import COUNT, TEXTS, trial_samples
from evalsvc.plugins.interfaces import EmbedsTexts, Extractor, ExtractorInfo, Modality
from evalsvc.plugins.samples import Images, MixedImages, Samples, rows
from evalsvc.plugins.validation import extract

TOLERANCE = 1e-3
"""Maximum difference of a row relative to the largest value: float kernels may round differently in another batch."""

Arrays = Mapping[str, np.ndarray]


def check_extractor(extractor: Extractor) -> list[Finding]:
    """Run an extractor on a few samples of each modality that it accepts."""
    info = extractor.info
    findings = [_outputs(info), stated("facts", name=info.name, weights=info.weights, preprocessing=info.preprocessing)]
    for modality in sorted(info.takes):
        findings += _on(extractor, modality)
    if isinstance(extractor, EmbedsTexts):
        findings.append(_embedded(extractor))
    return findings


def _outputs(info: ExtractorInfo) -> Finding:
    wrong = [name for name, width in info.outputs.items() if not name or "/" in name or width < 0]
    ok = bool(info.outputs) and not wrong
    told = ", ".join(f"{name} ({width or 'any'})" for name, width in info.outputs.items())
    return Finding("outputs: names and dimensions", ok, told if ok else f"invalid: {wrong or 'no outputs'}")


def _on(extractor: Extractor, modality: Modality) -> list[Finding]:
    """Findings for one modality. A breach that stops the checks is reported as the last finding."""
    check, findings = f"{modality}: shapes, finite values", list[Finding]()
    try:
        samples, whole = _accepted(extractor, modality)
        shapes = ", ".join(f"{name} {array.shape}" for name, array in whole.items())
        findings.append(Finding(check, True, shapes))
        check = f"{modality}: same shapes and finite values in other batches"
        off = _distance(whole, extract(extractor, samples))
        findings.append(Finding(f"{modality}: determinism, same samples, second run", off == 0, _differ(off)))
        parts = [extract(extractor, rows(samples, range(a, b))) for a, b in pairwise((0, 1, 6, COUNT))]
        off = _distance(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})
        findings.append(Finding(f"{modality}: batches of 1, 5 and {COUNT - 6} samples", off <= TOLERANCE, _differ(off)))
        back = extract(extractor, rows(samples, range(COUNT)[::-1]))
        off = _distance(whole, {name: array[::-1] for name, array in back.items()})
        findings.append(Finding(f"{modality}: same samples in reverse order", off <= TOLERANCE, _differ(off)))
        if isinstance(samples, Images) and extractor.info.mixed_sizes:
            off = _distance(whole, _among_others(extractor, samples))
            findings.append(Finding("image: in a batch with images of another size", off <= TOLERANCE, _differ(off)))
    except EvalsvcError as error:
        findings.append(Finding(check, False, str(error)))
    return findings


def _accepted(extractor: Extractor, modality: Modality) -> tuple[Samples, Arrays]:
    """The first trial samples that an extractor accepts; it may reject those of another size or rate."""
    refused: InputError | None = None
    for samples in trial_samples(modality):
        try:
            return samples, extract(extractor, samples)
        except InputError as error:
            refused = error
    raise ModelError(f"all trial samples were rejected: {refused}")


def _among_others(extractor: Extractor, samples: Images) -> Arrays:
    other = samples.pixels[0, :, : samples.pixels.shape[2] // 2]
    mixed = MixedImages(tuple(item for each in samples.items for item in (each, other)))
    return {name: array[::2] for name, array in extract(extractor, mixed).items()}


def _embedded(extractor: EmbedsTexts) -> Finding:
    check = "embeddings of texts: shape, finite values, determinism"
    try:
        first, second = (extractor.embed_texts(TEXTS).float().cpu() for _ in range(2))
    except Exception as error:
        return Finding(check, False, f"{type(error).__name__}: {error}")
    fits = first.ndim == 2 and len(first) == len(TEXTS) and bool(torch.isfinite(first).all())
    return Finding(check, fits and torch.equal(first, second), f"shape {tuple(first.shape)}")


def _distance(a: Arrays, b: Arrays) -> float:
    """Largest difference, relative to the largest value."""
    return max(float(np.abs(a[name] - b[name]).max()) / (float(np.abs(a[name]).max()) or 1.0) for name in a)


def _differ(off: float) -> str:
    return "identical" if off == 0 else f"rows differ by up to {off:.1e} of the largest value"
