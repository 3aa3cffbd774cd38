"""Limits on the size of a model described by a ``config.json``, by its weights, before it allocates memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from typing import Any

from evalsvc.core.errors import CheckpointError, first_line
from evalsvc.core.files.json_files import LARGEST, read_json, read_measured
from evalsvc.core.files.regular_files import require_regular
from evalsvc.core.files.safetensors_files import open_safetensors
from evalsvc.inputs.weight_sets import WeightSet

ANY_LAYERS, ANY_LABELS, ANY_MODULES, ANY_ELEMENTS = 1000, 100_000, 20_000, 2**24
"""Allowance of any model."""
MODULES_A_TENSOR, ELEMENTS_A_BYTE = 20, 8
"""Allowance per tensor and per byte of weights.

Quantized weights have two elements per byte, and each parameter is registered twice, first without and then with
memory.
"""
_PARSED = (".json", ".txt", ".model", ".jinja")
_LAYERS, _LABELS = re.compile(r"layers?(_|$)|depth"), re.compile(r"labels")


def measure_folder(folder: Path) -> None:
    """Measure every parsed file of a ``transformers`` folder except the weights.

    Raises:
        CheckpointError: a file is larger or deeper than the limits.
        InputError: a file is a pipe or a device.
    """
    for path in sorted(each for each in folder.iterdir() if each.suffix in _PARSED and not each.is_dir()):
        require_regular(path)
        try:
            if path.suffix == ".json":
                read_measured(path)
            elif path.stat().st_size > LARGEST:
                raise ValueError(f"more than {LARGEST:,} bytes")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {path} ({error})") from None


@contextmanager
def no_larger_than(folder: Path, weights: WeightSet, config: str = "config.json") -> Iterator[None]:
    """Raise a :class:`CheckpointError` if a model built inside has far more layers or parameters than its weights."""
    from torch.nn.modules import module as registration

    tensors = 0
    for path in weights.files:
        with open_safetensors(path) as file:
            tensors += len(file.keys())
    size = sum(path.stat().st_size for path in weights.files)
    _refuse_lists(folder / config, max(ANY_LAYERS, tensors))
    left = {"modules": ANY_MODULES + MODULES_A_TENSOR * tensors, "parameters": ANY_ELEMENTS + ELEMENTS_A_BYTE * size}

    def count(what: str, number: int) -> None:
        left[what] -= number
        if left[what] < 0:
            raise CheckpointError(
                f"{folder / config} describes a model with far more {what} than its weights contain "
                f"({tensors:,} tensors in {size:,} bytes)"
            )

    def module(_owner: Any, _name: str, _module: Any) -> None:
        count("modules", 1)

    def elements(_owner: Any, _name: str, tensor: Any) -> None:
        count("parameters", 0 if tensor is None else tensor.numel())

    with ExitStack() as hooks:
        for handle in (
            registration.register_module_module_registration_hook(module),
            registration.register_module_parameter_registration_hook(elements),
            registration.register_module_buffer_registration_hook(elements),
        ):
            hooks.callback(handle.remove)
        yield


def _refuse_lists(config: Path, layers: int) -> None:
    """Configurations build lists of their layers and labels before a model exists."""
    try:
        waiting = [read_json(config)]
    except ValueError as error:
        raise CheckpointError(f"{config} is not a JSON object ({first_line(error, 160)})") from None
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            for key, number in value.items():
                most = layers if _LAYERS.search(key) else ANY_LABELS if _LABELS.search(key) else inf
                if isinstance(number, int | float) and number > most:
                    raise CheckpointError(
                        f"{config} describes a model with {key} = {str(number)[:20]}: the maximum is {most}"
                    )
