"""How much the frames of a video change."""

from __future__ import annotations

from collections.abc import Sequence

from evalsvc.builtin.scorers.frames import videos_of
from evalsvc.builtin.scorers.rows import NotApplicable, score_rows
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients()
@versioned("1")
class Motion:
    """The plug-in ``motion``: mean absolute change of the levels from frame to frame, 0 (static) to 255.

    The mean is over all pixels, channels and pairs of neighboring frames. It is not optical flow: noise and flicker
    count as motion, and movement of a flat area does not. The temporal flickering of VBench (Huang et al. 2024) is
    ``1 - motion / 255``; its dynamic degree is a share of videos with large optical flow, which this is not. A video
    needs two frames.
    """

    quantities = (
        Quantity("motion", Direction.NEUTRAL, "levels per frame", 0.0, 255.0, title="Motion", title_zh="运动幅度"),
    )

    def __init__(self, device: torch.device) -> None:
        self.info = ScorerInfo("motion", frozenset({"video"}), self.quantities)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The mean change of each video."""
        videos = videos_of("motion", samples)

        def judge(row: int) -> Sequence[float]:
            if len(videos[row]) < 2:
                raise NotApplicable("the video has one frame")
            levels = videos[row].to(torch.int16)
            changes = (levels[1:] - levels[:-1]).abs()
            return [int(changes.sum()) / changes.numel()]  # exact, on devices without float64 too

        return score_rows(self.info, len(samples), judge)
