"""The table of confusions: what samples of each label are taken for."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from evalsvc.metrics.errors import MetricError


def confusion_matrix(
    labels: Int64[np.ndarray, " n"], predicted: Float64[np.ndarray, " n"], classes: int
) -> Int64[np.ndarray, "classes classes"]:
    """How many samples of label i are taken for class j, as entry (i, j); a prediction of NaN is left out.

    Raises :class:`MetricError` if a label or prediction is not one of the classes.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0.0, 1.0, 1.0]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    if len(labels) != len(predicted):
        raise MetricError(f"there are {len(labels)} labels and {len(predicted)} predictions; pass one for each sample")
    there = np.isfinite(predicted)
    pairs = np.stack([labels[there], predicted[there].astype(np.int64)])
    if pairs.size and (pairs.min() < 0 or pairs.max() >= classes):
        raise MetricError(f"labels and predictions range from {pairs.min()} to {pairs.max()}; pass 0 to {classes - 1}")
    counts: Int64[np.ndarray, "classes classes"] = np.bincount(
        pairs[0] * classes + pairs[1], minlength=classes**2
    ).reshape(classes, classes)
    return counts
