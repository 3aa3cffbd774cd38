"""Edit distance of two sequences (Levenshtein 1966)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Smallest number of insertions, deletions and substitutions that turn one sequence into the other.

    Time grows with the product of the lengths, memory with the length of ``second``.

    >>> edit_distance("the cat sat".split(), "a cat sat down".split()), edit_distance("kitten", "sitting")
    (2, 3)
    """
    numbers: dict[Hashable, int] = {}
    rows, columns = (np.array([numbers.setdefault(each, len(numbers)) for each in part]) for part in (first, second))
    steps = np.arange(len(columns) + 1)
    above = steps
    for count, row in enumerate(rows, 1):
        here = np.minimum(above[1:] + 1, above[:-1] + (columns != row))
        # An insertion costs 1 a step: the least of all entries to the left, each plus its distance.
        above = np.minimum.accumulate(np.concatenate([[count], here]) - steps) + steps
    return int(above[-1])
