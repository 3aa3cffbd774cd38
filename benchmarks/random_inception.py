"""Random tensors for the names and shapes of the published Inception; agreement and speed do not depend on them."""

from pathlib import Path

import torch

from evalsvc.builtin.extractors.inception_network import Inception


def random_state(seed: int = 2015) -> dict[str, torch.Tensor]:
    """Scaled so that activations neither die nor explode."""
    random = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        empty = Inception(("pool3",))
    state = empty.to_empty(device="cpu").state_dict()
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=random)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=random)
        elif name.endswith("bn.weight"):
            tensor.uniform_(0.8, 1.2, generator=random)
        elif not tensor.is_floating_point():
            tensor.zero_()
        else:
            tensor.normal_(std=0.02 if name.startswith("fc") else 0.1, generator=random)
    return state


def save(path: Path, seed: int = 2015) -> Path:
    """Write them where weights are read from."""
    torch.save(random_state(seed), path)
    return path
