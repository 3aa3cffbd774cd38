"""Any importable ``nn.Module`` that maps latent vectors, and class labels, to images, with a file of weights."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Int64

from evalsvc.core.errors import InputError, ModelError
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Condition
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest


class LatentImages:
    """Sampling from a module that maps latents to images; options as in :class:`TorchModule`."""

    def __init__(
        self, network: torch.nn.Module, latent: Sequence[int] | int, output: str, classes: int | None = None
    ) -> None:
        self._latent = (latent,) if isinstance(latent, int) else tuple(latent)
        if output not in ("signed", "unit"):
            raise InputError(f"invalid option output={output!r} of generator 'torch-module': use 'signed' or 'unit'")
        self._network, self._to_images = network, Images.from_signed if output == "signed" else Images.from_unit
        self._labeled, self._classes = _takes_labels(network), classes
        if classes is not None and not self._labeled:
            raise InputError(
                f"option classes={classes} of generator 'torch-module' is for modules that take labels, but "
                f"{type(network).__name__}.forward does not have a second required parameter: remove the option"
            )

    @property
    def conditions(self) -> frozenset[Condition]:
        """The conditions that the module takes, and needs, besides latents."""
        return frozenset({"label"}) if self._labeled else frozenset()

    @torch.inference_mode()
    def sample(self, request: SampleRequest) -> Images:
        """One image per latent, and label if the module takes labels."""
        latents = request.normal(*self._latent)
        images = self._network(latents, self._checked(request.labels)) if self._labeled else self._network(latents)
        if not isinstance(images, torch.Tensor) or images.ndim != 4:
            got = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
            raise ModelError(f"the module returned {got}, expected a tensor (n, c, h, w)")
        return self._to_images(images)

    def _checked(self, labels: Int64[torch.Tensor, " n"] | None) -> Int64[torch.Tensor, " n"]:
        """The labels, within the classes: an index out of range would end every later use of a GPU by the process."""
        name = type(self._network).__name__
        if labels is None:
            raise InputError(f"{name}.forward takes labels: add 'items: {{labels: {{classes: N}}}}' to the suite")
        if int(labels.min()) < 0:
            raise InputError(f"{name}.forward takes labels, but some items do not have one: add the labels")
        if self._classes is not None and int(labels.max()) >= self._classes:
            raise InputError(
                f"the label {int(labels.max())} is not a class of {name}, which has 0 to {self._classes - 1} "
                f"(option classes={self._classes}): change the suite's items or the option"
            )
        return labels


@versioned("0.1.0")
@open_to_clients("module", "latent", "output", "arguments", "state", "classes")
class TorchModule:
    """``module="my_package.models:Generator"`` is built with ``arguments`` and loaded from the checkpoint.

    ``latent`` is the shape of one latent (``100``, ``[128, 1, 1]``), drawn standard normal. ``output`` is the range of
    the returned images: ``signed`` for [-1, 1], ``unit`` for [0, 1]. If the checkpoint contains several state dicts,
    ``state`` selects one by its dotted path (``ema``, ``state_dict.generator``).

    A module whose ``forward`` has a second required positional parameter, ``forward(z, y)``, is called with the labels
    of the suite's items too, int64 of shape (n,) on the device. ``classes`` is their number: labels beyond are refused.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        module: str,
        latent: list[int] | int,
        output: Literal["signed", "unit"] = "signed",
        arguments: dict[str, object] | None = None,
        state: str = "",
        classes: int | None = None,
    ) -> None:
        network = _import_module(module)(**(arguments or {}))
        self._latents = LatentImages(network, latent, output, classes)
        weights = load_into(network, checkpoint, state)
        network.to(device).eval()
        # A module without labels ignores them.
        first_class = torch.zeros(2, dtype=torch.int64, device=device)
        probe = self.sample(replace(SampleRequest.of(0, 0, 2, device), labels=first_class))
        family, conditions = module.rpartition(":")[2].lower(), self._latents.conditions
        shape = tuple(probe.pixels.shape[1:])
        self.info = GeneratorInfo(family, "image", shape, weights, conditions, conditions)

    def sample(self, request: SampleRequest) -> Images:
        """One image per latent, and label if the module takes labels."""
        return self._latents.sample(request)


def _takes_labels(network: torch.nn.Module) -> bool:
    """Whether ``forward`` has two required positional parameters; more than two are refused."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):  # compiled from TorchScript
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [each.name for each in parameters if each.kind in positional and each.default is each.empty]
    if len(required) > 2:
        raise InputError(
            f"{type(network).__name__}.forward requires {', '.join(required)}, but generator 'torch-module' gives "
            "latents and labels: give the others a default, or write a plug-in"
        )
    return len(required) == 2


def _import_module(target: str) -> type[torch.nn.Module]:
    package, _, name = target.partition(":")
    try:
        loaded = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"option module={target!r} cannot be imported as package.module:Class ({error}): install the "
            "package, or add its folder to PYTHONPATH"
        ) from None
    if not (isinstance(loaded, type) and issubclass(loaded, torch.nn.Module)):
        raise InputError(f"option module={target!r} is not a torch.nn.Module class")
    return loaded
