"""Evaluations of older versions that took the first samples or prompts of a source, which are not representative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsvc.core.errors import EvalsvcError
from evalsvc.inputs.prompts import load_prompts
from evalsvc.inputs.sample_order import order_of
from evalsvc.store.artifacts import Artifacts


def used_first_samples(spec: Mapping[str, Any], artifacts: Artifacts) -> bool:
    """Whether a stored evaluation used only the first of several samples or prompts, instead of a random part or all.

    If their number cannot be determined because a file is missing, it counts as such an evaluation.
    """
    if spec.get("order") or "suite" not in spec or spec["suite"].get("items"):  # items have an order of their own
        return False
    suite, decoding = spec["suite"], spec.get("decoding") or {}
    try:
        prompts = _count_prompts(suite, artifacts)
        held = _count_stored(spec) if spec["generator"] == "samples" else None
    except (EvalsvcError, OSError):
        return True
    order = order_of(suite.get("seed", 0), prompts=prompts, held=held, own=len(decoding.get("prompts", ())))
    return order is not None and order.is_partial(suite["samples"])


def _count_prompts(suite: Mapping[str, Any], artifacts: Artifacts) -> int | None:
    if not suite.get("prompts"):
        return None
    return len(load_prompts(artifacts, suite["prompts"]["sha256"]))


def _count_stored(spec: Mapping[str, Any]) -> int:
    from evalsvc.inputs.reading_options import ReadingOptions
    from evalsvc.inputs.sample_sets import open_samples

    options = spec["options"]
    return len(open_samples(Path(spec["path"]), options.get("skip", ()), ReadingOptions.among(options)))
