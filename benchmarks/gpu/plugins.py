"""Generators, extractors and language models on the device: the CPU's results, twice the same, in any batches."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import networks
from benchmarks.gpu.lines import DiffersError, Lines, NotHereError
from evalsvc.builtin.demo import shipped
from evalsvc.builtin.demo.digits import digits_reference
from evalsvc.builtin.demo.text import shipped_texts
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins import validation
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Samples, Texts, Videos

ROUNDED = 0.01
"""Share of pixels that rounding may move by one level: those that lie at half a level."""
OTHER = 0.02
"""Share of samples whose tokens or pixels are drawn one after another, that one draw at a rounding may change whole."""
FEATURES = 5e-6
"""Error of features, of their size: float32 through fifty layers in another order (up to 1e-6), far below TF32's 2e-3.

Not of their spread, as where backends are chosen: random weights tell samples apart by a hundredth of their size.
"""
SPLIT = 2e-5
"""The same of products that are split for tensor cores."""
LIKELIHOODS = 1e-5
"""Relative error of the nats of a sample."""
CPU = torch.device("cpu")


def check_generators(lines: Lines, device: torch.device, count: int) -> None:
    """Write the lines of the last checkpoint of every family of the demo."""
    last = {each.generator: each for each in shipped()}
    for name, each in last.items():
        factory = Plugins().get(PluginKind.GENERATOR, name).load()
        checkpoint = Checkpoint.open(each.path, name, each.step)
        lines.check("generators", name, functools.partial(_generator, factory, checkpoint, device, count))


def check_language(lines: Lines, device: torch.device, count: int) -> None:
    """Write the lines of the demo's language model: its texts, greedy and drawn, and its likelihoods."""
    *_, run = (each for each in shipped_texts() if not each.options)
    for name, temperature in (("texts, greedy", 0.0), ("texts, drawn", 1.0)):
        lines.check("language", name, functools.partial(_texts, run.path, device, count, temperature))
    lines.check("language", "likelihoods", functools.partial(_text_likelihoods, run.path, device))


def check_extractors(lines: Lines, device: torch.device, folder: Path, *, quick: bool) -> None:
    """Write the lines of all extractors that random weights can be made for; ``quick`` leaves out large networks."""
    for name, (option, make, samples, options) in _EXTRACTORS.items():
        if quick and name.startswith(LARGE):
            continue
        work = functools.partial(_extractor, name.split(",")[0], option, make, samples, options, device, folder)
        lines.check("extractors", name, work)


def _generator(factory: Any, checkpoint: Checkpoint, device: torch.device, count: int) -> str:
    drawn = functools.partial(_drawn, factory, checkpoint)
    mine, theirs = drawn(CPU, 0, count), drawn(device, 0, count)
    if not torch.equal(theirs, drawn(device, 0, count)):
        raise DiffersError("two runs on the device do not give the same pixels")
    parts = torch.cat([drawn(device, 0, 3), drawn(device, 3, count)])
    said = f"{_moved(mine, theirs)}; in other batches {_moved(theirs, parts)}"
    generator = factory(checkpoint, device)
    if not hasattr(generator, "nll"):
        return said
    held = digits_reference().heldout.read(0, count)
    nats = [
        validation.nll(factory(checkpoint, where), "check", held, SampleRequest.of(7, 0, len(held), where)).nats
        for where in (CPU, device)
    ]
    return f"{said}; likelihoods {_near(nats[0].numpy(), nats[1].cpu().numpy(), LIKELIHOODS)}"


def _drawn(factory: Any, checkpoint: Checkpoint, device: torch.device, start: int, stop: int) -> torch.Tensor:
    drawn = validation.sample(factory(checkpoint, device), SampleRequest.of(7, start, stop, device))
    return drawn.samples.pixels.cpu().int()


def _moved(mine: torch.Tensor, theirs: torch.Tensor) -> str:
    """How many pixels differ.

    Raises:
        DiffersError: more than rounding explains.
    """
    apart = (mine - theirs).abs()
    share, other = float((apart > 0).float().mean()), float((apart.flatten(1).amax(1) > 1).float().mean())
    said = f"{share:.2%} of the pixels off"
    if share > ROUNDED + OTHER or other > OTHER:
        raise DiffersError(f"{said}, by at most {int(apart.max())} levels, {other:.0%} of the samples by more than one")
    return said


def _texts(path: Path, device: torch.device, count: int, temperature: float) -> str:
    from evalsvc.builtin.generators.causal_lm import CausalLM
    from evalsvc.inputs.decoding_options import Decoding

    def written(where: torch.device, *edges: int) -> list[str]:
        options = Decoding(temperature=temperature, max_tokens=24)
        model = CausalLM(Checkpoint.open(path, "check", 0), where, decoding=options)
        requests = [SampleRequest.of(7, a, b, where) for a, b in itertools.pairwise(edges)]
        return [text for request in requests for text in validation.sample(model, request).samples.items]

    mine, theirs = written(CPU, 0, count), written(device, 0, count)
    if theirs != written(device, 0, count):
        raise DiffersError("two runs on the device do not give the same texts")
    others = written(device, 0, 3, count)
    off = [sum(a != b for a, b in zip(mine, each, strict=True)) for each in (theirs, others)]
    said = f"{off[0]} of {count} texts are not the CPU's, {off[1]} in other batches"
    if max(off) > max(1, OTHER * count):
        raise DiffersError(said)
    return said


def _text_likelihoods(path: Path, device: torch.device) -> str:
    from evalsvc.builtin.generators.causal_lm import CausalLM

    def nats(where: torch.device) -> np.ndarray:
        model, request = CausalLM(Checkpoint.open(path, "check", 0), where), SampleRequest.of(7, 0, len(_TEXTS), where)
        return validation.nll(model, "check", Texts(_TEXTS), request).nats.cpu().numpy()

    return _near(nats(CPU), nats(device), LIKELIHOODS)


def _near(mine: np.ndarray, theirs: np.ndarray, allowed: float) -> str:
    scale = float(np.abs(mine).max()) or 1.0
    error = float(np.abs(mine.astype(np.float64) - theirs).max()) / scale
    if not error <= allowed:
        raise DiffersError(f"relative error {error:.1e} (allowed {allowed:.0e})")
    return f"relative error {error:.0e}"


def _extractor(
    name: str,
    option: str,
    make: Callable[[Path], Path] | None,
    samples: Samples,
    options: dict[str, Any],
    device: torch.device,
    folder: Path,
) -> str:
    if make is not None:
        options = options | {option: str(make(folder))}
    factory = Plugins().get(PluginKind.EXTRACTOR, name).load()
    splits = options.get("backend") == "split"
    if splits and device.type != "cuda":
        raise NotHereError("products are split on CUDA devices only")
    try:
        expected = validation.extract(factory(CPU, **options | ({"backend": "torch"} if splits else {})), samples)
    except ImportError:
        raise
    except Exception as error:
        raise NotHereError(f"not on the CPU either: {' '.join(str(error).split())[:160]}") from None
    extractor = factory(device, **options)
    found, again = validation.extract(extractor, samples), validation.extract(extractor, samples)
    from_device = validation.extract(extractor, _moved_to(samples, device))
    allowed, worst = SPLIT if splits else FEATURES, 0.0
    for output, mine in expected.items():
        if not (np.array_equal(found[output], again[output]) and np.array_equal(found[output], from_device[output])):
            raise DiffersError(f"{output} is not the same twice, or of samples that are on the device")
        error = error_of(found[output], mine)
        worst = max(worst, error)
        if not error <= allowed:
            raise DiffersError(f"{output} has a relative error of {error:.1e} (allowed {allowed:.0e})")
    return f"relative error {worst:.0e}, twice the same, from the host and from the device"


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    """The error of features, relative to their size."""
    return float(np.linalg.norm(found.astype(np.float64) - expected) / (np.linalg.norm(expected) or 1.0))


def _moved_to(samples: Samples, device: torch.device) -> Samples:
    if isinstance(samples, Images | Videos):
        return replace(samples, pixels=samples.pixels.to(device))
    if isinstance(samples, MixedImages):
        return MixedImages(tuple(image.to(device) for image in samples.items))
    if isinstance(samples, Audio):
        return replace(samples, waves=tuple(wave.to(device) for wave in samples.waves))
    return samples


def _pictures(n: int = 6, channels: int = 3, side: int = 64) -> Images:
    coarse = torch.rand(n, channels, side // 8, side // 8, generator=torch.Generator().manual_seed(1)) * 255
    return Images(torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear").to(torch.uint8))


def _sounds(rate: int) -> Audio:
    random = torch.Generator().manual_seed(2)
    return Audio(tuple(0.1 * torch.randn(rate * seconds, generator=random) for seconds in (1, 2, 3)), rate)


_TEXTS = tuple("the quick brown fox jumps over the lazy dog"[: 5 + 3 * i] for i in range(9))
_IMAGES = _pictures()
_MIXED = MixedImages((_IMAGES.pixels[0], _IMAGES.pixels[1, :, :40, :50], _IMAGES.pixels[2]))
_VIDEOS = Videos(torch.stack([_pictures(4, 1, 8).pixels, _pictures(4, 1, 8).pixels.flip(0)]))
LARGE = ("inception-v3", "vgg16", "efficientnet-lite0")
_EXTRACTORS: dict[str, tuple[str, Callable[[Path], Path] | None, Samples, dict[str, Any]]] = {
    "pixels": ("", None, _IMAGES, {}),
    "digits-cnn": ("", None, _pictures(8, 1, 8), {}),
    "efficientnet-lite0": ("", None, _IMAGES, {}),
    "inception-v3": ("weights", networks.inception, _IMAGES, {"backend": "torch"}),
    "inception-v3, clean": ("weights", networks.inception, _IMAGES, {"backend": "torch", "preprocess": "clean"}),
    "inception-v3, split": ("weights", networks.inception, _IMAGES, {"backend": "split"}),
    "inception-v3, mixed sizes": ("weights", networks.inception, _MIXED, {"backend": "torch", "outputs": ["64"]}),
    "vgg16": ("weights", networks.vgg16, _IMAGES, {"backend": "torch"}),
    "clip": ("model", networks.clip, _IMAGES, {}),
    "dinov2": ("model", networks.dinov2, _IMAGES, {}),
    "resemblyzer": ("weights", networks.resemblyzer, _sounds(16_000), {}),
    "clap": ("model", networks.clap, _sounds(48_000), {}),
    "frame-wise": ("", None, _VIDEOS, {"frames": "digits-cnn"}),
    "char-scorer": ("", None, Texts(_TEXTS), {}),
    "minilm": ("", None, Texts(_TEXTS), {}),
    "text-encoder": ("model", networks.bert, Texts(_TEXTS), {"max_tokens": 64}),
}
"""By name: the option that takes the network, what makes it, samples, and other options."""
