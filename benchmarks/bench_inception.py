"""Inception features of uint8 images, the TF1 resize alone, and decoding of PNG and JPEG."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from race import Contenders
from random_inception import save

IMAGES = 16
FLOP = 11.42e9
"""Of one forward pass at 299 x 299."""


def pictures(n: int, side: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(side)
    coarse = torch.rand(n, 3, side // 8, side // 8, generator=random) * 255
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear").to(torch.uint8)


def contenders() -> Contenders:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from evalsvc.builtin.extractors.inception import InceptionV3

    os.environ["EVALSVC_HOME"] = tempfile.mkdtemp()
    weights = save(Path(tempfile.mkdtemp()) / "random.pth")
    x = pictures(IMAGES, 32)
    own = {name: InceptionV3(weights, backend=name) for name in ("auto", "torch", "openvino", "onnxruntime")}
    peer = FeatureExtractorInceptionV3("peer", ["2048", "logits_unbiased"], str(weights))

    @torch.inference_mode()
    def theirs() -> float:
        return float(peer(x)[0].double().mean())

    def ours(extractor: InceptionV3) -> float:
        return float(extractor.extract(x)["pool3"].double().mean())

    named = {f"evalsvc, {name}": (lambda extractor=extractor: ours(extractor)) for name, extractor in own.items()}
    best = own["auto"].backend.name
    return {f"evalsvc, auto took {best}": named.pop("evalsvc, auto"), **named, "torch-fidelity": theirs}


def resize(side: int = 32) -> Contenders:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    from evalsvc.builtin.extractors.preprocess import tf1_resize

    x = pictures(IMAGES, side)
    return {
        "evalsvc, one bilinear kernel": lambda: float(tf1_resize(x, 299).mean()),
        "torch-fidelity, four gathers": lambda: float(
            interpolate_bilinear_2d_like_tensorflow1x(x.float(), (299, 299), align_corners=False).mean()
        ),
    }


def resize_256() -> Contenders:
    return resize(256)


def decode() -> Contenders:
    """Sixty-four PNGs of 32 x 32 by the decoder in use and by OpenCV."""
    import cv2

    files = []
    for image in pictures(64, 32):
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
        files.append(buffer.getvalue())

    def pillow() -> float:
        return float(np.mean([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).mean() for file in files]))

    def opencv() -> float:
        return float(np.mean([cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR).mean() for file in files]))

    return {"Pillow (torch-fidelity)": pillow, "OpenCV": opencv}
