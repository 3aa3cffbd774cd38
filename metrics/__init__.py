"""Metrics of generative models: arrays in, scores with error bars out.

``evalsvc.metrics.functional`` holds pure functions; this package itself gives the same metrics as mergeable
``torchmetrics.Metric`` classes, imported on first use so that ``from evalsvc.metrics.score import Score`` stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Direction": "evalsvc.metrics.score",
    "MetricError": "evalsvc.metrics.score",
    "Moments": "evalsvc.metrics.moments",
    "Score": "evalsvc.metrics.score",
}


def __getattr__(name: str) -> Any:
    if name[:1] == "_" or name[:1].islower():
        raise AttributeError(f"module 'evalsvc.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "evalsvc.metrics.metric_classes")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *importlib.import_module("evalsvc.metrics.metric_classes").CLASSES])
