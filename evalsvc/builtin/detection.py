"""Object detectors of ``transformers``: the boxes of the objects in an image."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from evalsvc.builtin.boxes import Box
from evalsvc.builtin.classification import NARROWEST, digest_preparation, image_processor, picture
from evalsvc.builtin.pretrained import open_pretrained
from evalsvc.core.errors import InputError


@dataclass(frozen=True)
class ObjectDetector:
    """An opened detector: its classes, and everything that can change a box."""

    labels: frozenset[str]
    weights: str
    facts: Mapping[str, str]
    _network: Any
    _processor: Any
    _device: torch.device

    @torch.inference_mode()
    def boxes(self, pixels: UInt8[Tensor, "c h w"], threshold: float, most: int) -> dict[str, list[Box]]:
        """Boxes by class with a score above the threshold, at most ``most`` of a class, the best first.

        An image that is too narrow to be prepared has none.
        """
        if max(pixels.shape[1:]) > NARROWEST * min(pixels.shape[1:]):
            return {}
        inputs = self._processor(images=picture(pixels), return_tensors="pt").to(self._device)
        (found,) = self._processor.post_process_object_detection(
            self._network(**inputs), threshold=threshold, target_sizes=[tuple(pixels.shape[1:])]
        )
        scores, classes, places = (found[name].cpu() for name in ("scores", "labels", "boxes"))
        boxes: dict[str, list[Box]] = {}
        for place in scores.argsort(descending=True, stable=True).tolist():
            label = str(self._network.config.id2label[int(classes[place])])
            of_class, box = boxes.setdefault(label, []), Box(*places[place].tolist())
            if all(map(math.isfinite, box)) and len(of_class) < most:
                of_class.append(box)
        return boxes


def open_detector(model: str, device: torch.device, who: str) -> ObjectDetector:
    """The detector in a folder, or of a hub id.

    Raises:
        InputError: it is not a detector, lacks files, or they do not load.
    """
    network, weights, folder = open_pretrained("AutoModelForObjectDetection", model, who, "clip")
    processor = image_processor(folder, who)
    if not hasattr(processor, "post_process_object_detection"):
        raise InputError(
            f"{folder} has the image processor {type(processor).__name__}, which does not return boxes: {who} needs "
            "that of a detector, such as DetrImageProcessor"
        )
    facts = {
        "preparation": f"{type(processor).__name__}, Pillow {importlib.metadata.version('pillow')}",
        "files": digest_preparation(folder),
        "transformers": importlib.metadata.version("transformers"),
    }
    labels = frozenset(map(str, network.config.id2label.values()))
    return ObjectDetector(labels, weights, facts, network.to(device), processor, device)
