"""Validation of plug-in outputs: malformed outputs raise a ModelError that names the plug-in."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from evalsvc.core.errors import EvalsvcError, ModelError, first_line
from evalsvc.metrics.devices import staged
from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.deferred_checks import refuse
from evalsvc.plugins.interfaces import (
    EmbedsTexts,
    Extractor,
    Generator,
    Likelihood,
    Modality,
    NegativeLogLikelihood,
)
from evalsvc.plugins.items import Drawn
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Samples, Texts, Videos

if TYPE_CHECKING:
    from torch import Tensor

TYPES: dict[Modality, tuple[type[Samples], ...]] = {
    "image": (Images, MixedImages),
    "text": (Texts,),
    "audio": (Audio,),
    "video": (Videos,),
}
"""Types of the samples of each modality, the usual type first."""


def sample(generator: Generator, request: SampleRequest) -> Drawn:
    """Return the generator's samples for a request, with failures and costs if it reports them.

    Raises:
        ModelError: the number, type, shape or dtype of the samples is wrong, or a failure is that of no sample.
    """
    who = f"generator {generator.info.family!r}"
    with _named(who), _computing(request.device):
        made = generator.sample(request)
    drawn = made if isinstance(made, Drawn) else Drawn(made)
    samples = drawn.samples
    expected = TYPES[generator.info.modality]
    if not isinstance(samples, expected):
        raise ModelError(
            f"{who} returned {type(samples).__name__}: a generator of modality {generator.info.modality!r} "
            f"must return evalsvc.plugins.samples.{expected[0].__name__}"
        )
    if len(samples) != len(request):
        raise ModelError(f"{who} returned {len(samples)} samples, expected {len(request)}")
    for each in [images for _, images in samples.by_size()] if isinstance(samples, MixedImages) else [samples]:
        _check(generator, each, who)
    if outside := sorted(set(drawn.failures) - set(range(len(request)))):
        raise ModelError(f"{who} reported the failure of sample {outside[0]} of {len(request)}")
    if drawn.usage and any(len(column) != len(request) for column in vars(drawn.usage).values()):
        raise ModelError(f"{who} reported usage of another number of samples than {len(request)}")
    return drawn


def _check(generator: Generator, samples: Samples, who: str) -> None:
    """Raise if the type, shape or dtype is wrong."""
    if isinstance(samples, Images | Videos):
        pixels, shape = samples.pixels, generator.info.sample_shape
        kind, axes = ("images", 4) if isinstance(samples, Images) else ("videos", 5)
        if pixels.dtype != torch.uint8:
            raise ModelError(
                f"{who} returned {kind} of dtype {pixels.dtype}: build them with Images.from_signed or from_unit"
            )
        fits = not shape or tuple(pixels.shape[1:]) == tuple(shape)
        if pixels.ndim != axes or pixels.shape[-3] not in (1, 3) or not fits:
            frames = "" if axes == 4 else "frames, "
            wanted = f"(n, {', '.join(map(str, shape))})" if shape else f"(n, {frames}1 or 3, height, width)"
            raise ModelError(f"{who} returned {kind} of shape {tuple(pixels.shape)}, expected {wanted}")
    elif isinstance(samples, Audio):
        for wave in samples.waves:
            if wave.dtype != torch.float32 or wave.ndim != 1 or not len(wave):
                raise ModelError(
                    f"{who} returned audio of dtype {wave.dtype} and shape {tuple(wave.shape)}: return "
                    "one-dimensional float32"
                )
        where = samples.waves[0].device  # a plug-in may put silence on the host beside the sounds of a device
        bad = torch.stack([(~torch.isfinite(wave).all()).to(where) for wave in samples.waves]).sum()
        refuse(bad, lambda bad: f"{who} returned {bad} sounds with NaN or infinite values: return finite float32")
    elif not all(isinstance(item, str) for item in samples.items):
        raise ModelError(f"{who} returned documents that are not str")


def extract(extractor: Extractor, samples: Samples) -> dict[str, np.ndarray]:
    """Return the extractor's float32 arrays on the CPU.

    Raises:
        ModelError: an output is missing, has a wrong shape, or contains NaN.
    """
    return {output: on_host(extractor, output, array) for output, array in outputs(extractor, samples).items()}


def outputs(extractor: Extractor, samples: Samples) -> dict[str, Float32[Tensor, "n d"]]:
    """Return the extractor's arrays where it computed them; :func:`on_host` checks their numbers.

    Raises:
        ModelError: an output is missing, or has a wrong shape.
    """
    who = f"extractor {extractor.info.name!r}"
    if isinstance(samples, MixedImages) and not extractor.info.mixed_sizes:
        return _outputs_by_size(extractor, samples, who)
    with _named(who), torch.inference_mode(), full_precision():
        arrays = extractor.extract(samples)
    checked = {}
    for output, dimension in extractor.info.outputs.items():
        if output not in arrays:
            raise ModelError(f"{who} did not return its declared output {output!r}")
        array = arrays[output]
        if array.ndim != 2 or len(array) != len(samples) or (dimension and array.shape[1] != dimension):
            raise ModelError(f"{who} returned {output!r} of shape {tuple(array.shape)} for {len(samples)} samples")
        checked[output] = array.float()
    return checked


def on_host(extractor: Extractor, output: str, array: Float32[Tensor, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Return rows of an output on the CPU.

    Raises:
        ModelError: they contain NaN.
    """
    rows = array.cpu()
    if not bool(torch.isfinite(rows).all()):
        raise ModelError(f"extractor {extractor.info.name!r} returned NaN or infinite values in {output!r}")
    found: np.ndarray = rows.numpy()
    return found


def _outputs_by_size(extractor: Extractor, samples: MixedImages, who: str) -> dict[str, Float32[Tensor, "n d"]]:
    where, results = zip(*((rows, outputs(extractor, images)) for rows, images in samples.by_size()), strict=True)
    order = torch.cat(where).argsort()
    found: dict[str, Tensor] = {}
    for output, first in results[0].items():
        for array in results:
            same_width(f"{who}: {output}", first.shape[1], array[output])
        found[output] = torch.cat([array[output] for array in results])[staged(order, first.device)]
    return found


def embed_texts(extractor: EmbedsTexts, texts: Sequence[str]) -> np.ndarray:
    """Return the float32 embeddings of texts on the CPU.

    Raises:
        ModelError: they have a wrong shape, or contain NaN.
    """
    who = f"{type(extractor).__name__}.embed_texts"
    with _named(who), torch.inference_mode(), full_precision():
        found = extractor.embed_texts(texts).float().cpu()
    if found.ndim != 2 or len(found) != len(texts) or not bool(torch.isfinite(found).all()):
        raise ModelError(f"{who} returned shape {tuple(found.shape)}, or NaN, for {len(texts)} texts")
    embeddings: np.ndarray = found.numpy()
    return embeddings


def join(what: str, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate blocks of rows; all blocks must have the same number of columns."""
    for block in blocks:
        same_width(what, blocks[0].shape[1], block)
    return np.concatenate(blocks)


def same_width(what: str, width: int, block: np.ndarray | Tensor) -> None:
    """Raise if a block has another number of columns."""
    if block.shape[1] != width:
        raise ModelError(
            f"{what} has {width} columns for some samples and {block.shape[1]} for others: resize the samples "
            "to one size, or use an extractor that resizes them"
        )


def nll(generator: Likelihood, who: str, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
    """Return the generator's negative log-likelihoods; a wrong count or NaN raises."""
    if isinstance(items, MixedImages):
        raise ModelError(f"{who} computes likelihoods of images of one size, but the reference has several sizes")
    with _named(who), _computing(request.device):
        result = generator.nll(items, request)
    result = replace(result, nats=result.nats.cpu())
    if result.nats.shape != (len(items),) or not bool(result.nats.isfinite().all()):
        raise ModelError(
            f"{who} returned likelihoods of shape {tuple(result.nats.shape)}, or with NaN, for {len(items)} items"
        )
    if not isinstance(result.units, int) and result.units.shape != (len(items),):
        raise ModelError(f"{who} returned {len(result.units)} token counts for {len(items)} items")
    return result


@contextmanager
def _computing(device: torch.device) -> Iterator[None]:
    """Compute float32 in full, without gradients; ``"cuda"`` without a number is this device."""
    on_cuda = device.type == "cuda"
    current: AbstractContextManager[object] = torch.cuda.device(device) if on_cuda else nullcontext()
    with torch.inference_mode(), full_precision(), current:
        yield


@contextmanager
def _named(who: str) -> Iterator[None]:
    """Raise exceptions of a plug-in as an error that names the plug-in; what it prints goes to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except EvalsvcError:
        raise
    except Exception as error:
        raise ModelError(f"{who} failed: {type(error).__name__}: {first_line(error)}") from error
