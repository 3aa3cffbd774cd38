"""The error that bfloat16 makes in likelihoods: ``python -m benchmarks.likelihood_precision [documents [characters]]``.

SmolLM2-135M reads prose of the repository in bfloat16 and in float32; the cross-entropy is float32 in both, from logits
of the dtype. Prints the difference in nats per token, paired by document, and that of the perplexities.
"""

from __future__ import annotations

import sys

import numpy as np

from evalsvc.builtin.demo.prose import prose_reference
from evalsvc.builtin.extractors.language import LikelihoodExtractor
from evalsvc.metrics.functional import paired_difference, perplexity


def main(documents: int = 60, characters: int = 1000) -> None:
    """Print the differences."""
    heldout = prose_reference().heldout
    every = max(1, len(heldout) // documents)
    texts = [text[:characters] for text in heldout.read(0, len(heldout)).items[::every][:documents]]
    found = {
        dtype: LikelihoodExtractor("smollm2", prefix="<|endoftext|>", dtype=dtype).extract(texts)
        for dtype in ("float32", "bfloat16")
    }
    tokens = found["float32"]["tokens"]
    full, half = (found[dtype]["nll"] for dtype in ("float32", "bfloat16"))
    of = [perplexity(nats, tokens).value for nats in (full, half)]
    moved = paired_difference(half, full, tokens)
    spread = float(np.std((half - full) / tokens, ddof=1))
    print(f"{len(texts)} documents, {tokens.sum()} tokens; perplexity {of[0]:.4f} in float32, {of[1]:.4f} in bfloat16")
    print(f"nats per token: {moved.value:+.5f}, standard error {moved.stderr:.5f}; perplexity {of[1] / of[0] - 1:+.3%}")
    print(f"of one document: standard deviation {spread:.5f} nats per token")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
