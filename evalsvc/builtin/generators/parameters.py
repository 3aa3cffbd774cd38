"""Which parameter of a function receives what: latents, labels, sources, prompts, or the number of samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from evalsvc.core.errors import InputError

Role = Literal["latent", "label", "source", "prompt", "count"]

NAMES: dict[str, Role] = {
    **dict.fromkeys(("z", "noise", "latent", "latents"), "latent"),
    **dict.fromkeys(("y", "c", "label", "labels", "classes", "class_label", "class_labels"), "label"),
    **dict.fromkeys(("source", "image", "images", "img"), "source"),
    **dict.fromkeys(("prompt", "prompts"), "prompt"),
    **dict.fromkeys(("n", "batch_size", "num_samples", "n_samples"), "count"),
}
"""Roles of parameters by their names."""
EITHER = ("x", "input")
"""Names of latents or sources."""


@dataclass(frozen=True)
class Parameter:
    """A parameter that can be given by name."""

    name: str
    required: bool = True


@dataclass(frozen=True)
class Assignment:
    """Roles of parameters by name, in the order of the signature; without names, latents are the only argument."""

    roles: Mapping[str, Role]
    needed: frozenset[Role]
    positional: bool = False

    @property
    def parameter(self) -> dict[Role, str]:
        """The parameter of each role."""
        return {role: name for name, role in self.roles.items()}


def parameters_of(function: Callable[..., Any]) -> list[Parameter] | None:
    """The parameters of a function, or ``None`` if callers cannot name them (``*args``, TorchScript)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled from TorchScript
        return None
    named = [
        Parameter(each.name, each.default is each.empty)
        for each in parameters
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    unnamed = any(each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL) for each in parameters)
    return None if unnamed and not named else named


def assign(
    parameters: Sequence[Parameter], first: Role, has_latent: bool, who: str, inputs: Mapping[str, Role] | None = None
) -> Assignment:
    """Decide what each parameter receives: by ``inputs`` if given, else by names.

    Parameters called ``x`` or ``input`` receive ``first``. Of required parameters without a known name, the first
    receives latents if that is ``first``, and the second labels. An optional parameter with a known name receives what
    the suite gives, or latents if their shape is known.

    Raises:
        InputError: a required parameter receives nothing, or two receive the same.
    """
    roles = dict(inputs) if inputs is not None else _by_names(parameters, first, has_latent)
    required = {each.name for each in parameters if each.required}
    listed = ", ".join(each.name for each in parameters) or "nothing"
    example = parameters[0].name if parameters else "z"
    way = f"say what each receives with option inputs, such as inputs={{{example}: latent}}"
    if unknown := sorted(set(roles) - {each.name for each in parameters}):
        raise InputError(f"option inputs names {unknown[0]!r}, but {who} takes {listed}: correct the name")
    if open_ := [each.name for each in parameters if each.required and each.name not in roles]:
        raise InputError(
            f"{who} takes {listed}, and generators cannot tell what {' and '.join(open_)} should receive "
            f"({', '.join(get_args(Role))}): {way}, or give it a default"
        )
    for role in get_args(Role):
        if len(same := [name for name, other in roles.items() if other == role]) > 1:
            raise InputError(f"{who} would receive {role}s as {' and '.join(same)}: {way}")
    if not roles:
        raise InputError(
            f"{who} takes {listed}, but no latents, labels, sources, prompts or number of samples: name a parameter "
            "with option inputs, or write a plug-in"
        )
    ordered = {each.name: roles[each.name] for each in parameters if each.name in roles}
    return Assignment(ordered, frozenset(role for name, role in ordered.items() if name in required))


def _by_names(parameters: Iterable[Parameter], first: Role, has_latent: bool) -> dict[str, Role]:
    required = [each for each in parameters if each.required]
    roles = {each.name: NAMES.get(each.name) for each in required}
    either = "source" if "latent" in roles.values() else first
    roles |= {name: either for name in EITHER if name in roles}
    unnamed = [name for name, role in roles.items() if role is None]
    if unnamed and unnamed[0] == required[0].name and first == "latent" and "latent" not in roles.values():
        roles[unnamed.pop(0)] = "latent"
    if unnamed and len(required) == 2 and unnamed[0] == required[1].name and "latent" in roles.values():
        roles[unnamed[0]] = "label"
    drawn = {"latent", "source"} & {*roles.values()}  # which say how many samples there are
    for each in parameters:
        role = NAMES.get(each.name)
        useful = role is not None and (has_latent if role == "latent" else role != "count" or not drawn)
        if not each.required and useful and role not in roles.values():
            roles[each.name] = role
    return {name: role for name, role in roles.items() if role is not None}
