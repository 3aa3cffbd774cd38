"""Embeddings of an evaluation's prompts, stored once for each selection of prompts and each extractor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from evalsvc.core.digests import digest_json
from evalsvc.core.files.verification import Verified
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.items import items_of, places_of
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import EmbedsTexts
from evalsvc.plugins.items import text_of


def embedded_prompts(
    spec: EvaluationSpec, context: EvaluationContext, features: str, maps: list[Verified]
) -> Float32[np.ndarray, "n d"]:
    """The memory-mapped embeddings by the extractor of ``features``, one row per sample."""
    suite, artifacts = spec.suite, context.artifacts
    label, _, output = features.partition("/")
    extractor = opening.extractor(context, suite.extractors[label])
    assert isinstance(extractor, EmbedsTexts)
    items, (taken, _) = items_of(context, suite), places_of(context, spec, 0, suite.samples)
    assert items
    prompts = [text_of(items.prompts[i]) for i in taken]
    facts = f"{extractor.info.protocol}-{extractor.info.backend}"
    folder = f"prompts/{suite.prompts.sha256}" if suite.prompts else f"items/{items.sha256}"
    key = f"{folder}/{facts}/{output}-{digest_json(taken.tolist())[:16]}.npy"
    if not artifacts.is_sound(key, len(prompts)):
        with artifacts.matrix_writer(key, len(prompts)) as writer:

            def embed(start: int, stop: int) -> np.ndarray:
                return validation.embed_texts(extractor, prompts[start:stop])

            for block in context.batches.over(0, len(prompts), embed):
                writer.append(block)
    return artifacts.read_matrix(key, maps)
