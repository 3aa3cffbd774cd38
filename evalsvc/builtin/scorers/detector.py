"""Whether an image has the objects that its prompt asks for, by an object detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from jaxtyping import UInt8
from pydantic import Field

from evalsvc.builtin.scorers.composition import faults, limits, requirements
from evalsvc.builtin.scorers.rows import NotApplicable, checked, score_rows
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, MixedImages, Samples
from evalsvc.plugins.scorers import ScorerInfo

if TYPE_CHECKING:
    from torch import Tensor


MOST = 16
"""Most objects of a class."""
COUNTING = "counting"
"""Value of the tag ``tag`` for items with the threshold of counting."""
COCO = {"computer mouse": "mouse", "computer keyboard": "keyboard", "tv remote": "remote"}
"""Classes of COCO that GenEval gives other names."""
Threshold = Annotated[float, Field(ge=0, le=1)]


@open_to_clients("threshold", "counting_threshold")
@versioned("1")
class Detector:
    """The plug-in ``detector``: 1 if the objects of an image are as its item requires, by the rules of GenEval.

    The items have the tags ``include`` and ``exclude`` (Ghosh et al. 2023): JSON lists of ``{"class", "count", "color",
    "position"}``, the least number of objects of a class, their color, and ``[relation, number]`` of an earlier entry;
    and of ``{"class", "count"}``, a number that is not reached. ``model`` is a detector of ``transformers``, a folder
    or a hub id, with the classes of COCO. Boxes count above ``threshold``, and above ``counting_threshold`` for items
    whose tag ``tag`` is ``counting``. ``color_model`` is the CLIP that names colors; items without colors need none.
    """

    quantities = (
        Quantity("composition", Direction.HIGHER, "share", 0.0, 1.0, title="Composition", title_zh="构图正确率"),
    )

    def __init__(
        self,
        device: torch.device,
        *,
        model: str,
        color_model: str = "",
        threshold: float = 0.3,
        counting_threshold: float = 0.9,
    ) -> None:
        from evalsvc.builtin.detection import open_detector
        from evalsvc.builtin.scorers.color_names import ColorNames

        checked("detector", "model", model, str)
        checked("detector", "color_model", color_model, str)
        checked("detector", "threshold", threshold, Threshold)
        checked("detector", "counting_threshold", counting_threshold, Threshold)
        self._detector = open_detector(model, device, "scorer 'detector'")
        self._colors = ColorNames(color_model, device) if color_model else None
        self._threshold, self._counting = float(threshold), float(counting_threshold)
        self.info = ScorerInfo(
            "detector",
            frozenset({"image"}),
            self.quantities,
            frozenset({"tags"}),
            digest_json([self._detector.weights, self._colors.weights if self._colors else ""]),
            {
                **self._detector.facts,
                "colors": self._colors.protocol if self._colors else "none",
                "thresholds": f"{self._threshold!r}, counting {self._counting!r}",
            },
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """1 or 0 for each image; the reasons name what is wrong."""
        if not isinstance(samples, Images | MixedImages):
            raise InputError("scorer 'detector' requires image samples")
        wrong: dict[int, str] = {}

        def judge(row: int) -> Sequence[float]:
            tags = {name: column[row] for name, column in items.tags.items()}
            if reasons := self._faults(samples.items[row], tags):
                wrong[row] = "; ".join(reasons)
            return [float(not reasons)]

        scored = score_rows(self.info, len(samples), judge)
        return replace(scored, reasons={**scored.reasons, **wrong})

    def _faults(self, pixels: UInt8[Tensor, "c h w"], tags: dict[str, str]) -> list[str]:
        include, exclude = requirements(tags.get("include", "")), limits(tags.get("exclude", ""))
        if not include and not exclude:
            raise NotApplicable("the item has neither a tag 'include' nor a tag 'exclude'")
        if any(each.color for each in include) and self._colors is None:
            raise NotApplicable("the item asks for a color, which needs the option 'color_model'")
        labels = {each.name: self._label(each.name) for each in (*include, *exclude)}
        threshold = self._counting if tags.get("tag") == COUNTING else self._threshold
        boxes = self._detector.boxes(pixels, threshold, MOST)
        return faults(
            {name: boxes.get(label, []) for name, label in labels.items()},
            include,
            exclude,
            lambda name, some: self._colors.of(pixels, name, some) if self._colors else [],
        )

    def _label(self, name: str) -> str:
        """The detector's name of a class."""
        label = name if name in self._detector.labels else COCO.get(name, name)
        if label not in self._detector.labels:
            raise NotApplicable(f"the detector has no class {name!r:.80}")
        return label
