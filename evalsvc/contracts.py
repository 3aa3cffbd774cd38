"""What plug-ins promised, checked at the border: nothing malformed gets past these two calls."""

from __future__ import annotations

import numpy as np
import torch

from evalsvc.errors import ModelError
from evalsvc.plugins import Extractor, Generator
from evalsvc.samples import Images, SampleRequest, Samples, Texts


def sample(generator: Generator, request: SampleRequest) -> Samples:
    """The generator's samples for a request; a wrong count, type, shape or dtype is an error that names it."""
    who = f"generator {generator.info.family!r}"
    with torch.inference_mode():
        samples = generator.sample(request)
    expected = {"image": Images, "text": Texts}[generator.info.modality]
    if not isinstance(samples, expected):
        raise ModelError(
            f"{who} returned {type(samples).__name__}; a generator of modality {generator.info.modality!r} returns "
            f"evalsvc.samples.{expected.__name__}"
        )
    if isinstance(samples, Images):
        pixels, shape = samples.pixels, generator.info.sample_shape
        if pixels.dtype != torch.uint8:
            raise ModelError(
                f"{who} made images of dtype {pixels.dtype}: build them with Images.from_signed or from_unit"
            )
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or (shape and tuple(pixels.shape[1:]) != tuple(shape)):
            wanted = f"(n, {', '.join(map(str, shape))})" if shape else "(n, 1 or 3, height, width)"
            raise ModelError(f"{who} made images of shape {tuple(pixels.shape)} where {wanted} is due")
    elif not all(isinstance(item, str) for item in samples.items):
        raise ModelError(f"{who} made documents that are not str")
    if len(samples) != len(request):
        raise ModelError(f"{who} made {len(samples)} samples where {len(request)} were asked for")
    return samples


def extract(extractor: Extractor, samples: Samples) -> dict[str, np.ndarray]:
    """The extractor's float32 arrays on the CPU; a missing output, a wrong shape or NaN is an error that names it."""
    who = f"extractor {extractor.info.name!r}"
    with torch.inference_mode():
        arrays = extractor.extract(samples)
    checked = {}
    for output, dimension in extractor.info.outputs.items():
        if output not in arrays:
            raise ModelError(f"{who} promised the output {output!r} and did not return it")
        array = arrays[output]
        if array.ndim != 2 or len(array) != len(samples) or (dimension and array.shape[1] != dimension):
            raise ModelError(f"{who} returned {output!r} of shape {tuple(array.shape)} for {len(samples)} samples")
        if not bool(torch.isfinite(array).all()):
            raise ModelError(f"{who} returned NaN or infinite values in {output!r}")
        checked[output] = array.float().cpu().numpy()
    return checked
