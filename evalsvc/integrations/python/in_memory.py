"""Generators that exist in this process only: a module, or a callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from evalsvc.builtin.generators.call_options import CallOptions
from evalsvc.builtin.generators.options import options_of
from evalsvc.builtin.generators.torch_module import module_sampler
from evalsvc.core.digests import digest_json
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Generator, GeneratorInfo, Modality
from evalsvc.plugins.items import Condition
from evalsvc.plugins.registry import Plugin, PluginKind
from evalsvc.plugins.samples import SampleRequest, Samples

ANEW = "callables cannot be recognized by their content, so they are scored again each time"

SampleFunction = Callable[[SampleRequest], Samples]


class _Sampler:
    def __init__(
        self,
        family: str,
        modality: Modality,
        sample: SampleFunction,
        weights: str = "",
        takes: frozenset[Condition] | None = None,
        needs: frozenset[Condition] = frozenset(),
    ) -> None:
        self.info = GeneratorInfo(family, modality, weights=weights, takes=takes, needs=needs)
        self._sample = sample

    def sample(self, request: SampleRequest) -> Samples:
        return self._sample(request)


def callable_plugin(function: SampleFunction, family: str, modality: Modality) -> Plugin:
    """The generator ``callable`` of this process."""

    def factory(checkpoint: Checkpoint, device: torch.device) -> Generator:
        return _Sampler(family, modality, function, ANEW)

    return Plugin(PluginKind.GENERATOR, "callable", qualified(function), "0", lambda: factory)


def module_plugin(module: torch.nn.Module, family: str, modality: Modality) -> Plugin:
    """The generator ``module`` of this process.

    A module with a method ``sample(request)`` samples itself, unless options are given. Any other is called as by
    generator ``torch-module``, with the same options.
    """
    own = getattr(module, "sample", None)

    def factory(checkpoint: Checkpoint, device: torch.device, *, call: str = "", **options: Any) -> Generator:
        if callable(own) and not call and not options:
            return _Sampler(family, modality, _in_eval_mode(module, cast(SampleFunction, own)))
        sampler = module_sampler(
            module, options_of(CallOptions, {"modality": modality, **options}, "generator 'module'"), call
        )
        sample = _in_eval_mode(module, sampler.sample)
        return _Sampler(family, modality, sample, takes=sampler.takes, needs=sampler.needs)

    return Plugin(PluginKind.GENERATOR, "module", qualified(type(module)), _code(module), lambda: factory)


def qualified(target: Any) -> str:
    """The name of a function or class, with its module."""
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return f"{getattr(target, '__module__', None) or '__main__'}.{name}"


def _in_eval_mode(module: torch.nn.Module, sample: SampleFunction) -> SampleFunction:
    def sampled(request: SampleRequest) -> Samples:
        with _evaluating(module):
            return sample(request)

    return sampled


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into eval mode; afterwards every part is in its former mode, since training may go on."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _code(module: torch.nn.Module) -> str:
    """Digest of everything besides tensors that the output depends on: class sources, structure, plain attributes."""
    sources, attributes = {}, {}
    for name, part in module.named_modules():
        kind = type(part)
        if not kind.__module__.startswith("torch."):
            sources[qualified(kind)] = _source(kind)
        attributes[name] = {
            key: value
            for key, value in sorted(vars(part).items())
            if not key.startswith("_") and key != "training" and isinstance(value, bool | int | float | str)
        }
    return digest_json([repr(module), sources, {name: repr(values) for name, values in attributes.items()}])[:12]


def _source(kind: type) -> str:
    with suppress(OSError, TypeError):  # typed into an interpreter that keeps no text
        return inspect.getsource(kind)
    return repr({name: value.__code__.co_code.hex() for name, value in vars(kind).items() if inspect.isfunction(value)})
