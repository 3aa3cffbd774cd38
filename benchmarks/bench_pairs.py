"""All metrics over the pairs of 2 x 5,000 features of 2,048 numbers: together, one by one, and by the peers."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from features import features
from race import Contenders


def contenders(rows: int = 5_000) -> Contenders:
    from prdc import compute_prdc
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    from evalsvc.metrics import pairs
    from evalsvc.metrics.functional import (
        authenticity,
        density_coverage,
        kernel_distance,
        nearest_neighbors,
        neighbor_radii,
        precision_recall,
        training_spacing,
    )

    generated, reference = features(rows, 1, 0.05), features(rows, 2)
    tensors = torch.from_numpy(generated), torch.from_numpy(reference)
    asked: dict[Any, dict[str, Any]] = {
        kernel_distance: {},
        precision_recall: {},
        density_coverage: {},
        authenticity: {},
        nearest_neighbors: {"k": 3},
    }
    known = asked | {
        precision_recall: {"reference_radii": neighbor_radii(reference, 3)},
        density_coverage: {"reference_radii": neighbor_radii(reference, 5)},
        authenticity: {"training": training_spacing(reference)},
    }

    def together(asked: dict[Any, dict[str, Any]]) -> float:
        plans = [function.plan(generated, reference, **options) for function, options in asked.items()]
        return float(pairs.measure(plans)[1]["recall"].value)

    def one_by_one() -> float:
        found = [function(generated, reference, **options) for function, options in asked.items()]
        return float(found[1]["recall"].value)

    def peers() -> float:
        kid_features_to_metric(*tensors, kid_subsets=100, kid_subset_size=1_000, verbose=False)
        options = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
        recall = prc_features_to_metric(*tensors, **options)["recall"]
        with contextlib.redirect_stdout(io.StringIO()):
            compute_prdc(reference, generated, nearest_k=5)
        return float(recall)

    return {
        "evalsvc, together": lambda: together(asked),
        "evalsvc, together, known reference": lambda: together(known),
        "evalsvc, one by one": one_by_one,
        "torch-fidelity (KID, precision, recall) and prdc (density, coverage)": peers,
    }
