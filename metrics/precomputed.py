"""What a metric needs of a reference whatever is generated: found once, kept, and handed to every later call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]


def _always(inputs: Values) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Precomputed:
    """An argument that depends on the reference alone.

    ``argument`` is the parameter that takes it; where that is an input, what was found takes its place. ``of`` names
    the inputs that it is found from, of which all but the first may be absent. ``find`` is given the inputs and all
    options and returns arrays; ``restore`` is given these arrays, the inputs and the options, and returns the argument.
    ``key`` names the arrays among those kept beside the reference: it has every option that they depend on.
    Where ``is_worthwhile`` says no to the inputs, the metric is called without.
    """

    argument: str
    of: tuple[str, ...]
    key: Callable[[Values], str]
    find: Callable[[Values, Values], dict[str, np.ndarray]]
    restore: Callable[[Arrays, Values, Values], Any]
    is_worthwhile: Callable[[Values], bool] = _always
