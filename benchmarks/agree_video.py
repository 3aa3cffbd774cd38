"""Our FVD features beside cd-fvd's, on one I3D with random weights: docs/explanations/protocols.md.

Run it where cd-fvd is installed (``pip install --no-deps cd-fvd``). The weights of the published I3D are not needed:
both sides have the same random ones, ours as a TorchScript file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d
from cdfvd.third_party.i3d.utils import preprocess_i3d

from evalsvc.builtin.extractors.video import ScriptedVideo
from evalsvc.metrics.frechet import frechet_distance
from evalsvc.plugins.samples import Videos

SIZES = ((64, 64), (224, 224), (240, 320))
CLIPS, FRAMES, WIDTH = 6, 16, 400
ROWS = 500


def clips(n: int, height: int, width: int) -> torch.Tensor:
    """Smooth videos (n, t, c, h, w) that move."""
    random = torch.Generator().manual_seed(height + width)
    coarse = torch.rand(n, 3, FRAMES // 4, height // 8, width // 8, generator=random) * 255
    smooth = torch.nn.functional.interpolate(coarse, (FRAMES, height, width), mode="trilinear")
    return smooth.to(torch.uint8).transpose(1, 2).contiguous()


def random_network() -> torch.nn.Module:
    """I3D with random weights, and the statistics of some clips in its normalizations, so that features vary."""
    torch.manual_seed(0)
    network = InceptionI3d(WIDTH, in_channels=3)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.momentum = 1.0
    with torch.inference_mode():
        network.train()(preprocess_i3d(clips(4, 96, 96).permute(0, 1, 3, 4, 2).numpy()))
    return network.eval()


def features(folder: Path) -> None:
    network = random_network()
    example = torch.zeros(1, 3, FRAMES, 224, 224)
    with torch.inference_mode():
        torch.jit.trace(network, example).save(str(folder / "i3d.pt"))
    ours = ScriptedVideo(torch.device("cpu"), path=str(folder / "i3d.pt"), width=WIDTH)
    print("| size of the clips | largest difference of a feature, of its spread over clips |\n|---|---|")
    for height, width in SIZES:
        videos = clips(CLIPS, height, width)
        with torch.inference_mode():
            theirs = network(preprocess_i3d(videos.permute(0, 1, 3, 4, 2).numpy()))
        difference = (ours.extract(Videos(videos))["features"] - theirs).abs().amax(0) / theirs.std(0)
        print(f"| {width} x {height} | {float(difference.max()):.1e} |")


def distances() -> None:
    """The formula of StyleGAN-V and cd-fvd (ddof 0), and that of TATS (ddof 1), on the same features."""
    random = np.random.default_rng(0)
    real, fake = random.normal(size=(ROWS, 32)), random.normal(0.1, 1.2, size=(ROWS, 32))
    print(f"\nours {frechet_distance(fake, real).value:.6f}", end="")
    for ddof in (1, 0):
        a, b = (np.cov(each, rowvar=False, ddof=ddof) for each in (fake, real))
        mean = ((fake.mean(0) - real.mean(0)) ** 2).sum()
        print(f", ddof {ddof}: {mean + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real):.6f}", end="")
    print(f" ({ROWS} rows)")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        features(Path(folder))
    distances()
