"""The answer in a generated text: what a suite's ``stop`` and ``extract`` leave of it for scorers."""

from __future__ import annotations

from functools import lru_cache

from evalsvc.core.patterns import Pattern
from evalsvc.inputs.items.schema import Items
from evalsvc.plugins.samples import Samples, Texts


def answer_of(items: Items, text: str) -> str:
    """The text before the first stop string; of that, the first group (or the whole) of the first match.

    Without a match it is "".
    """
    ends = [at for stop in items.stop if (at := text.find(stop)) >= 0]
    kept = text[: min(ends)] if ends else text
    if not items.extract:
        return kept
    match = _compiled(items.extract).search(kept)
    if match is None:
        return ""
    return (match[1] if match.re.groups else match[0]) or ""


def answers_of(items: Items | None, samples: Samples) -> Samples:
    """The samples as scorers see them: texts reduced to their answers, all else as it is."""
    if items is None or not isinstance(samples, Texts) or not (items.stop or items.extract):
        return samples
    return Texts(tuple(answer_of(items, text) for text in samples.items))


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Pattern:
    return Pattern(pattern, "'extract'")
