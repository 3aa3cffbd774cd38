"""The state dicts of one weights file, and which of them a model is filled from.

Trainers write more than one: beside ``model`` an average of it (``ema``), an optimizer's moments, a discriminator, all
of it under the prefixes that wrappers add (``module.``, ``_orig_mod.``). Nothing is guessed: what fits alone is taken,
and where two fit the user says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Size, Tensor, nn

from evalsvc.core.errors import InputError, first_line

ROOT = "."
"""Name of a file's top level, where a user chooses it."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What ``torch.compile`` and others put into names, anywhere in them; data parallel training puts ``module.``."""
NAMED = 8
"""Entries named in an error."""


@dataclass(frozen=True)
class Choice:
    """One state dict of a file: ``where`` is its dotted path, empty for the whole file."""

    where: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class StateDicts:
    """Every dictionary of a file that holds tensors, by its dotted path (``""`` is the file itself).

    ``others`` are the entries that hold no tensors, such as ``epoch`` and ``args``, by their dotted paths.
    """

    entries: Mapping[str, Mapping[str, Tensor]]
    others: tuple[str, ...] = ()

    def at(self, state: str) -> StateDicts:
        """What lies at and below a dotted path: an entry of the file, or a prefix of the names in one.

        Raises:
            InputError: there is nothing.
        """
        found: dict[str, Mapping[str, Tensor]] = {}
        for entry, tensors in self.entries.items():
            if entry == ("" if state == ROOT else state):
                found[""] = tensors
            elif entry.startswith(f"{state}."):
                found[entry[len(state) + 1 :]] = tensors
            elif (not entry or state.startswith(f"{entry}.")) and (
                part := _below(tensors, state.removeprefix(f"{entry}.") + ".")
            ):
                found[""] = part
        if not found:
            raise InputError(f"has no entry {state!r}: {self}")
        return StateDicts(found, self.others)

    def only(self) -> Mapping[str, Tensor]:
        """The tensors of a file that is one state dict.

        Raises:
            InputError: they lie deeper, in one entry or several, or there are none.
        """
        if set(self.entries) == {""}:
            return self.entries[""]
        raise InputError(f"is not a state_dict of tensors: {self}; choose an entry, or save model.state_dict() alone")

    def fitting(self, model: nn.Module) -> list[Choice]:
        """The state dicts that have a model's names and shapes, under whatever prefix and without wrappers' names."""
        wanted = {name: value.shape for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        # Files of old versions of torch lack these counters, and load_state_dict sets them.
        needed = {name: shape for name, shape in wanted.items() if not name.endswith("num_batches_tracked")}
        return [choice for entry, tensors in self.entries.items() for choice in _fitting(entry, tensors, needed)]

    def fill(self, model: nn.Module) -> str:
        """Copy the one state dict that fits into a model; its dotted path, empty where it is the whole file.

        Raises:
            InputError: none fits, or several do.
        """
        fitting = self.fitting(model)
        if len(fitting) > 1:
            names = [choice.where or ROOT for choice in fitting[:NAMED]]
            raise InputError(
                f"holds {len(fitting)} state dicts that fit the model, {' and '.join(names)}: choose one with "
                f"--option state={' or state='.join(names)}"
            )
        choice = fitting[0] if fitting else self._nearest(model)
        try:
            model.load_state_dict(dict(choice.tensors))
        except RuntimeError as error:
            raise InputError(f"does not fit the model: {_misfit(model, choice, error)}; {self}") from None
        return choice.where

    def _nearest(self, model: nn.Module) -> Choice:
        """Of those that do not fit, the one that shares most names with a model."""
        wanted = model.state_dict().keys()
        tried = [Choice(entry, tensors) for entry, tensors in self.entries.items()]
        return max(tried, key=lambda choice: len(wanted & choice.tensors.keys()), default=Choice("", {}))

    def __str__(self) -> str:
        held = [f"{entry or 'the top level'} ({len(tensors)} tensors)" for entry, tensors in self.entries.items()]
        listed = [*held[:NAMED], *self.others[:NAMED]]
        more = len(held) + len(self.others) - len(listed)
        return f"entries of the file: {', '.join(listed) or 'none'}" + (f" and {more} more" if more else "")


def _fitting(entry: str, tensors: Mapping[str, Tensor], needed: Mapping[str, Size]) -> list[Choice]:
    """Where in one entry a model's names are, each after the same prefix, wrappers' names left out if need be."""
    for wrappers in ((), WRAPPERS, (*WRAPPERS, "module.")):
        names = {_without(name, wrappers): tensor for name, tensor in tensors.items()}
        if len(names) < len(tensors):
            continue  # two would be one
        ends = {name[: -len(first)] for first in list(needed)[:1] for name in names if f".{name}".endswith(f".{first}")}
        if found := [prefix for prefix in sorted(ends) if _fits(names, prefix, needed)]:
            return [Choice(f"{entry}.{prefix}".strip("."), _below(names, prefix)) for prefix in found]
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
    """The first name that is missing, unexpected, or of another shape, and how many more are."""
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
    told = ", ".join(f"{kind} {_first(names)}" for kind, names in kinds.items() if names) or first_line(error, 160)
    return f"{told} in {choice.where}" if choice.where else told


def _scalar(tensor: Tensor) -> str:
    return "" if tensor.ndim else " (a number beside the weights: save the state_dict without it)"


def _first(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
