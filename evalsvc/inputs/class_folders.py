"""Class labels of files by the folders in which they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

MOST_DIGITS = 10
"""Number of digits from which the name of a folder is not the number of a class."""


def folder_labels(names: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Label of each relative name: the number that names its top folder, or the folder's place among all.

    -1 for all files if one lies in no folder, or if there is a single folder.
    """
    tops = [top for top, slash, _ in (name.partition("/") for name in names) if slash]
    classes = sorted(set(tops))
    if len(tops) < len(names) or len(classes) < 2:
        return np.full(len(names), -1)
    if all(top.isascii() and top.isdigit() and len(top) < MOST_DIGITS for top in classes):
        return np.array([int(top) for top in tops])
    place = {top: number for number, top in enumerate(classes)}
    return np.array([place[top] for top in tops])
