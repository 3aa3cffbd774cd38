"""Sources of the inputs of a torchmetrics class: parts of one sample and its item, as a batch of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from evalsvc.builtin.scorers.rows import Failed, NotApplicable
from evalsvc.core.errors import InputError
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.items import Column, ItemBatch, text_of
from evalsvc.plugins.samples import Audio, Images, MixedImages, Samples, Texts, Videos

Give = Callable[[Any, ItemBatch, int], Any]
"""From samples, their items and the number of a row to what ``update`` is given of it."""


@dataclass(frozen=True)
class Source:
    """A part of a sample of the modality ``takes``, or of the column ``reads`` of its item.

    Where ``features`` are read, ``samples`` are the rows of an extractor.
    """

    give: Give
    takes: Modality | None = None
    reads: Column | None = None
    features: bool = False


def _unit(samples: Samples, row: int) -> Tensor:
    """(1, c, h, w), from 0 to 1."""
    return _levels(samples, row).float().div(255)


def _levels(samples: Samples, row: int) -> Tensor:
    """(1, c, h, w), from 0 to 255."""
    if not isinstance(samples, Images | MixedImages):
        raise InputError("the input is not an image: name a source that fits the samples, or the column of the items")
    return samples.items[row][None]


def _wave(samples: Samples, row: int) -> Tensor:
    """(1, t), from -1 to 1."""
    if not isinstance(samples, Audio):
        raise InputError("the input is not a sound: name a source that fits the samples, or the column of the items")
    return samples.waves[row][None]


def _clip(samples: Samples, row: int) -> Tensor:
    """(1, t, c, h, w), from 0 to 1."""
    if not isinstance(samples, Videos):
        raise InputError("the input is not a video: name a source that fits the samples, or the column of the items")
    return samples.pixels[row][None].float().div(255)


def _text(samples: Samples, row: int) -> list[str]:
    if not isinstance(samples, Texts):
        raise InputError("the input is not a text: name a source that fits the samples, or the column of the items")
    return [samples.items[row]]


def _targets(items: ItemBatch, row: int) -> tuple[str, ...]:
    if not isinstance(items.targets, tuple):
        raise InputError("the targets of the items are not texts: set 'target' of the items to a column of texts")
    if not items.targets[row]:
        raise NotApplicable("the item has no target")
    return items.targets[row]


def _only_target(items: ItemBatch, row: int) -> list[str]:
    targets = _targets(items, row)
    if len(targets) > 1:
        raise NotApplicable(f"the item has {len(targets)} targets, and the class takes one")
    return list(targets)


def _prompt(items: ItemBatch, row: int) -> list[str]:
    if not (text := text_of(items.prompts[row])):
        raise NotApplicable("the item has no prompt")
    return [text]


def _label(items: ItemBatch, row: int) -> Tensor:
    if items.labels is None or int(items.labels[row]) < 0:
        raise NotApplicable("the item has no label")
    return items.labels[row : row + 1]


def _of_target(items: ItemBatch) -> Samples:
    if isinstance(items.targets, tuple):
        raise InputError("the targets of the items are texts: set 'target' of the items to a column of media files")
    return items.targets


def _of_source(items: ItemBatch) -> Samples:
    if items.sources is None:
        raise NotApplicable("the item has no source")
    return items.sources


def _same_rate(samples: Samples, other: Samples) -> None:
    if isinstance(samples, Audio) and isinstance(other, Audio) and samples.rate != other.rate:
        raise Failed(f"the sound has {samples.rate} Hz, and the sound that it is compared with {other.rate}")


def _prediction(samples: Samples, items: ItemBatch, row: int) -> list[dict[str, str]]:
    return [{"id": items.ids[row], "prediction_text": _text(samples, row)[0]}]


def _squad(items: ItemBatch, row: int) -> list[dict[str, Any]]:
    targets = list(_targets(items, row))
    return [{"id": items.ids[row], "answers": {"text": targets, "answer_start": [0] * len(targets)}}]


_PARTS: Mapping[str, tuple[Modality, Callable[[Samples, int], Any]]] = {
    "texts": ("text", _text),
    "images": ("image", _unit),
    "levels": ("image", _levels),
    "waves": ("audio", _wave),
    "videos": ("video", _clip),
}


def _of_sample(part: Callable[[Samples, int], Any]) -> Give:
    return lambda samples, _items, row: part(samples, row)


def _beside(other: Callable[[ItemBatch], Samples], part: Callable[[Samples, int], Any]) -> Give:
    def give(samples: Samples, items: ItemBatch, row: int) -> Any:
        _same_rate(samples, other(items))
        return part(other(items), row)

    return give


def _of_item(part: Callable[[ItemBatch, int], Any]) -> Give:
    return lambda _samples, items, row: part(items, row)


SOURCES: Mapping[str, Source] = {
    **{name: Source(_of_sample(part), takes=modality) for name, (modality, part) in _PARTS.items()},
    **{
        f"target_{name}": Source(_beside(_of_target, part), reads="target")
        for name, (_, part) in _PARTS.items()
        if name != "texts"
    },
    **{f"source_{name}": Source(_beside(_of_source, part), reads="source") for name, (_, part) in _PARTS.items()},
    "target": Source(_of_item(_only_target), reads="target"),
    "targets": Source(_of_item(lambda items, row: [list(_targets(items, row))]), reads="target"),
    "prompts": Source(_of_item(_prompt), reads="prompt"),
    "labels": Source(_of_item(_label), reads="label"),
    "features": Source(lambda features, _items, row: features[row : row + 1], features=True),
    "predicted_labels": Source(lambda features, _items, row: features[row : row + 1].argmax(1), features=True),
    "predictions": Source(_prediction, takes="text"),
    "answers": Source(_of_item(_squad), reads="target"),
}
"""Sources by name."""
