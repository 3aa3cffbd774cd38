"""Any ``nn.Module`` with a file of weights: of an installed package, or of a Python file."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from evalsvc.builtin.generators.call_options import OPTIONS, CallOptions
from evalsvc.builtin.generators.module_targets import Target, is_module, replaced, targets_of
from evalsvc.builtin.generators.network_output import CHANNELS
from evalsvc.builtin.generators.network_sampler import NetworkSampler
from evalsvc.builtin.generators.options import options_of
from evalsvc.builtin.generators.parameters import Assignment, Role, assign, parameters_of
from evalsvc.builtin.generators.source_files import SourceTree
from evalsvc.core.digests import CONTENTS, digest_json
from evalsvc.core.errors import EvalsvcError, InputError, first_line
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest, Samples

WHO = "generator 'torch-module'"
LATENTS = ("z_dim", "latent_dim", "nz", "latent_size", "latent_shape")
"""Attributes of a module that are the shape of its latents, by priority."""


def module_sampler(network: torch.nn.Module, asked: CallOptions, call: str = "") -> NetworkSampler:
    """A sampler that calls ``forward`` of a module, or its method ``call``.

    Raises:
        InputError: there is no such method, or its parameters receive nothing.
    """
    name = type(network).__name__
    method: Any = getattr(network, call or "forward", None)
    if not callable(method):
        raise InputError(f"option call={call!r} is not a method of {name}: name one of its methods")
    who = f"{name}.{call or 'forward'}"
    options = asked if asked.latent else asked.model_copy(update={"latent": _latent_of(network)})
    parameters = parameters_of(method)
    if parameters is None:
        assigned = Assignment({"z": "latent"}, frozenset({"latent"}), positional=True)
    else:
        of_images = asked.latent is None and not call and _takes_images(network)
        first: Role = "source" if of_images else "latent"
        assigned = assign(parameters, first, options.latent is not None, who, options.inputs)
    if options.latent is None and (taken := assigned.parameter.get("latent")):
        raise InputError(
            f"{who} takes latents, whose shape {name} does not name ({', '.join(LATENTS)}): give it as option latent, "
            f"such as latent=100 or latent=[100,1,1], or say with option inputs what else {taken} is"
        )
    if asked.latent is not None and "latent" not in assigned.roles.values():
        raise InputError(
            f"option latent is for networks that take latents, but {who} does not receive any: omit it, or say with "
            "option inputs which parameter is latents"
        )
    # StyleGAN's labels are one-hot vectors of c_dim numbers, of none if it takes no labels.
    width = getattr(network, "c_dim", None)
    one_hot = width if isinstance(width, int) and assigned.parameter.get("label") == "c" else None
    return NetworkSampler(network if not call else method, assigned, options, who, one_hot=one_hot)


@versioned("0.1.0")
@open_to_clients("module", "arguments", "state", *OPTIONS)
class TorchModule:
    """A class, ``my_package.models:Generator`` or ``models.py:Generator``, built with ``arguments``.

    An argument ``{"module": ..., "arguments": {...}}`` is a module too. If the checkpoint contains several state dicts,
    ``state`` selects one by its dotted path (``ema``, ``state_dict.generator``). ``call`` names a method in place of
    ``forward``. The other options are those of :class:`~evalsvc.builtin.generators.call_options.CallOptions`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        module: str,
        arguments: dict[str, object] | None = None,
        state: str = "",
        call: str = "",
        **options: Any,
    ) -> None:
        asked = options_of(CallOptions, options, WHO)
        network = _built(Target.of(module), arguments)
        self._sampler = module_sampler(network, asked, call)
        weights = load_into(network, checkpoint, state)
        network.to(device).eval()
        self.info = self._sampler.info(Target.of(module).name.lower(), weights, device)

    @staticmethod
    def pin(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with absolute paths of Python files, and digests of these files and their imports."""
        pinned, contents = dict(options), dict[str, str]()
        for name in ("module", "arguments"):
            given = {"module": options.get(name)} if name == "module" else options.get(name)
            if any(target.is_file for target in targets_of(given)):
                there = replaced(given, Target.absolute)
                pinned[name] = there["module"] if name == "module" else there
                contents[name] = digest_json(replaced(given, _content))
        return pinned | ({CONTENTS: contents} if contents else {})

    def sample(self, request: SampleRequest) -> Samples:
        """One sample per seed."""
        return self._sampler.sample(request)


def _takes_images(network: torch.nn.Module) -> bool:
    """Whether the first layer with weights is a convolution of images."""
    layers = (layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None)
    first = next(layers, None)
    return isinstance(first, torch.nn.Conv2d) and first.in_channels in CHANNELS


def _latent_of(network: torch.nn.Module) -> tuple[int, ...] | None:
    for name in LATENTS:
        value = getattr(network, name, None)
        shape = tuple(value) if isinstance(value, tuple | list) else (value,)
        if shape and all(isinstance(each, int) and each > 0 for each in shape):
            return shape
    return None


def _content(target: Target) -> str:
    """Text that identifies a class: by the content of its files, or by its name in an installed package."""
    return f"{SourceTree.read(Path(target.place)).digest}:{target.name}" if target.is_file else str(target)


def _built(target: Target, arguments: Mapping[str, Any] | None) -> torch.nn.Module:
    kind = _imported(target)
    given = {name: _resolved(value) for name, value in (arguments or {}).items()}
    try:
        return kind(**given)
    except EvalsvcError:
        raise
    except Exception as error:
        raise InputError(
            f"{target} cannot be built with these arguments ({type(error).__name__}: {first_line(error)}): correct "
            "option arguments"
        ) from error


def _resolved(value: Any) -> Any:
    if is_module(value):
        return _built(Target.of(value["module"]), value.get("arguments"))
    if isinstance(value, Mapping):
        return {key: _resolved(inner) for key, inner in value.items()}
    return [_resolved(inner) for inner in value] if isinstance(value, list | tuple) else value


def _module(target: Target) -> ModuleType:
    return SourceTree.read(Path(target.place)).load() if target.is_file else importlib.import_module(target.place)


def _imported(target: Target) -> Callable[..., torch.nn.Module]:
    form, way = "package.module:Class", "install the package, or add its folder to PYTHONPATH"
    if target.is_file:
        form, way = "FILE.py:Class", "correct the file, or add what it imports"
    try:
        loaded = getattr(_module(target), target.name)
    except EvalsvcError:
        raise
    except Exception as error:
        raise InputError(
            f"option module={str(target)!r} cannot be imported as {form} ({first_line(error)}): {way}"
        ) from None
    if not (isinstance(loaded, type) and issubclass(loaded, torch.nn.Module)):
        raise InputError(f"option module={str(target)!r} is not a torch.nn.Module class")
    return loaded
