"""How similar the frames of a video are to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalsvc.builtin.scorers.frames import build_frame_extractor, videos_of
from evalsvc.builtin.scorers.rows import NotApplicable, score_rows
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import Plugins, open_to_clients, versioned
from evalsvc.plugins.samples import Images, Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients("extractor", "output")
@versioned("1")
class FrameConsistency:
    """The plug-in ``frame-consistency``: cosines between the features of frames, from -1 to 1.

    ``frame_consistency`` is the mean cosine of neighboring frames. ``vbench_consistency`` is the value of VBench (Huang
    et al. 2024): the mean over all frames but the first of their cosines, at least 0, with the frame before and with
    the first one. VBench calls it subject consistency with features of DINO, and background consistency with those of
    CLIP. ``extractor`` is an extractor of images, with its ``output`` and ``options``. A video needs two frames.
    """

    quantities = (
        Quantity(
            "frame_consistency",
            Direction.HIGHER,
            "cosine",
            -1.0,
            1.0,
            title="Frame consistency",
            title_zh="帧间一致性",
        ),
        Quantity(
            "vbench_consistency",
            Direction.HIGHER,
            "cosine",
            0.0,
            1.0,
            title="VBench consistency",
            title_zh="VBench 一致性",
        ),
    )

    def __init__(
        self,
        device: torch.device,
        *,
        extractor: str = "dinov2",
        output: str = "features",
        options: Mapping[str, Any] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._inner = build_frame_extractor("frame-consistency", extractor, output, options, device, plugins)
        self.info = ScorerInfo(
            "frame-consistency",
            frozenset({"video"}),
            self.quantities,
            weights=self._inner.extractor.info.weights,
            facts=self._inner.facts,
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """Both values of each video."""
        videos = videos_of("frame-consistency", samples)

        def judge(row: int) -> Sequence[float]:
            if len(videos[row]) < 2:
                raise NotApplicable("the video has one frame")
            features = self._inner.rows(Images(videos[row])).astype(np.float64)
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            if not lengths.all():
                raise NotApplicable("the features of a frame have length 0 and no direction")
            unit = features / lengths
            before, first = (unit[1:] * unit[:-1]).sum(1), unit[1:] @ unit[0]
            return [float(before.mean()), float((before.clip(0) + first.clip(0)).mean() / 2)]

        return score_rows(self.info, len(samples), judge)
