"""Random order in which items of a source are taken, keyed by a seed, so that any prefix is a random sample.

Files are named by class, prompts are sorted by topic, arrays are sorted by label: the first n items of a source are not
representative. Items are therefore taken in ascending order of a keyed hash of (seed, index in the source). The hash
depends neither on the number of items nor on the number of samples, so that suites of different sizes share their
samples, and new items do not change the order of the others.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, Field

from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.rng import hashed

ORDER_VERSION: Literal[1] = 1
"""Raise it if the same seed and index may hash to another value."""
_DOMAIN = 0x6F726472
"""Separates this hash from the seeds of samples."""


@lru_cache(maxsize=8)
def order(seed: int, total: int) -> Int64[np.ndarray, " total"]:
    """The permutation of ``range(total)`` in ascending order of a 64-bit hash of (seed, index); ties by index.

    ``seed`` is 0 to 2^63 - 1. The result is shared and read-only. The relative order of items does not depend on
    ``total``.

    >>> [int(i) for i in order(0, 1000) if i < 8] == order(0, 8).tolist()
        True
    """
    low, high = hashed(seed, torch.arange(total), _DOMAIN)
    permutation = np.lexsort((low.numpy(), high.numpy()))
    permutation.flags.writeable = False
    return permutation


class SampleOrder(BaseModel):
    """The order in which the ``of`` items of a source are taken; after the last item, a new draw starts."""

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
        """The settings that select items, without the number of items, which may differ between comparable sets."""
        return {"version": self.version, "seed": self.seed}

    def is_partial(self, samples: int) -> bool:
        """Whether the order affects which items are among the first ``samples``, or how often."""
        return samples % self.of != 0


def order_of(seed: int, *, prompts: int | None, held: int | None, own: int = 0) -> SampleOrder | None:
    """The order in which ``held`` stored samples or ``prompts`` are taken, or ``None`` if there is no choice.

    A stored sample belongs to the prompt of the same number, so the smaller of the two counts applies. ``own`` is the
    number of prompts that a generator uses in turn if the suite has none.
    """
    sources = [count for count in (prompts, held) if count is not None] or [own]
    return SampleOrder(seed=seed, of=min(sources)) if min(sources) > 1 else None
