"""Two-dimensional maps of features: where samples lie among real samples, and which are outside the real manifold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int64

from evalsvc.core.errors import MissingError, StorageError
from evalsvc.evaluation.gallery import THUMBNAILS, gallery_indices
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.reference_arrays import key_beside
from evalsvc.inputs.sample_order import order
from evalsvc.metrics.balls import REFERENCE_RADII, neighbor_radii
from evalsvc.store.artifacts import Artifacts

Method = Literal["pca", "tsne"]
K = 3
"""Number of neighbors that define the radius of a ball of the manifold, as in improved precision and recall."""
MANIFOLD = 5000
"""Number of real samples whose balls are computed here if the evaluation did not store them."""
BLOCK = 2000


@dataclass(frozen=True)
class FeatureMap:
    """Positions of generated and real samples; ``inside`` marks the samples that lie in a ball of a real one.

    ``real_indices`` are the indices of the real samples in the reference. ``explained`` is the fraction of the joint
    variance that two principal components explain; ``None`` for other maps.
    """

    generated: Float[np.ndarray, "n 2"]
    real: Float[np.ndarray, "m 2"]
    real_indices: Int64[np.ndarray, " m"]
    inside: Bool[np.ndarray, " n"]
    explained: float | None


def methods() -> list[Method]:
    """The maps that this installation can compute."""
    return ["pca", "tsne"] if find_spec("sklearn") else ["pca"]


def feature_names(spec: Mapping[str, Any]) -> list[str]:
    """Features that a metric of the evaluation uses and that are stored for the reference."""
    if not spec.get("reference"):
        return []
    found = [use["features"] for use in spec["suite"]["metrics"] if "/" in use.get("features", "")]
    return list(dict.fromkeys(found))


def feature_map(
    spec: Mapping[str, Any], backend: str, artifacts: Artifacts, features: str, method: Method
) -> FeatureMap:
    """Compute the map of an evaluation from its row; ``backend`` is that of the extractor that computed the features.

    Raises:
        StorageError: its arrays are missing or damaged.
    """
    whole = EvaluationSpec.model_validate(spec)
    label, _, output = features.partition("/")
    array = f"reference/{whole.reference['train']}/{whole.extractors[label]}-{backend}/{output}.npy"
    try:
        sample = artifacts.read_matrix(f"{whole.samples_key}/features-{whole.suite.samples}/{label}.{output}.npy")
        reference = artifacts.read_matrix(array)
    except MissingError:
        raise StorageError(f"the arrays of {features} are no longer stored: score the checkpoint again") from None
    shown = gallery_indices(len(reference))
    generated, real = (np.asarray(x, np.float64) for x in (sample[:THUMBNAILS], reference[shown]))
    options = {"k": K}
    key = key_beside(array, REFERENCE_RADII.key(options))
    if artifacts.is_sound(key):
        radii = REFERENCE_RADII.restore(artifacts.read_arrays(key), {}, options)
    else:
        reference = np.asarray(reference[order(0, len(reference))[:MANIFOLD]])
        radii = neighbor_radii(reference, K)
    inside = _inside(generated, reference, radii.squared)
    both = np.concatenate([real, generated])
    places, explained = _components(both) if method == "pca" else (_neighborhoods(both), None)
    return FeatureMap(places[len(real) :], places[: len(real)], shown, inside, explained)


def _inside(
    sample: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"], squared: Float[np.ndarray, " m"]
) -> Bool[np.ndarray, " n"]:
    """Membership up to rounding errors, which do not matter in a picture; the metrics compute it exactly."""
    found = np.zeros(len(sample), bool)
    for start in range(0, len(squared), BLOCK):
        block = np.asarray(reference[start : start + BLOCK], np.float64)
        distances = (sample**2).sum(1)[:, None] + (block**2).sum(1) - 2 * sample @ block.T
        found |= (distances <= squared[start : start + BLOCK]).any(1)
    return found


def _components(x: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "n 2"], float]:
    centered = x - x.mean(0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    left, singular = left[:, :2], singular**2
    return left * np.sqrt(singular[:2]), float(singular[:2].sum() / (singular.sum() or 1.0))


def _neighborhoods(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 2"]:
    from sklearn.manifold import TSNE

    return np.asarray(TSNE(init="pca", perplexity=min(30, (len(x) - 1) / 3), random_state=0).fit_transform(x))
