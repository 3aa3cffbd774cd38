"""Which items of a source make up the first n: a keyed random order, so that any prefix is a random sample.

Files are named by class, prompts are sorted by topic, arrays are written in the order of their labels: the first n of
a source say nothing about the rest. Items are therefore taken in ascending order of a keyed hash of (seed, index in
the source). The hash knows neither how many items there are nor how many are wanted: suites of different size share
their samples, and added items move none of those that were there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, Field

from evalsvc.plugins.rng import hashed

ORDER_VERSION: Literal[1] = 1
"""Rises when the same seed and index may hash to another place."""
_DOMAIN = 0x6F726472
"""Keeps the hash apart from the seeds of samples."""


@lru_cache(maxsize=8)
def order(seed: int, total: int) -> Int64[np.ndarray, " total"]:
    """The permutation of ``range(total)`` in ascending order of a 64-bit hash of (seed, index); ties by index.

    ``seed`` is 0 to 2^63 - 1. The result is shared and read-only. Items below any bound keep their order, whatever
    ``total`` is.

    >>> [int(i) for i in order(0, 1000) if i < 8] == order(0, 8).tolist()
    True
    """
    low, high = hashed(seed, torch.arange(total), _DOMAIN)
    found = np.lexsort((low.numpy(), high.numpy()))
    found.flags.writeable = False
    return found


class SampleOrder(BaseModel):
    """The order in which the ``of`` items of a source are taken; after the last it begins anew, for another draw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = ORDER_VERSION
    seed: int
    of: int = Field(ge=1)

    def indices(self, start: int, stop: int) -> Int64[np.ndarray, " n"]:
        """Indices of samples ``start`` to ``stop``: draw d of item i has the index ``d * of + i``."""
        places = order(self.seed, self.of)
        if stop <= self.of:
            return places[start:stop]
        draw, item = np.divmod(np.arange(start, stop), self.of)
        indices: Int64[np.ndarray, " n"] = draw * self.of + places[item]
        return indices

    @property
    def facts(self) -> dict[str, int]:
        """What decides which items are taken; not how many there are, which sets that are compared may differ in."""
        return {"version": self.version, "seed": self.seed}

    def is_partial(self, samples: int) -> bool:
        """Whether the order decides which items are among the first ``samples``, or are so once more than others."""
        return samples % self.of != 0


def order_of(seed: int, *, prompts: int | None, held: int | None, own: int = 0) -> SampleOrder | None:
    """The order in which ``held`` stored samples, or ``prompts``, are taken; ``None`` where there is no choice.

    A stored sample belongs to the prompt of its number: there are as many pairs as there are of either. ``own`` are the
    prompts that a generator answers in turn where the suite has none.
    """
    sources = [count for count in (prompts, held) if count is not None] or [own]
    return SampleOrder(seed=seed, of=min(sources)) if min(sources) > 1 else None
