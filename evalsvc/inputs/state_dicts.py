"""State dicts of a weights file, and the selection of the one that fits a model.

Trainers write several: the model, its moving average (``ema``), optimizer moments, a discriminator, with prefixes that
wrappers add (``module.``, ``_orig_mod.``). A state dict is used if it is the only one that fits; if several fit, the
user must choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evalsvc.core.errors import InputError, first_line
from evalsvc.inputs.ema_shadows import shadows
from evalsvc.inputs.state_dict_search import Choice, below, fitting_choices, nearest_choice, needed_by
from evalsvc.inputs.weight_norms import convert_norms, plain
from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

ROOT = "."
"""Name of a file's top level in ``--option state=``."""
NAMED = 8
"""Maximum number of entries listed in an error."""


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
                part := below(tensors, state.removeprefix(f"{entry}.") + ".")
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
        named = fitting_choices(self.entries, needed_by(model))
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
        choice = fitting[0] if fitting else nearest_choice(self.entries, needed_by(model))
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
        """Averages of parameters alone; the rest (buffers) is of the only other state dict of the file that fits."""
        needed = needed_by(model)
        sources = named or fitting_choices(self.beside, needed)
        buffers = dict(model.named_buffers())
        parameters = {name: tensor for name, tensor in needed.items() if name not in buffers}
        if len(sources) == 1 and len(parameters) < len(needed):
            for choice in fitting_choices(self.entries, parameters):
                if choice.where not in {each.where for each in named}:
                    yield _completed(choice, sources[0], model)
        for shadow in shadows(self.entries, model):
            choice = Choice(shadow.where, shadow.tensors, (shadow.by,))
            if missing := sorted(needed.keys() - plain(shadow.tensors).keys()):
                if len(sources) != 1:
                    raise InputError(
                        f"has only parameters in {shadow.where or 'the chosen entry'}, but the model has also "
                        f"{_first(missing)}: save the state dict of the model beside them, or of the averaged model"
                    )
                choice = _completed(choice, sources[0], model)
            yield choice

    def __str__(self) -> str:
        held = [f"{entry or 'the top level'} ({len(tensors)} tensors)" for entry, tensors in self.entries.items()]
        listed = [*held[:NAMED], *self.others[:NAMED]]
        more = len(held) + len(self.others) - len(listed)
        return f"entries of the file: {', '.join(listed) or 'none'}" + (f" and {more} more" if more else "")


def _completed(choice: Choice, source: Choice, model: nn.Module) -> Choice:
    """A choice with the tensors of a source that it lacks, both under the model's names."""
    tensors = dict(convert_norms(source.tensors, model)[0]) | convert_norms(choice.tensors, model)[0]
    return Choice(choice.where, tensors, (*choice.notes, f"rest of {source.where or ROOT}"))


def _converted(choice: Choice, model: nn.Module) -> Choice:
    """A choice under the model's own names, with its dtypes noted.

    Raises:
        InputError: it is quantized.
    """
    tensors, computed = convert_norms(choice.tensors, model)
    given, dtypes = plain(choice.tensors), set()
    for name, wanted in needed_by(model).items():
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
    wanted, given = plain(model.state_dict()), plain(choice.tensors)
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
