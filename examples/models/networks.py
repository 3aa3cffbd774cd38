"""Networks in the shapes that people train, tiny: docs/models.md scores a checkpoint of each."""

import torch
from torch import Tensor, nn


class GAN(nn.Sequential):
    """Latents (n, 16, 1, 1) to images (n, 3, 8, 8) in [-1, 1], as DCGAN."""

    def __init__(self) -> None:
        first, second = nn.ConvTranspose2d(16, 8, 4), nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)
        super().__init__(first, nn.BatchNorm2d(8), nn.ReLU(), second, nn.Tanh())


class StyleGAN(nn.Module):
    """Latents to styles, and styles to the scale of each channel of a learned constant."""

    def __init__(self) -> None:
        super().__init__()
        self.z_dim = 16
        self.mapping = nn.Sequential(nn.Linear(16, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16))
        self.constant = nn.Parameter(torch.randn(1, 16, 8, 8))
        self.to_rgb = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0) -> Tensor:
        styles = truncation_psi * self.mapping(z / z.square().mean(1, keepdim=True).sqrt())
        return self.to_rgb(self.constant * (1 + styles[:, :, None, None])).tanh()


class CycleGAN(nn.Module):
    """Images of one domain to images of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return (image + self.layers(image)).tanh()


class VAE(nn.Module):
    """An encoder to mean and logarithm of the variance of a latent, and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 4
        self.encoder, self.decoder = nn.Linear(192, 8), nn.Linear(4, 192)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).sigmoid().view(-1, 3, 8, 8)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(image.flatten(1)).chunk(2, dim=1)
        return self.decode(mean + (log_variance / 2).exp() * torch.randn_like(mean)), mean, log_variance


class Flow(nn.Module):
    """One affine coupling: half of the pixels scale and shift the others."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 192
        self.coupling = nn.Linear(96, 192)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = image.flatten(1).chunk(2, dim=1)
        log_scale, shift = self.coupling(kept).tanh().chunk(2, dim=1)
        return torch.cat([kept, moved * log_scale.exp() + shift], dim=1), log_scale.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        kept, moved = z.chunk(2, dim=1)
        log_scale, shift = self.coupling(kept).tanh().chunk(2, dim=1)
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], dim=1).view(-1, 3, 8, 8)
