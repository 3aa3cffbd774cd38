"""State dicts of a weights file, and the selection of the one that fits a model.

Trainers write several: the model, its moving average (``ema``), optimizer moments, a discriminator, with prefixes that
wrappers add (``module.``, ``_orig_mod.``). A state dict is used if it is the only one that fits; if several fit, the
user must choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalsvc.core.errors import InputError, first_line
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Size, Tensor, nn

ROOT = "."
"""Name of a file's top level in ``--option state=``."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Name components that ``torch.compile`` and other wrappers insert anywhere; data parallelism adds ``module.``."""
NAMED = 8
"""Maximum number of entries listed in an error."""


@dataclass(frozen=True)
class Choice:
    """One state dict of a file: ``where`` is its dotted path, empty for the whole file."""

    where: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class StateDicts:
    """All dictionaries of tensors in a file, by dotted path (``""`` is the file itself).

    ``others`` are the dotted paths of entries without tensors, such as ``epoch`` and ``args``.
    """

    entries: Mapping[str, Mapping[str, Tensor]]
    others: tuple[str, ...] = ()

    def at(self, state: str) -> StateDicts:
        """The entries at and below a dotted path: an entry of the file, or a prefix of its tensor names.

        Raises:
            InputError: there is no such entry.
        """
        entries: dict[str, Mapping[str, Tensor]] = {}
        for entry, tensors in self.entries.items():
            if entry == ("" if state == ROOT else state):
                entries[""] = tensors
            elif entry.startswith(f"{state}."):
                entries[entry[len(state) + 1 :]] = tensors
            elif (not entry or state.startswith(f"{entry}.")) and (
                part := _below(tensors, state.removeprefix(f"{entry}.") + ".")
            ):
                entries[""] = part
        if not entries:
            raise InputError(f"has no entry {state!r}: {self}")
        return StateDicts(entries, self.others)

    def only(self) -> Mapping[str, Tensor]:
        """The tensors of a file that is a single state dict.

        Raises:
            InputError: the tensors are in nested entries, or missing.
        """
        if set(self.entries) == {""}:
            return self.entries[""]
        raise InputError(f"is not a state_dict of tensors: {self}; choose an entry, or save model.state_dict() only")

    def fitting(self, model: nn.Module) -> list[Choice]:
        """The state dicts with a model's names and shapes, under any prefix and without wrapper components."""
        wanted = {name: value.shape for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
        # Files of old torch versions lack these counters, and load_state_dict sets them.
        needed = {name: shape for name, shape in wanted.items() if not name.endswith("num_batches_tracked")}
        return [choice for entry, tensors in self.entries.items() for choice in _fitting(entry, tensors, needed)]

    def fill(self, model: nn.Module) -> str:
        """Copy the only state dict that fits into a model; return its dotted path, empty for the whole file.

        Raises:
            InputError: none or several fit.
        """
        fitting = self.fitting(model)
        if len(fitting) > 1:
            names = [choice.where or ROOT for choice in fitting[:NAMED]]
            raise InputError(
                f"contains {len(fitting)} state dicts that fit the model, {' and '.join(names)}: choose one with "
                f"--option state={' or state='.join(names)}"
            )
        choice = fitting[0] if fitting else self._nearest(model)
        try:
            model.load_state_dict(dict(choice.tensors))
        except RuntimeError as error:
            raise InputError(f"does not fit the model: {_misfit(model, choice, error)}; {self}") from None
        return choice.where

    def _nearest(self, model: nn.Module) -> Choice:
        """The state dict that shares most names with a model."""
        wanted = model.state_dict().keys()
        tried = [Choice(entry, tensors) for entry, tensors in self.entries.items()]
        return max(tried, key=lambda choice: len(wanted & choice.tensors.keys()), default=Choice("", {}))

    def __str__(self) -> str:
        held = [f"{entry or 'the top level'} ({len(tensors)} tensors)" for entry, tensors in self.entries.items()]
        listed = [*held[:NAMED], *self.others[:NAMED]]
        more = len(held) + len(self.others) - len(listed)
        return f"entries of the file: {', '.join(listed) or 'none'}" + (f" and {more} more" if more else "")


def _fitting(entry: str, tensors: Mapping[str, Tensor], needed: Mapping[str, Size]) -> list[Choice]:
    """Prefixes in one entry under which all names of a model exist, with wrapper components removed if necessary."""
    for wrappers in ((), WRAPPERS, (*WRAPPERS, "module.")):
        names = {_without(name, wrappers): tensor for name, tensor in tensors.items()}
        if len(names) < len(tensors):
            continue  # two names would collide
        ends = {name[: -len(first)] for first in list(needed)[:1] for name in names if f".{name}".endswith(f".{first}")}
        if prefixes := [prefix for prefix in sorted(ends) if _fits(names, prefix, needed)]:
            return [Choice(f"{entry}.{prefix}".strip("."), _below(names, prefix)) for prefix in prefixes]
    return []


def _without(name: str, wrappers: tuple[str, ...]) -> str:
    for wrapper in wrappers:
        name = f".{name}".replace(f".{wrapper}", ".").removeprefix(".")
    return name


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fits(tensors: Mapping[str, Tensor], prefix: str, needed: Mapping[str, Size]) -> bool:
    return all(
        (tensor := tensors.get(prefix + name)) is not None and tensor.shape == shape for name, shape in needed.items()
    )


def _misfit(model: nn.Module, choice: Choice, error: RuntimeError) -> str:
    """The first missing, unexpected or misshaped name, and the number of further ones."""
    wanted, given = model.state_dict(), choice.tensors
    kinds = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [f"{name}{_scalar(given[name])}" for name in given if name not in wanted],
        "another shape for": [
            f"{name} ({tuple(given[name].shape)}, expected {tuple(wanted[name].shape)})"
            for name in wanted
            if name in given and given[name].shape != wanted[name].shape
        ],
    }
    faults = ", ".join(f"{kind} {_first(names)}" for kind, names in kinds.items() if names) or first_line(error, 160)
    return f"{faults} in {choice.where}" if choice.where else faults


def _scalar(tensor: Tensor) -> str:
    return "" if tensor.ndim else " (a scalar beside the weights: save the state_dict without it)"


def _first(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
