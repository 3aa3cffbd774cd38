"""Digits as Gaussian mixtures of their principal components: a whole generator plug-in on one page."""

import torch

from evalsvc import Checkpoint, GeneratorInfo, Images, SampleRequest, open_to_clients


@open_to_clients()
class Eigendigits:
    """x = mean + components z, z standard normal. The checkpoint holds ``mean`` (64) and ``components`` (64, k)."""

    info = GeneratorInfo("pca", "image", (1, 8, 8))

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        tensors = checkpoint.tensors()
        self.mean, self.components = tensors["mean"].to(device), tensors["components"].to(device)

    def sample(self, request: SampleRequest) -> Images:
        """One image a seed; all randomness comes from the request, so no sample depends on its batch."""
        latent = request.normal(self.components.shape[1])
        return Images.from_unit((self.mean + latent @ self.components.T).view(-1, 1, 8, 8))
