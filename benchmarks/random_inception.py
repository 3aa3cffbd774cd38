"""A random state dict of the 2015 Inception's 566 tensors, scaled so that activations neither die nor explode.

It stands in for the published weights where there is no network: agreement and speed do not depend on the values.
"""

from __future__ import annotations

from pathlib import Path

import torch

from evalsvc.extractors.inception_network import Inception


def state_dict(seed: int = 2015) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    state = Inception(("pool3",)).state_dict()
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=random)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=random)
        elif name.endswith("bn.weight"):
            tensor.uniform_(0.8, 1.2, generator=random)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.02 if name.startswith("fc") else 0.1, generator=random)
    return state


def save(path: Path) -> Path:
    torch.save(state_dict(), path)
    return path
