"""Share of a sound that is silent."""

from __future__ import annotations

import numpy as np

from evalsvc.builtin.scorers.rows import checked
from evalsvc.builtin.scorers.sounds import Wave, score_sounds
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Audio, Samples
from evalsvc.plugins.scorers import ScorerInfo

FRAMES = 50
"""Frames per second."""


@open_to_clients("threshold")
@versioned("1")
class Silence:
    """The plug-in ``silence``: share of the frames of 20 ms whose level is below ``threshold``, 0 to 1.

    The level is the root mean square in dBFS: a full-scale square wave has 0, and digital silence minus infinity. A
    shorter last frame counts as one.
    """

    quantities = (Quantity("silence", Direction.NEUTRAL, "share", 0.0, 1.0, title="Silence", title_zh="静音占比"),)

    def __init__(self, device: torch.device, *, threshold: float = -50.0) -> None:
        self._threshold = checked("silence", "threshold", threshold, float)
        if not -200 <= threshold <= 0:
            raise InputError(f"invalid option threshold={threshold!r} of scorer 'silence': use dBFS from -200 to 0")
        facts = {"threshold": f"{self._threshold:g} dBFS", "frame": f"{1000 // FRAMES} ms"}
        self.info = ScorerInfo("silence", frozenset({"audio"}), self.quantities, facts=facts)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The share of each sound that is silent."""
        rate = samples.rate if isinstance(samples, Audio) else 1
        least = 10 ** (self._threshold / 10)

        def share(row: int, wave: Wave) -> list[float]:
            starts = np.arange(0, len(wave), max(1, rate // FRAMES))
            power = np.add.reduceat(wave.astype(np.float64) ** 2, starts) / np.diff([*starts, len(wave)])
            return [float((power < least).mean())]

        return score_sounds(self.info, samples, share)
