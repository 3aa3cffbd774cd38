"""State dicts of a weights file, and the selection of the one that fits a model.

Trainers write several: the model, its moving average (``ema``), optimizer moments, a discriminator, with prefixes that
wrappers add (``module.``, ``_orig_mod.``). A state dict is used if it is the only one that fits; if several fit, the
user must choose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evalsvc.core.errors import InputError, first_line
from evalsvc.inputs.ema_shadows import shadows
from evalsvc.inputs.weight_norms import convert_norms, plain
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

ROOT = "."
"""Name of a file's top level in ``--option state=``."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Name components that ``torch.compile`` and other wrappers insert anywhere; data parallelism adds ``module.``."""
NAMED = 8
"""Maximum number of entries listed in an error."""


@dataclass(frozen=True)
class Choice:
    """One state dict of a file: ``where`` is its dotted path, empty for the whole file; ``notes``: how it was read."""

    where: str
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StateDicts:
    """All dictionaries of tensors in a file, by dotted path (``""`` is the file itself).

    ``others`` are the dotted paths of entries without tensors, such as ``epoch`` and ``args``; ``beside`` are further
    entries of the file, which are not to be chosen, but may complete a choice. ``file`` is the name of the file in a
    folder, ``state`` the dotted path that was chosen.
    """

    entries: Mapping[str, Mapping[str, Tensor]]
    others: tuple[str, ...] = ()
    beside: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    file: str = ""
    state: str = ""

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
        return replace(self, entries=entries, beside=self.entries, state=state)

    def only(self) -> Mapping[str, Tensor]:
        """The tensors of a file that is a single state dict.

        Raises:
            InputError: the tensors are in nested entries, or missing.
        """
        if set(self.entries) == {""}:
            return self.entries[""]
        raise InputError(f"is not a state_dict of tensors: {self}; choose an entry, or save model.state_dict() only")

    def fitting(self, model: nn.Module) -> list[Choice]:
        """The state dicts with a model's names and shapes, under any prefix and without wrapper components.

        Averages without names (:mod:`~evalsvc.inputs.ema_shadows`) fit by the shapes of the model's parameters.

        Raises:
            InputError: averages of parameters fit, but buffers of the model are not in the file.
        """
        needed = _needed(model)
        named = _named(self.entries, needed)
        return [*named, *self._averages(model, named)]

    def fill(self, model: nn.Module) -> str:
        """Copy the only state dict that fits into a model.

        Returns its dotted path (empty for the whole file) after the file of a folder, and in parentheses how it was
        read: ``model.safetensors: ema (bfloat16)``.

        Raises:
            InputError: none or several fit, or it is quantized.
        """
        fitting = self.fitting(model)
        if len(fitting) > 1:
            names = [self._path(choice) or ROOT for choice in fitting[:NAMED]]
            raise InputError(
                f"contains {len(fitting)} state dicts that fit the model, {' and '.join(names)}: choose one with "
                f"--option state={' or state='.join(names)}"
            )
        choice = fitting[0] if fitting else self._nearest(model)
        try:
            choice = _converted(choice, model) if fitting else choice
            model.load_state_dict(dict(choice.tensors))
        except RuntimeError as error:
            raise InputError(f"does not fit the model: {_misfit(model, choice, error)}; {self}") from None
        notes = f" ({', '.join(choice.notes)})" if choice.notes else ""
        return (": ".join(filter(None, [self.file, self._path(choice)])) + notes).strip()

    def _path(self, choice: Choice) -> str:
        """The dotted path of a choice in the file."""
        return f"{self.state}.{choice.where}".strip(".") or self.state

    def _averages(self, model: nn.Module, named: list[Choice]) -> Iterator[Choice]:
        """Averages of parameters; the rest (buffers) is of the only other state dict of the file that fits."""
        needed = _needed(model)
        for shadow in shadows(self.entries, model):
            missing = needed.keys() - shadow.tensors.keys()
            if not missing:
                yield Choice(shadow.where, shadow.tensors, (shadow.by,))
                continue
            sources = named or _named(self.beside, needed)
            if len(sources) != 1:
                raise InputError(
                    f"has only parameters in {shadow.where or 'the chosen entry'}, but the model has also "
                    f"{_first(sorted(missing))}: save the state dict of the model beside them, or of the averaged model"
                )
            where, rest = sources[0].where, {name: sources[0].tensors[name] for name in missing}
            yield Choice(shadow.where, {**rest, **shadow.tensors}, (shadow.by, f"rest of {where or ROOT}"))

    def _nearest(self, model: nn.Module) -> Choice:
        """The state dict that shares most names with a model."""
        places = _places(self.entries, _needed(model))
        if nearest := max(places, key=lambda place: place.shared, default=None):
            return nearest.choice()
        return next((Choice(entry, tensors) for entry, tensors in self.entries.items()), Choice("", {}))

    def __str__(self) -> str:
        held = [f"{entry or 'the top level'} ({len(tensors)} tensors)" for entry, tensors in self.entries.items()]
        listed = [*held[:NAMED], *self.others[:NAMED]]
        more = len(held) + len(self.others) - len(listed)
        return f"entries of the file: {', '.join(listed) or 'none'}" + (f" and {more} more" if more else "")


def _needed(model: nn.Module) -> dict[str, Tensor]:
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
        return Choice(f"{self.entry}.{self.prefix}".strip("."), _below(self.tensors, self.prefix), self.notes)


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


def _named(entries: Mapping[str, Mapping[str, Tensor]], needed: Mapping[str, Tensor]) -> list[Choice]:
    """The state dicts with the names and shapes of a model."""
    places: dict[frozenset[int], _Place] = {}
    for place in _places(entries, needed):
        if place.fits(needed):
            places.setdefault(frozenset(id(place.plain[place.prefix + name]) for name in needed), place)
    return [place.choice() for place in places.values()]


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


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _converted(choice: Choice, model: nn.Module) -> Choice:
    """A choice under the model's own names, with its dtypes noted.

    Raises:
        InputError: it is quantized.
    """
    tensors, computed = convert_norms(choice.tensors, model)
    given, dtypes = plain(choice.tensors), set()
    for name, wanted in _needed(model).items():
        dtype = given[name].dtype
        if wanted.is_floating_point() and not dtype.is_floating_point:
            raise InputError(
                f"has {name} as {_name(dtype)}, but the model has it as {_name(wanted.dtype)}: save a state dict "
                "without quantization"
            )
        if dtype != wanted.dtype:
            dtypes.add(_name(dtype))
    notes = ("norms converted",) if computed else ()
    return Choice(choice.where, tensors, (*choice.notes, *notes, *sorted(dtypes)))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
