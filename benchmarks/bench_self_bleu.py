"""Self-BLEU-4 of texts that share phrases: ours (with its error), fast-bleu (C++) and NLTK."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

TEXTS = 1_000
NLTK_TEXTS = 10
"""NLTK scores this many texts against all others; its time for all is ``TEXTS / NLTK_TEXTS`` times as long."""


def corpus(count: int = TEXTS, seed: int = 0) -> list[str]:
    """Passages of one Zipfian source of 60,000 words, 20 words at the median, with 15 % of the words replaced."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, 5001.0)
    source = rng.choice(5000, 60_000, p=chance / chance.sum())
    texts = []
    for length in np.clip(rng.lognormal(np.log(20), 0.5, count), 5, 80).astype(int):
        start = rng.integers(0, len(source) - 100)
        words = np.where(rng.random(length) < 0.85, source[start : start + length], rng.choice(source, length))
        texts.append(" ".join(f"w{word}" for word in words))
    return texts


def contenders(count: int = TEXTS) -> dict[str, Callable[[], float]]:
    from fast_bleu import SelfBLEU
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    from evalsvc.metrics.functional import self_bleu

    texts = corpus(count)
    tokens = [text.split() for text in texts]
    smooth = SmoothingFunction().method1

    def fast_bleu() -> float:
        return float(np.mean(SelfBLEU(tokens, {"4": (0.25,) * 4}).get_score()["4"]))

    def nltk() -> float:
        others = (tokens[:i] + tokens[i + 1 :] for i in range(NLTK_TEXTS))
        return float(
            np.mean([sentence_bleu(o, t, smoothing_function=smooth) for o, t in zip(others, tokens, strict=False)])
        )

    return {
        "evalsvc": lambda: self_bleu(texts).value,
        "fast-bleu": fast_bleu,
        f"nltk, {NLTK_TEXTS} of {count} texts": nltk,
    }


def large() -> dict[str, Callable[[], float]]:
    """20,000 texts, ours alone."""
    from evalsvc.metrics.functional import self_bleu

    texts = corpus(20_000)
    return {"evalsvc, 20,000 texts": lambda: self_bleu(texts).value}
