"""Shapes and types in the signatures of metrics, which the tests check at every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import beartype
import jaxtyping
import numpy as np
import torch

_CHECKED_ONLY = {"Tensor": torch.Tensor, "Array": np.ndarray | torch.Tensor}
"""Names in signatures that modules of metrics import for the type checker alone."""

_made: dict[tuple[Any, ...], tuple[dict[str, Any], Callable[..., Any]]] = {}


def checker(signature: Callable[..., Any]) -> Callable[..., Any]:
    """beartype, which compiles a check; only once for a function that is made anew at every call of another.

    What comes here is an empty function that has nothing but the signature of the one to be checked.
    """
    for name, value in _CHECKED_ONLY.items():
        signature.__globals__.setdefault(name, value)
    if "<locals>" not in signature.__qualname__:
        return beartype.beartype(signature)
    key = signature.__module__, signature.__qualname__, signature.__code__.co_varnames
    annotations, check = _made.get(key, (None, signature))
    if annotations != signature.__annotations__:
        annotations = dict(signature.__annotations__)
        check = beartype.beartype(signature)
        _made[key] = annotations, check
    return check


@contextmanager
def unchecked() -> Iterator[None]:
    """As outside the tests."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
