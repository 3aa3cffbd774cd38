"""Moving averages that are saved without the names of a model: by position, or by names without dots.

``diffusers`` and ``torch_ema`` save a list ``shadow_params`` in the order of ``model.parameters()``; latent-diffusion
saves ``model_ema.`` and the name of each parameter without its dots. Both average parameters only, and some of these
programs only those that are trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

SHADOWS = "shadow_params"
"""Key of the list: the only list of tensors that is read."""


@dataclass(frozen=True)
class Shadow:
    """Averages of parameters, under a model's names; ``where`` is their dotted path, ``by`` how they were matched."""

    where: str
    tensors: Mapping[str, Tensor]
    by: str


def shadows(entries: Mapping[str, Mapping[str, Tensor]], model: nn.Module) -> Iterator[Shadow]:
    """The averages among the entries of a file whose number and shapes are those of a model's parameters."""
    parameters = dict(model.named_parameters())
    for entry, tensors in entries.items():
        for names in (list(parameters), [name for name, each in parameters.items() if each.requires_grad]):
            shadow = _by_position(entry, tensors, names) or _by_undotted_name(entry, tensors, names)
            if shadow and all(tensor.shape == parameters[name].shape for name, tensor in shadow.tensors.items()):
                yield Shadow(shadow.where, _with_ties(shadow.tensors, model), shadow.by)
                break


def _by_position(entry: str, tensors: Mapping[str, Tensor], names: list[str]) -> Shadow | None:
    # An entry that was chosen by its path has no name left.
    if entry.rpartition(".")[2] not in (SHADOWS, "") or tensors.keys() != {str(place) for place in range(len(names))}:
        return None
    return Shadow(entry, {name: tensors[str(place)] for place, name in enumerate(names)}, "by position")


def _by_undotted_name(entry: str, tensors: Mapping[str, Tensor], names: list[str]) -> Shadow | None:
    if not any("." in name for name in names):
        return None
    undotted = {name: name.replace(".", "") for name in names}
    first = undotted[names[0]]
    for prefix in (name[: -len(first)] for name in tensors if name.endswith(first)):
        if all(prefix + short in tensors for short in undotted.values()):
            where = f"{entry}.{prefix.rpartition('.')[0]}".strip(".")
            return Shadow(
                where, {name: tensors[prefix + short] for name, short in undotted.items()}, "by names without dots"
            )
    return None


def _with_ties(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors, also under further names of the same parameter."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    own = {id(parameters[name]): tensor for name, tensor in tensors.items()}
    return {name: own[id(each)] for name, each in parameters.items() if id(each) in own}
