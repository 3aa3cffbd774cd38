"""States of a torchmetrics class: after one sample, merged over samples as its own processes do, and its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import safetensors.torch
import torch
from torch import Tensor
from torchmetrics.utilities.data import dim_zero_sum

from evalsvc.core.errors import InputError

State: TypeAlias = Mapping[str, list[Tensor]]
"""Tensors by the name of a state, in the order of the samples."""


def state_of(module: Any) -> State:
    """The state of a module on the CPU.

    Raises:
        InputError: it keeps something else than tensors.
    """
    found = dict[str, list[Tensor]]()
    for name, state in module.metric_state.items():
        pieces = list(state) if isinstance(state, list) else [state]
        if not all(isinstance(each, Tensor) for each in pieces):
            raise InputError(f"torchmetrics class {type(module).__name__} keeps a state that is not of tensors: {name}")
        found[name] = [each.detach().cpu().contiguous() for each in pieces]
    return found


def is_finite(state: State) -> bool:
    """Whether no number of a state is infinite or NaN."""
    return all(bool(torch.isfinite(each).all()) for pieces in state.values() for each in pieces)


def packed(state: State) -> bytes:
    """A state as bytes, in the format of safetensors."""
    named = {f"{name}/{place:06}": each for name, pieces in state.items() for place, each in enumerate(pieces)}
    # A list without tensors leaves its name.
    named |= {f"{name}/": torch.zeros(0) for name, pieces in state.items() if not pieces}
    return bytes(safetensors.torch.save({name: each.clone() for name, each in named.items()}))


def unpacked(content: bytes) -> State:
    """The state of :func:`packed`."""
    found = dict[str, list[Tensor]]()
    for key, each in sorted(safetensors.torch.load(content).items()):
        name, _, place = key.rpartition("/")
        found.setdefault(name, []).extend([each] if place else [])
    return found


def merged(module: Any, states: Sequence[State]) -> State:
    """One state of several: sums are added in double precision, all others are collected in order."""
    found = dict[str, list[Tensor]]()
    for name, default in module._defaults.items():
        pieces = [piece for state in states for piece in state[name]]
        if not isinstance(default, list) and module._reductions[name] is dim_zero_sum and pieces:
            wide = torch.float64 if pieces[0].is_floating_point() else torch.int64
            pieces = [torch.stack([piece.to(wide) for piece in pieces]).sum(0).to(pieces[0].dtype)]
        found[name] = pieces
    return found


def value_of(module: Any, state: State, output: str) -> float:
    """The value that a module computes from a state: the mean of several numbers, the first of a tuple.

    Raises:
        InputError: it returns a mapping without this output, or several outputs and none was chosen.
    """
    module.reset()
    for name, default in module._defaults.items():
        pieces = [piece.to(module.device) for piece in state[name]]
        if not isinstance(default, list):
            reduce: Callable[[Tensor], Tensor] | None = module._reductions[name]
            whole = torch.stack(pieces)
            setattr(module, name, reduce(whole) if reduce else whole)
        else:
            setattr(module, name, pieces)
    module._update_count = 1
    found = module.compute()
    module.reset()
    if isinstance(found, Mapping):
        if output not in found:
            keys = ", ".join(map(str, found))
            raise InputError(
                f"torchmetrics class {type(module).__name__} returns {keys}: set 'outputs' to some of them"
            )
        found = found[output]
    elif output:
        raise InputError(f"torchmetrics class {type(module).__name__} has no output {output!r}: remove 'outputs'")
    if isinstance(found, tuple):
        found = found[0]
    try:
        return float(torch.as_tensor(found).cpu().double().mean())
    except (TypeError, ValueError):
        raise InputError(f"torchmetrics class {type(module).__name__} does not return a number") from None
