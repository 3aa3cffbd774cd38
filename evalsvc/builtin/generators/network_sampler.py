"""Sampling from a network: its arguments by role, and each sample dependent only on its seed and conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import torch
from jaxtyping import Int64

from evalsvc.builtin.generators.call_options import CallOptions
from evalsvc.builtin.generators.network_output import samples_of
from evalsvc.builtin.generators.parameters import Assignment, Role
from evalsvc.builtin.global_generators import seeded
from evalsvc.core.errors import EvalsvcError, InputError, ModelError, first_line
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Condition
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Samples, Videos, concatenate
from evalsvc.plugins.validation import TYPES


class NetworkSampler:
    """Samples of a function that is called with ``assigned`` arguments; ``who`` names it in errors.

    A call that uses random numbers of torch or NumPy is made for one sample at a time, under its seed.
    ``one_hot`` is the width of labels that are vectors; ``singly`` is for functions that take one sample at a time.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        assigned: Assignment,
        options: CallOptions,
        who: str,
        *,
        one_hot: int | None = None,
        singly: bool = False,
    ) -> None:
        self._function, self._assigned, self._options, self._who = function, assigned, options, who
        self._one_hot = one_hot
        roles = set(assigned.roles.values())
        self._singly = singly or not roles & {"latent", "source", "prompt"}
        unconditional: set[Role] = {"label"} if one_hot == 0 else set()
        self.takes = frozenset(each for each in get_args(Condition) if each in roles - unconditional)
        self.needs = frozenset(each for each in self.takes if each in assigned.needed)
        if options.classes is not None and "label" not in self.takes:
            raise InputError(
                f"option classes={options.classes} is for modules that take labels, but {who} has no parameter for "
                "them: remove the option"
            )

    def info(self, family: str, weights: str, device: torch.device) -> GeneratorInfo:
        """Facts about the generator, from a trial of two samples; of one, if each is drawn alone.

        Functions of sources are not tried, since the size of their sources is unknown.
        """
        shape: tuple[int, ...] = ()
        modality = self._options.modality or ("audio" if self._options.rate else "image")
        if "source" not in self.needs:
            n = 1 if self._singly else 2
            first = replace(
                SampleRequest.of(0, 0, n, device, ("A cat.", "A dog.")[:n]),
                labels=torch.zeros(n, dtype=torch.int64, device=device),
            )
            probe = self.sample(first)
            modality = next(each for each, types in TYPES.items() if isinstance(probe, types))
            shape = tuple(probe.pixels.shape[1:]) if isinstance(probe, Images | Videos) else ()
        return GeneratorInfo(family, modality, shape, weights, self.takes, self.needs)

    @torch.inference_mode()
    def sample(self, request: SampleRequest) -> Samples:
        """One sample per seed.

        Raises:
            InputError: a condition is missing or invalid.
            ModelError: the function failed, or returned another shape.
        """
        if len(request) > 1 and (self._singly or _differ(request.sources)):
            return concatenate([self.sample(request.take([i])) for i in range(len(request))])
        with seeded(int(request.seeds[0]), request.device) as is_used:
            samples = self._call(request)
            if len(request) == 1 or not is_used():
                return samples
        self._singly = True
        return self.sample(request)

    def _call(self, request: SampleRequest) -> Samples:
        values = {name: self._value(role, request) for name, role in self._assigned.roles.items()}
        given = {name: value for name, value in values.items() if value is not None}
        try:
            output = self._function(*given.values()) if self._assigned.positional else self._function(**given)
        except EvalsvcError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{self._assigned.roles[name]} {name} {_shown(value)}" for name, value in given.items())
            raise ModelError(f"{self._who} failed on {shapes}: {type(error).__name__}: {first_line(error)}") from error
        return samples_of(output, self._options, self._who)

    def _value(self, role: Role, request: SampleRequest) -> Any:
        """The argument of a role; ``None`` for a condition that the suite does not give and the function can lack."""
        if role == "latent":
            assert self._options.latent
            return request.normal(*self._options.latent)
        if role == "count":
            return len(request)
        if role == "label" and self._one_hot == 0:
            return torch.zeros(len(request), 0, device=request.device)
        value = {"label": request.labels, "prompt": list(request.prompts) or None, "source": request.sources}[role]
        if value is None and role not in self.needs:
            return None
        if role == "label":
            labels = self._checked(request.labels)
            return torch.nn.functional.one_hot(labels, self._one_hot).float() if self._one_hot else labels
        if value is None:
            raise InputError(f"{self._who} takes {role}s: add 'items: {{file: FILE, {role}: COLUMN}}' to the suite")
        return value if role == "prompt" else self._source(request)

    def _source(self, request: SampleRequest) -> Any:
        sources = request.sources
        assert sources is not None
        if isinstance(sources, MixedImages):  # of one row
            sources = Images(torch.stack(sources.items))
        if isinstance(sources, Images | Videos):
            signed = (self._options.source or self._options.output) == "signed"
            pixels = sources.pixels.to(request.device).float()
            return pixels / 127.5 - 1 if signed else pixels / 255
        if isinstance(sources, Audio):
            return torch.stack(sources.waves).to(request.device)
        return list(sources.items)

    def _checked(self, labels: Int64[torch.Tensor, " n"] | None) -> Int64[torch.Tensor, " n"]:
        """The labels, within the classes: an index out of range would end every later use of a GPU by the process."""
        if labels is None:
            raise InputError(f"{self._who} takes labels: add 'items: {{labels: {{classes: N}}}}' to the suite")
        lowest, highest = torch.stack(labels.aminmax()).tolist()
        if lowest < 0:
            raise InputError(f"{self._who} takes labels, but some items do not have one: add the labels")
        classes = self._options.classes or self._one_hot
        if classes is not None and highest >= classes:
            raise InputError(
                f"the label {highest} is not a class of {self._who}, which has 0 to {classes - 1}: change "
                "the suite's items, or option classes"
            )
        return labels


def _differ(sources: Samples | None) -> bool:
    """Whether sources differ in size or length, so that no tensor holds them all."""
    if isinstance(sources, Audio):
        return len({len(wave) for wave in sources.waves}) > 1
    return isinstance(sources, MixedImages)


def _shown(value: Any) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)[:80]
