"""Weight norm and spectral norm: torch names their tensors in two ways, and both stand for a plain weight.

``torch.nn.utils.weight_norm`` saves ``weight_g`` and ``weight_v``, that of ``torch.nn.utils.parametrizations`` saves
``parametrizations.weight.original0`` and ``original1``; removing either leaves ``weight``. A file of one form fills a
model of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.(original0|original1|original|0\._u|0\._v)")
_OLD = {"original0": "g", "original1": "v", "original": "orig", "0._u": "u", "0._v": "v"}
WEIGHT_NORM, SPECTRAL_NORM = ("g", "v"), ("orig", "u", "v")


def norms(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The normalized weights among names of tensors: the plain name of each, with the names of its parts."""
    parts = {_PARAMETRIZED.sub(lambda match: f"{match[1]}_{_OLD[match[2]]}", name): name for name in names}
    normalized = {}
    for base in (name[:-2] for name in parts if name.endswith("_v")):
        for kind in (WEIGHT_NORM, SPECTRAL_NORM):
            if all(f"{base}_{part}" in parts for part in kind):
                normalized[base] = {part: parts[f"{base}_{part}"] for part in kind}
    return normalized


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under plain names; a normalized weight is represented by its direction, which has its shape."""
    normalized = norms(tensors)
    parts = {name for each in normalized.values() for name in each.values()}
    return {name: tensor for name, tensor in tensors.items() if name not in parts} | {
        base: tensors[each.get("orig", each["v"])] for base, each in normalized.items()
    }


def convert_norms(tensors: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], bool]:
    """The tensors under a model's names; and whether weights were computed, in float64, and not only renamed.

    Raises:
        InputError: the model has spectral norm and the tensors do not.
    """
    wanted, computed = model.state_dict(), False
    given, needed = norms(tensors), norms(wanted)
    parts = {name for each in given.values() for name in each.values()}
    converted = {name: tensor for name, tensor in tensors.items() if name not in parts}
    for base in [*given, *(base for base in needed if base in converted)]:
        theirs, ours = given.get(base, {}), needed.get(base, {})
        if theirs.keys() == ours.keys() and all(
            tensors[theirs[part]].shape == wanted[ours[part]].shape for part in ours
        ):
            converted |= {ours[part]: tensors[name] for part, name in theirs.items()}
            continue
        if not ours and base not in wanted:  # of another model
            converted |= {name: tensors[name] for name in theirs.values()}
            continue
        held = {part: tensors[name] for part, name in theirs.items()}
        weight = _weight(base, held, model) if held else converted.pop(base)
        if ours.keys() == set(SPECTRAL_NORM):
            raise InputError(
                f"has {base} without spectral norm, which the model applies: build the model without it, or save the "
                "state dict before it is removed"
            )
        computed = True
        converted |= {ours["g"]: _norm(weight, wanted[ours["g"]]), ours["v"]: weight} if ours else {base: weight}
    return converted, computed


def _weight(base: str, parts: Mapping[str, Tensor], model: nn.Module) -> Tensor:
    """The plain weight that the module computes of its parts in evaluation mode."""
    parts = {part: tensor.double() for part, tensor in parts.items()}
    if "g" in parts:
        return parts["v"] * (parts["g"] / _norm(parts["v"], parts["g"]))
    weight = parts["orig"]
    module = model.get_submodule(base.rpartition(".")[0])
    # Both forms take the outputs of a layer as rows, which a transposed convolution has in its second dimension.
    rows = weight.transpose(0, 1) if isinstance(module, torch.nn.modules.conv._ConvTransposeNd) else weight
    return weight / (parts["u"] @ rows.flatten(1) @ parts["v"])


def _norm(weight: Tensor, like: Tensor) -> Tensor:
    """The norm of a weight over the dimensions in which ``like`` has size 1, in its shape."""
    weight = weight.double()
    over = [i for i in range(weight.ndim) if like.ndim == 0 or like.shape[i] != weight.shape[i]]
    return (weight.square().sum(over, keepdim=True) if over else weight.square()).sqrt().reshape(like.shape)
