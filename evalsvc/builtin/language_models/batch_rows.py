"""Rows of a batch of texts while they are written: all that each has on the device, so that finished rows can leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from evalsvc.metrics.devices import staged


@dataclass
class BatchRows:
    """The ``tokens`` that the network reads next, what it is ``given`` besides them, and its ``cache`` of those before.

    ``prompts`` are padded on the right; ``seen`` marks the tokens of the vocabulary that occurred.
    """

    prompts: Int64[Tensor, "n longest"]
    lengths: Int64[Tensor, " n"]
    uniforms: Float64[Tensor, "n t"]
    tokens: Int64[Tensor, "n read"]
    given: dict[str, Any]
    cache: Any = None
    seen: Bool[Tensor, "n v"] | None = None

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        uniforms: Float64[Tensor, "n t"],
        given: dict[str, Any],
        device: torch.device,
    ) -> BatchRows:
        """Rows of prompts that are sorted by length; the network begins with as much as the shortest one has."""
        padded = torch.zeros(len(prompts), len(prompts[-1]), dtype=torch.int64)
        for row, each in enumerate(prompts):
            padded[row, : len(each)] = torch.tensor(each)
        lengths = torch.tensor([len(each) for each in prompts])
        tokens = staged(padded, device)
        first = tokens[:, : len(prompts[0])]
        return cls(tokens, staged(lengths, device), staged(uniforms, device), first, given)

    def keep(self, rows: Sequence[int]) -> None:
        """Let the other rows leave."""
        index = staged(torch.tensor(rows), self.tokens.device)
        for each in fields(self):
            setattr(self, each.name, _select(getattr(self, each.name), index))

    def can_leave(self) -> bool:
        """Whether the cache has a known row for each text. Caches of ``transformers`` do, as its beam search needs."""
        return _has_rows(self.cache, len(self.tokens))


def _has_rows(states: Any, n: int) -> bool:
    if isinstance(states, Tensor):
        return len(states) == n
    if isinstance(states, list | tuple):
        return all(_has_rows(each, n) for each in states)
    return states is None or hasattr(states, "reorder_cache")


def _select(states: Any, rows: Int64[Tensor, " kept"]) -> Any:
    if isinstance(states, Tensor):
        return states[rows.to(states.device)]
    if isinstance(states, Mapping):
        return type(states)(**{name: _select(each, rows) for name, each in states.items()})
    if isinstance(states, list | tuple):
        return type(states)(_select(each, rows) for each in states)
    if states is not None:
        states.reorder_cache(rows)
    return states
