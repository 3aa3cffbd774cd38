"""Our Inception features beside the peers' own networks, on one random state dict: docs/explanations/protocols.md.

Run it where torch-fidelity, pytorch-fid, clean-fid and torchmetrics are installed (the environment of ``make bench``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_fid.inception
import torch
from cleanfid.resize import build_resizer
from random_inception import save
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import NoTrainInceptionV3

from evalsvc.builtin.extractors.inception import InceptionV3
from evalsvc.builtin.extractors.preprocess import INCEPTION

SIZES = ((32, 32), (299, 299), (240, 320))
BATCHES = (1, 5, 64)


def images(n: int, height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(height + width)
    coarse = torch.rand(n, 3, max(1, height // 8), max(1, width // 8), generator=random) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth + 8 * torch.randn(smooth.shape, generator=random)).clamp(0, 255).to(torch.uint8)


def peers(weights: Path) -> dict[str, tuple[str, Callable[[torch.Tensor], tuple[torch.Tensor, ...]]]]:
    """Preprocessing: the peer's name, and its (pool3, logits) of uint8 images."""
    fidelity = FeatureExtractorInceptionV3("ours", ["2048", "logits_unbiased"], str(weights))
    metrics = NoTrainInceptionV3("ours", ["2048", "logits_unbiased"], str(weights)).eval()
    pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights, weights_only=True)
    ported = pytorch_fid.inception.InceptionV3([3]).eval()
    resize = build_resizer("clean")

    def clean(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # clean-fid's network is a TorchScript file of the same graph; its pixels go through torch-fidelity's layers.
        resized = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in x]).transpose(0, 3, 1, 2)
        return _headless(fidelity, (torch.from_numpy(resized) - 128) / 128)

    return {
        "tf1": ("torch-fidelity", fidelity),
        "pytorch-fid": ("pytorch-fid", lambda x: (ported(x.float() / 255)[0].flatten(1),)),
        "clean": ("clean-fid resize + torch-fidelity", clean),
        "torchmetrics": ("torchmetrics", lambda x: metrics._torch_fidelity_forward(x)),
    }


def _headless(network: FeatureExtractorInceptionV3, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The peer's layers without its resize."""
    skipped = {"feature_extractor_internal_dtype", "fc", "AvgPool"}
    for name, layer in network.named_children():
        x = x if name in skipped else layer(x)
    pool = network.AvgPool(x).flatten(1)
    return pool, pool.mm(network.fc.weight.T)


@torch.inference_mode()
def main() -> None:
    weights = save(Path(tempfile.mkdtemp()) / "random.pth")
    print("| preprocessing | peer | images | batches | pool3 | logits |")
    print("|---|---|---|---|---|---|")
    for preprocess, (who, peer) in peers(weights).items():
        ours = InceptionV3(weights, preprocess)
        for height, width in SIZES:
            worst = {"pool3": 0.0, "logits": 0.0}
            for n in BATCHES:
                x = images(n, height, width)
                found = ours.extract(x)
                for name, theirs in zip(("pool3", "logits"), peer(x), strict=False):
                    worst[name] = max(worst[name], float((found[name] - theirs).abs().max() / theirs.abs().max()))
            logits = f"{worst['logits']:.1e}" if worst["logits"] else "-"
            used = ", ".join(map(str, BATCHES))
            print(
                f"| `{preprocess}` | {who} | {width} x {height} | {used} | {worst['pool3']:.1e} | {logits} |",
                flush=True,
            )
    assert set(INCEPTION) == set(peers(weights))


if __name__ == "__main__":
    main()
