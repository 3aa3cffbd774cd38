"""The generators of random numbers that a process shares, for calls that draw without a generator of their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Random numbers of torch, on the CPU and on ``device``, of NumPy and Python under this seed; restored afterwards.

    Yields whether any of torch or NumPy were drawn. Of Python's, that would be unknown: other threads of a worker draw.
    No other device is touched, as by ``torch.manual_seed``: it may compute for another thread.
    """
    generators = _of_torch(device)
    theirs = [generator.get_state() for generator in generators]
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        for generator in generators:
            generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
        before = _states(generators)
        yield lambda: _states(generators) != before
    finally:
        for generator, state in zip(generators, theirs, strict=True):
            generator.set_state(state)
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def _of_torch(device: torch.device) -> list[torch.Generator]:
    """The generators of the CPU and of the device."""
    if device.type == "cpu":
        return [torch.default_generator]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    module: Any = torch.get_device_module(device)
    module.init()
    index = module.current_device() if device.index is None else device.index
    return [torch.default_generator, module.default_generators[index]]


def _states(generators: list[torch.Generator]) -> list[object]:
    numpy: Any = np.random.get_state()
    return [*(generator.get_state().numpy().tobytes() for generator in generators), numpy[1].tobytes(), numpy[2]]
