"""Arguments of metrics that depend on the reference alone: computed once, stored, and passed to every later call."""

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

    ``argument`` is the optional parameter that takes it. ``of`` names the inputs that it is computed from; all but the
    first may be absent. ``find`` is given the inputs and all options and returns arrays; ``restore`` is given these
    arrays, the inputs and the options, and returns the argument.
    ``key`` names the arrays among those stored beside the reference: it contains every option that they depend on.
    The metric is called without the argument if ``is_worthwhile`` is false for the inputs.
    """

    argument: str
    of: tuple[str, ...]
    key: Callable[[Values], str]
    find: Callable[[Values, Values], dict[str, np.ndarray]]
    restore: Callable[[Arrays, Values, Values], Any]
    is_worthwhile: Callable[[Values], bool] = _always
