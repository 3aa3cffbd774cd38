"""Conformance of references: samples of one modality, consistent reads, a digest."""

from __future__ import annotations

import re

from evalsvc.core.errors import EvalsvcError
from evalsvc.plugins.conformance.findings import Finding
from evalsvc.plugins.conformance.trial_samples import same
from evalsvc.plugins.interfaces import ReadsAt, Reference, SampleSet
from evalsvc.plugins.samples import rows
from evalsvc.plugins.validation import TYPES

READ = 8
"""Number of samples that are read from each split."""


def check_reference(reference: Reference, name: str) -> list[Finding]:
    """Read a few samples of each split of a reference that is registered under ``name``."""
    findings = [Finding("name", reference.name == name, f"registered as {name!r}, named {reference.name!r}")]
    findings += _split("train", reference.train)
    if reference.heldout is not None:
        findings += _split("heldout", reference.heldout)
        kinds = reference.train.modality, reference.heldout.modality
        findings.append(Finding("splits: one modality", kinds[0] == kinds[1], " and ".join(kinds)))
        apart = reference.train.digest() != reference.heldout.digest()
        findings.append(Finding("splits: different samples", apart, "differ" if apart else "both have one digest"))
    return findings


def _split(split: str, samples: SampleSet) -> list[Finding]:
    """Findings for one split. A breach that stops the checks is reported as the last finding."""
    findings: list[Finding] = []
    try:
        count = len(samples)
        findings.append(Finding(f"{split}: two or more samples", count >= 2, f"{count} {samples.modality} samples"))
        digest = samples.digest()
        stable = bool(re.fullmatch("[0-9a-f]{64}", digest)) and digest == samples.digest()
        findings.append(Finding(f"{split}: a sha256 of the content, stable", stable, digest[:12]))
        stop = min(count, READ)
        whole = samples.read(0, stop)
        fits = isinstance(whole, TYPES[samples.modality]) and len(whole) == stop
        findings.append(Finding(f"{split}: type and count", fits, f"{len(whole)} in {type(whole).__name__}"))
        findings.append(_agree(f"{split}: same samples, second read", same(whole, samples.read(0, stop))))
        middle = stop // 2
        part = same(rows(whole, range(middle, stop)), samples.read(middle, stop))
        findings.append(_agree(f"{split}: same samples in another range", part))
        if isinstance(samples, ReadsAt):
            back = list(range(stop))[::-1]
            findings.append(_agree(f"{split}: same samples by index", same(rows(whole, back), samples.read_at(back))))
    except EvalsvcError as error:
        findings.append(Finding(f"{split}: readable", False, str(error)))
    except Exception as error:
        findings.append(Finding(f"{split}: readable", False, f"{type(error).__name__}: {error}"))
    return findings


def _agree(check: str, ok: bool) -> Finding:
    return Finding(check, ok, "identical" if ok else "samples differ")
