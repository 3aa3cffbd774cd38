"""Where in a file the tensors of a model are: below which prefixes of names, with or without those of wrappers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalsvc.inputs.weight_norms import plain
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Name components that ``torch.compile`` and other wrappers insert anywhere; data parallelism adds ``module.``."""


@dataclass(frozen=True)
class Choice:
    """One state dict of a file: ``where`` is its dotted path, empty for the whole file; ``notes``: how it was read."""

    where: str
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def needed_by(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model, under plain names, that a file must contain."""
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    # Files of old torch versions lack these counters, and load_state_dict sets them.
    return {name: tensor for name, tensor in plain(wanted).items() if not name.endswith("num_batches_tracked")}


@dataclass(frozen=True)
class _Place:
    """A prefix in an entry, whose names may be without wrappers; ``shared`` names of the model are below it."""

    entry: str
    prefix: str
    shared: int
    tensors: Mapping[str, Tensor]
    plain: Mapping[str, Tensor]
    notes: tuple[str, ...]

    def fits(self, needed: Mapping[str, Tensor]) -> bool:
        given = (self.plain.get(self.prefix + name) for name in needed)
        return self.shared == len(needed) and all(
            tensor is not None and tensor.shape == wanted.shape
            for tensor, wanted in zip(given, needed.values(), strict=True)
        )

    def choice(self) -> Choice:
        return Choice(f"{self.entry}.{self.prefix}".strip("."), below(self.tensors, self.prefix), self.notes)


def _places(entries: Mapping[str, Mapping[str, Tensor]], needed: Mapping[str, Tensor]) -> Iterator[_Place]:
    """All places with names of a model. Without wrappers, one state dict may be at several."""
    for entry, tensors in entries.items():
        for wrappers in ((), WRAPPERS, (*WRAPPERS, "module.")):
            names = {_without(name, wrappers): tensor for name, tensor in tensors.items()}
            if len(names) < len(tensors):
                continue  # two names would collide
            notes = ("without wrappers",) if names.keys() != tensors.keys() else ()
            whole = plain(names)
            prefixes = Counter(prefix for name in whole for prefix in _prefixes(name, needed))
            for prefix, shared in sorted(prefixes.items()):
                yield _Place(entry, prefix, shared, names, whole, notes)


def fitting_choices(entries: Mapping[str, Mapping[str, Tensor]], needed: Mapping[str, Tensor]) -> list[Choice]:
    """The state dicts with the names and shapes of a model."""
    places: dict[frozenset[int], _Place] = {}
    for place in _places(entries, needed):
        if place.fits(needed):
            places.setdefault(frozenset(id(place.plain[place.prefix + name]) for name in needed), place)
    return [place.choice() for place in places.values()]


def nearest_choice(entries: Mapping[str, Mapping[str, Tensor]], needed: Mapping[str, Tensor]) -> Choice:
    """The state dict that shares most names with a model."""
    if nearest := max(_places(entries, needed), key=lambda place: place.shared, default=None):
        return nearest.choice()
    return next((Choice(entry, tensors) for entry, tensors in entries.items()), Choice("", {}))


def _prefixes(name: str, needed: Mapping[str, Tensor]) -> Iterator[str]:
    """The beginnings of a name after which, at a dot, a needed name follows."""
    place = 0
    while True:
        if name[place:] in needed:
            yield name[:place]
        place = name.find(".", place) + 1
        if not place:
            return


def _without(name: str, wrappers: tuple[str, ...]) -> str:
    for wrapper in wrappers:
        name = f".{name}".replace(f".{wrapper}", ".").removeprefix(".")
    return name


def below(tensors: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
