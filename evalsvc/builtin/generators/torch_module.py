"""Any importable ``nn.Module`` that maps latent vectors to images, with a file of weights."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Literal

import torch

from evalsvc.core.errors import InputError, ModelError
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest


class LatentImages:
    """Sampling from a module that maps latents to images; options as in :class:`TorchModule`."""

    def __init__(self, network: torch.nn.Module, latent: Sequence[int] | int, output: str) -> None:
        self._latent = (latent,) if isinstance(latent, int) else tuple(latent)
        if output not in ("signed", "unit"):
            raise InputError(f"invalid option output={output!r} of generator 'torch-module': use 'signed' or 'unit'")
        self._network, self._to_images = network, Images.from_signed if output == "signed" else Images.from_unit

    @torch.inference_mode()
    def sample(self, request: SampleRequest) -> Images:
        """One image per latent."""
        images = self._network(request.normal(*self._latent))
        if not isinstance(images, torch.Tensor) or images.ndim != 4:
            got = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
            raise ModelError(f"the module returned {got}, expected a tensor (n, c, h, w)")
        return self._to_images(images)


@versioned("0.1.0")
@open_to_clients("module", "latent", "output", "arguments", "state")
class TorchModule:
    """``module="my_package.models:Generator"`` is built with ``arguments`` and loaded from the checkpoint.

    ``latent`` is the shape of one latent (``100``, ``[128, 1, 1]``), drawn standard normal. ``output`` is the range of
    the returned images: ``signed`` for [-1, 1], ``unit`` for [0, 1]. If the checkpoint contains several state dicts,
    ``state`` selects one by its dotted path (``ema``, ``state_dict.generator``).
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
    ) -> None:
        network = _import_module(module)(**(arguments or {}))
        self._latents = LatentImages(network, latent, output)
        weights = load_into(network, checkpoint, state)
        network.to(device).eval()
        probe = self.sample(SampleRequest.of(0, 0, 2, device))
        self.info = GeneratorInfo(module.rpartition(":")[2].lower(), "image", tuple(probe.pixels.shape[1:]), weights)

    def sample(self, request: SampleRequest) -> Images:
        """One image per latent."""
        return self._latents.sample(request)


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
