"""Confusions of an evaluation by class: what the samples of each label were taken for."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from evalsvc.analysis.items import ItemTable
from evalsvc.core.errors import InputError
from evalsvc.metrics.confusion import confusion_matrix


def confusions(table: ItemTable, predicted: str) -> Int64[np.ndarray, "classes classes"]:
    """How many samples of label i were taken for class j, by the predicted classes of a scorer (``scorer/quantity``).

    Raises:
        InputError: the items have no labels, or there is no such quantity.
    """
    labels = table.item_set.labels
    if labels is None or predicted not in table.arrays:
        raise InputError(f"{table.suite} has no labels with {predicted!r}: add a scorer 'label-accuracy' to the suite")
    found = table.arrays[predicted]
    classes = int(max(labels.max(), np.nanmax(found, initial=0))) + 1
    return confusion_matrix(labels[table.items], found, classes)
