"""Shared parts of the families: an MLP, a likelihood over gray levels, and the loading of weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from evalsvc.builtin.demo.digits import CLASSES, LEVELS, signed
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.plugins.rng import with_float64
from evalsvc.plugins.samples import SampleRequest

M = TypeVar("M", bound=nn.Module)


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.SiLU, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of these sizes, with activation and dropout between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers[: -2 if dropout else -1])


def loaded(model: M, checkpoint: Checkpoint, device: torch.device) -> M:
    """The model with the checkpoint's weights, for evaluation, on the device or on the CPU if that lacks float64."""
    load_into(model, checkpoint)
    return model.to(with_float64(device)).eval().requires_grad_(False)


def one_hot_labels(request: SampleRequest) -> Float[Tensor, "n 10"]:
    """The labels of a request as ones and zeros.

    Raises:
        InputError: the request has no labels, or one that is not 0 to 9.
    """
    if request.labels is None:
        raise InputError(f"this model needs class labels: add 'items: {{labels: {{classes: {CLASSES}}}}}' to the suite")
    known = (request.labels >= 0) & (request.labels < CLASSES)
    if not bool(known.all()):
        wrong = int(request.labels[~known][0])
        raise InputError(
            f"the digits models know the classes 0 to {CLASSES - 1}, not {wrong}: change the suite's items"
        )
    return F.one_hot(request.labels, CLASSES).float()


def log_prob_of_levels(
    levels: Int64[Tensor, "n 64"], mean: Float[Tensor, "n 64"], log_scale: Float[Tensor, " 64"]
) -> Float[Tensor, "n 64"]:
    """Log-probability of each pixel's level under a logistic distribution around ``mean``, discretized to 17 levels.

    A level covers the interval nearest to it; the first and last level also cover the tails (Salimans et al.,
    "PixelCNN++", 2017), so that the 17 probabilities sum to 1.
    """
    split = 1 / (LEVELS - 1)
    centred, rate = signed(levels) - mean, torch.exp(-log_scale)
    above, below = (centred + split) * rate, (centred - split) * rate
    # log(sigmoid(above) - sigmoid(below)), without the cancellation of two numbers close to 1.
    inner = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-2 * split * rate))
    edges = torch.where(levels == 0, F.logsigmoid(above), F.logsigmoid(-below))
    return torch.where((levels == 0) | (levels == LEVELS - 1), edges, inner)
