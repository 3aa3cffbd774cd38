"""The default tokenizer of metrics over texts: the one that fits them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from evalsvc.metrics.tokenizers import FITTED, fitting
from evalsvc.plugins.interfaces import SampleSet
from evalsvc.plugins.samples import Texts


def fitting_tokenizer(splits: Iterable[SampleSet], texts: Callable[[], Sequence[str]]) -> str:
    """Name of the tokenizer that fits the reference's texts, so that all models have the same; or else these texts."""
    for real in splits:
        first = real.read(0, min(len(real), FITTED)) if real.modality == "text" else None
        if isinstance(first, Texts):
            return fitting(first.items)
    return fitting(texts())
