"""Conformance of scorers: values as declared, deterministic, row i dependent only on sample i and item i."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from evalsvc.core.errors import EvalsvcError, ModelError
from evalsvc.metrics.registry import Quantity
from evalsvc.plugins.conformance.findings import Finding, stated
from evalsvc.plugins.conformance.trial_samples import COUNT, TEXTS, trial_samples
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.items import ItemBatch, Usage
from evalsvc.plugins.samples import Audio, Images, MixedImages, Samples, Texts, Videos, rows
from evalsvc.plugins.scorers import CandidateLikelihoods, Scorer, ScorerInfo, ScoresLikelihoods
from evalsvc.plugins.scoring import NOT_APPLICABLE, Values, concatenate, rows_of, score, score_likelihoods

TOLERANCE = 1e-4
"""Maximum difference of a value relative to the largest: float kernels may round differently in another batch."""
Score = Callable[[Sequence[int]], Values]
"""Scores the chosen rows of a trial."""


def check_scorer(scorer: Scorer | ScoresLikelihoods, declared: tuple[Quantity, ...]) -> list[Finding]:
    """Run a scorer on a few samples and items; ``declared`` are the quantities that it declares without being built."""
    info = scorer.info
    findings = [_quantities(info, declared), stated("facts", name=info.name, weights=info.weights)]
    for modality in sorted(info.takes):
        findings += _on(scorer, modality)
    return findings


def _quantities(info: ScorerInfo, declared: tuple[Quantity, ...]) -> Finding:
    names = [each.name for each in info.quantities]
    wrong = [name for name in names if not name.isidentifier()] or [name for name in names if names.count(name) > 1]
    told = ", ".join(f"{each.name} ({each.direction}, {each.unit})" for each in info.quantities)
    if wrong or not names:
        return Finding("quantities: names, declaration", False, f"invalid: {wrong or 'no quantities'}")
    if declared != info.quantities:
        return Finding("quantities: names, declaration", False, "the class declares others than its 'info'")
    return Finding("quantities: names, declaration", True, told)


def _on(scorer: Scorer | ScoresLikelihoods, modality: Modality) -> list[Finding]:
    """Findings for one modality. A breach that stops the checks is reported as the last finding."""
    check, findings = f"{modality}: shape, dtype, range", list[Finding]()
    try:
        samples, scored, whole = _accepted(scorer, modality)
        findings.append(Finding(check, True, _told(whole)))
        check = f"{modality}: same shape and range in other batches"
        findings.append(_same(f"{modality}: determinism, same samples, second run", whole, scored(range(COUNT)), 0.0))
        parts = [scored(range(a, b)) for a, b in pairwise((0, 1, 6, COUNT))]
        findings.append(_same(f"{modality}: batches of 1, 5 and {COUNT - 6} samples", whole, concatenate(parts)))
        back = scored(range(COUNT)[::-1]).take(range(COUNT)[::-1])
        findings.append(_same(f"{modality}: same samples in reverse order", whole, back))
        if not isinstance(scorer, ScoresLikelihoods):
            findings.append(_on_nothing(scorer, modality, _without_content(samples)))
    except EvalsvcError as error:
        findings.append(Finding(check, False, str(error)))
    return findings


def _accepted(scorer: Scorer | ScoresLikelihoods, modality: Modality) -> tuple[Samples, Score, Values]:
    """A trial that the scorer accepts; it may reject samples or targets of another kind, size or rate."""
    reason = ""
    for samples in trial_samples(modality):
        for items in _trial_items(scorer.info, samples):
            scored = _scoring(scorer, samples, items)
            whole = scored(range(COUNT))
            if not whole.crashed:
                return samples, scored, whole
            reason = whole.reasons[min(whole.crashed)]
    raise ModelError(f"no trial was scored without an exception: {reason}")


def _scoring(scorer: Scorer | ScoresLikelihoods, samples: Samples, items: ItemBatch) -> Score:
    def scored(chosen: Sequence[int]) -> Values:
        part = rows_of(items, chosen)
        if not isinstance(scorer, ScoresLikelihoods):
            return score(scorer, rows(samples, chosen), part, {})
        candidates = scorer.candidates(part)
        if len(candidates) != len(part):
            raise ModelError(f"it returned candidates of {len(candidates)} of {len(part)} items")
        return score_likelihoods(scorer, [_likelihoods(each) for each in candidates], part)

    return scored


def _likelihoods(candidates: Sequence[str]) -> CandidateLikelihoods:
    nats = [1 + hashlib.sha256(text.encode()).digest()[0] / 32 for text in candidates]
    return CandidateLikelihoods(np.array(nats), np.array([1 + len(text.split()) for text in candidates]))


def _trial_items(info: ScorerInfo, samples: Samples) -> Iterator[ItemBatch]:
    """Items with the columns that a scorer reads; targets are samples of the same kind, or texts."""
    numbers, there = torch.arange(COUNT), info.reads
    usage = Usage(0.5 + numbers.double() / 8, 4.0 + numbers.double(), 0.001 * numbers.double())
    items = ItemBatch(
        ids=tuple(f"item-{number}" for number in range(COUNT)),
        draws=torch.zeros(COUNT, dtype=torch.int64),
        prompts=TEXTS if "prompt" in there else (),
        labels=numbers % 4 if "label" in there else None,
        sources=rows(samples, range(COUNT)[::-1]) if "source" in there else None,
        choices=tuple((text, text[::-1], f"not {text}") for text in TEXTS) if "choices" in there else (),
        answers=tuple(number % 3 for number in range(COUNT)) if "answer" in there else (),
        tags={"lang": ("de", "en") * (COUNT // 2)} if "tags" in there else {},
        usage=usage if "usage" in there else None,
        files=(bytes,) * COUNT if "file" in there else (),
    )
    if "target" not in there:
        yield items
        return
    if not isinstance(samples, Texts):
        yield replace(items, targets=rows(samples, [*range(1, COUNT), 0]))
    right = [text if number % 3 == 0 else TEXTS[number - 1] for number, text in enumerate(TEXTS)]
    yield replace(items, targets=tuple((text, text.lower()) for text in right))


def _on_nothing(scorer: Scorer, modality: Modality, samples: Samples) -> Finding:
    """Samples without content are outcomes; they raise nothing."""
    kinds = list(_trial_items(scorer.info, samples))
    found = min((_scoring(scorer, samples, items)(range(COUNT)) for items in kinds), key=lambda each: len(each.crashed))
    told = found.reasons[min(found.crashed)] if found.crashed else _told(found)
    return Finding(f"{modality}: samples without content", not found.crashed, told)


def _without_content(samples: Samples) -> Samples:
    """Silent, black or empty samples of these sizes."""
    if isinstance(samples, Audio):
        return Audio(tuple(torch.zeros_like(wave) for wave in samples.waves), samples.rate)
    if isinstance(samples, Images | Videos):
        return type(samples)(torch.zeros_like(samples.pixels))
    return Texts(("",) * COUNT) if not isinstance(samples, MixedImages) else samples


def _same(check: str, a: Values, b: Values, tolerance: float = TOLERANCE) -> Finding:
    if not np.array_equal(a.outcomes, b.outcomes) or a.reasons.keys() != b.reasons.keys():
        return Finding(check, False, "other outcomes")
    off = max(_distance(column, b.values[name]) for name, column in a.values.items())
    told = "identical" if off == 0 else f"values differ by up to {off:.1e} of the largest"
    return Finding(check, off <= tolerance, told)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the largest value; infinite if other rows have none."""
    there = ~np.isnan(a)
    if not np.array_equal(there, ~np.isnan(b)):
        return np.inf
    return float(np.abs(a[there] - b[there]).max(initial=0.0)) / (float(np.abs(a[there]).max(initial=0.0)) or 1.0)


def _told(values: Values) -> str:
    """Ranges of the values, and how many samples have none."""
    parts = []
    for name, column in values.values.items():
        there = column[~np.isnan(column)]
        parts.append(f"{name} {there.min():g} to {there.max():g}" if len(there) else f"{name} never")
    absent = np.flatnonzero(values.outcomes >= NOT_APPLICABLE).tolist()
    if absent:
        silent = sum(row not in values.reasons for row in absent)
        parts.append(
            f"{len(absent)} of {len(values)} without a value{f', {silent} without a reason' if silent else ''}"
        )
    return ", ".join(parts)
