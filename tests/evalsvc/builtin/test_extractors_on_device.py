"""Every extractor on a pretended device: the numbers of the CPU, in float32 whatever the switches say."""

from __future__ import annotations

import functools
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import random_inception
from evalsvc.builtin.extractors import vgg16, video
from evalsvc.metrics.devices import staged_together
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins import scoring, validation
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.items import ItemBatch
from evalsvc.plugins.samples import Audio, Images, MixedImages, Samples, Texts, Videos
from evalsvc.plugins.scorers import ScorerInfo
from tests.evalsvc.builtin.test_audio import save_speaker, tone
from tests.evalsvc.builtin.test_clip_dinov2_vgg16 import images, save_clip, save_dinov2
from tests.evalsvc.builtin.test_image_scorers import batch
from tests.evalsvc.builtin.test_sound_scorers import save_clap
from tests.evalsvc.language_models import save
from tests.pretended_device import PretendedDevice, pretended

CPU = torch.device("cpu")
SHIPPED = {
    point.name: point
    for point in importlib.metadata.entry_points(group="evalsvc.extractors")
    if point.dist.name == "evalsvc"
}
PICTURES = Images(images(3, 40, 30))
TWO = MixedImages((PICTURES.pixels[0], PICTURES.pixels[1, :1, :20]))
SIZES = MixedImages((*TWO.items, PICTURES.pixels[2]))
DIGITS = Images(images(4, 8, 8))
CLIPS = Videos(images(6, 8, 8).view(2, 3, 3, 8, 8))
TEXTS = Texts(("A boat.", "", "The quick brown fox jumps over the lazy dog."))
VOICES = Audio((tone(200, 0.3), tone(300, 2.0)), 16_000)
MUSIC = Audio((tone(300, 1, 8_000), tone(900, 3, 8_000)), 8_000)


class Scripted(nn.Module):
    """Takes clips as the network of FVD does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(3, 4, 2, 2)

    def forward(self, x: torch.Tensor, **arguments: bool) -> torch.Tensor:
        return self.layer(x).mean((2, 3, 4))


@dataclass
class Case:
    """Samples, options, and the files that further options name."""

    samples: Samples
    options: dict[str, Any] = field(default_factory=dict)
    files: Callable[[Path], dict[str, Any]] = lambda folder: {}
    rounding: float = 1e-6
    """Centered error that attention in another order of sums makes."""


def scripted(folder: Path) -> dict[str, Any]:
    (folder / "network.pt").write_text("a network")
    return {"path": str(folder / "network.pt")}


def vgg(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.save(vgg16.VGG16Network().state_dict(), folder / "vgg16.pth")
    return {"weights": str(folder / "vgg16.pth"), "backend": "torch"}


CASES = {
    "pixels": Case(PICTURES),
    "digits-cnn": Case(DIGITS),
    "efficientnet-lite0": Case(PICTURES, {"size": 64}),
    "inception-v3": Case(
        TWO, {"backend": "torch"}, lambda folder: {"weights": str(random_inception.save(folder / "inception.pth"))}
    ),
    "clip": Case(SIZES, files=lambda folder: {"model": str(save_clip(folder))}, rounding=1e-5),
    "dinov2": Case(SIZES, files=lambda folder: {"model": str(save_dinov2(folder))}, rounding=1e-5),
    "vgg16": Case(SIZES, files=vgg),
    "resemblyzer": Case(VOICES, files=lambda folder: {"weights": str(save_speaker(folder))}),
    "clap": Case(MUSIC, files=lambda folder: {"model": str(save_clap(folder))}),
    "frame-wise": Case(CLIPS, {"frames": "digits-cnn"}),
    "video-network": Case(CLIPS, {"width": 4, "side": 10}, scripted),
    "i3d": Case(CLIPS, {}, scripted),
    "likelihood": Case(TEXTS, files=lambda folder: {"model": str(save(folder, "llama"))}),
    "char-scorer": Case(TEXTS),
    "minilm": Case(TEXTS),
    "text-encoder": Case(
        TEXTS, {"pooling": "last", "max_tokens": 16}, lambda folder: {"model": str(save(folder, "gpt2"))}
    ),
}


LARGE = {"inception-v3", "minilm", "efficientnet-lite0", "dinov2"}
"""Their parts are those of smaller ones, which run on the other kind of device too."""


def on_device(samples: Samples, device: PretendedDevice) -> Samples:
    """The same samples, as a generator returns them that drew them there."""
    if isinstance(samples, Images | Videos):
        return type(samples)(device.tensor(samples.pixels))
    if isinstance(samples, MixedImages):
        return MixedImages(tuple(map(device.tensor, samples.items)))
    if isinstance(samples, Audio):
        return Audio(tuple(map(device.tensor, samples.waves)), samples.rate)
    return samples


@pytest.fixture(autouse=True)
def fast_switches() -> Iterator[None]:
    """A process whose user has switched on fast products and convolutions."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The files of a case, written once."""
    return functools.cache(lambda name: CASES[name].files(tmp_path_factory.mktemp(name)))


@pytest.fixture
def build(
    files: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Callable[..., Any]]:
    monkeypatch.setattr(vgg16, "WIDTH", 8)
    monkeypatch.setattr(vgg16, "_MAPS", (4, 0, 4, 0, 4, 0, 4, 0, 512, 0))
    monkeypatch.setattr(video, "I3D_WIDTH", 4)
    torch.manual_seed(0)
    network = Scripted().requires_grad_(False)
    state = network.state_dict()

    def loaded(path: str, map_location: torch.device) -> nn.Module:
        made = Scripted().requires_grad_(False)
        made.load_state_dict(state)
        return made.to(map_location)

    monkeypatch.setattr(torch.jit, "load", loaded)

    def of(name: str) -> Callable[..., Any]:
        options = CASES[name].options | files(name)
        return lambda device, **more: SHIPPED[name].load()(device, **options, **more)

    return of


def centered_error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth - truth.mean(0)))


def test_every_extractor_that_ships_has_a_case():
    assert set(CASES) == set(SHIPPED)


@pytest.mark.parametrize("name", CASES)
def test_features_of_a_device_are_those_of_the_cpu_wherever_the_samples_are(build, name):
    factory, samples = build(name), CASES[name].samples
    truth = validation.extract(factory(CPU), samples)
    for kind in ("cuda",) if name in LARGE else ("cuda", "mps"):
        with pretended(kind) as device:
            extractor = factory(device.device)
            for given in (samples, on_device(samples, device))[kind == "mps" :]:
                found = validation.extract(extractor, given)
                assert found.keys() == truth.keys()
                for output, array in found.items():
                    assert array.dtype == truth[output].dtype
                    assert centered_error(array, truth[output]) <= CASES[name].rounding, output


@pytest.mark.parametrize(
    ("name", "uploads", "downloads"),
    [("inception-v3", 2, 2), ("clip", 2, 1), ("dinov2", 2, 1), ("clap", 1, 1), ("minilm", 3, 1), ("digits-cnn", 1, 2)],
)
def test_a_batch_is_uploaded_once_a_piece_and_waited_for_when_its_features_are_read(build, name, uploads, downloads):
    case = CASES[name]
    with pretended() as device:
        first = {"outputs": ["64", "192"]} if name == "inception-v3" else {}  # whose later layers take time
        extractor = build(name)(device.device, **first)
        for samples in (case.samples, case.samples):  # at first the constants of the device are made
            if hasattr(extractor, "_pieces"):
                extractor._pieces._batches.size = (len(samples) + 1) // 2
            device.forget()
            validation.extract(extractor, samples)
    moved = Counter[str]()
    for (direction, _), count in device.copies.items():
        moved[direction] += count
    assert moved == {"to device": uploads, "to host": downloads}
    # transformers asks once a piece whether a mask of texts has padding.
    asked = 2 if name == "minilm" else 0
    assert device.synchronizations.total() == downloads + asked


def test_arrays_of_several_places_and_shapes_meet_on_a_device_as_they_were():
    arrays = [torch.arange(6).view(2, 3), torch.arange(4), torch.tensor(7)]
    with pretended() as device:
        for given, copies in ((arrays, 1), ([device.tensor(arrays[0]), *arrays[1:]], 2), ([], 0)):
            device.forget()
            found = staged_together(given, device.device)
            assert device.copies.total() == copies
            assert all(torch.equal(a.inner, b) for a, b in zip(found, arrays, strict=False))
            assert len(found) == len(given)


def test_pieces_that_do_not_fit_on_the_device_are_halved_and_give_the_same_features(build):
    samples = Images(images(5, 200, 200))
    factory = build("clip")
    truth = validation.extract(factory(CPU), samples)["embedding"]
    with pretended(largest=2 * samples.pixels[0].numel() * 4) as device:
        extractor = factory(device.device)
        found = validation.extract(extractor, samples)["embedding"]
    assert extractor._pieces.size == 2
    assert centered_error(found, truth) <= 1e-6


class ThirdParty:
    """A plug-in that uses no function of ours: a product, a convolution and a recurrent cell."""

    info = ExtractorInfo("third-party", "image", {"features": 4}, "none", "none")
    quantities = (Quantity("sum", Direction.NEUTRAL, "1"),)

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 4)
        self.conv, self.cell, self.head = (layer.to(device).requires_grad_(False) for layer in layers)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.conv(pixels.float() / 255).flatten(2).transpose(1, 2)
        return self.head(self.cell(maps)[0][:, -1])

    def extract(self, samples: Samples) -> dict[str, torch.Tensor]:
        return {"features": self.features(samples.pixels)}

    def embed_texts(self, texts: tuple[str, ...]) -> torch.Tensor:
        return self.head(self.head.weight[: len(texts)])

    def score(self, samples: Samples, items: ItemBatch) -> dict[str, torch.Tensor]:
        return {"sum": self.features(samples.pixels).sum(1)}


@pytest.mark.parametrize("switch", ["high", "medium", "all"])
def test_what_others_wrote_is_computed_in_float32_too(switch, monkeypatch):
    if switch == "all":
        monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    else:
        torch.set_float32_matmul_precision(switch)
    with pretended() as device:
        plug_in = ThirdParty(device.device)
        samples = on_device(PICTURES, device)
        validation.extract(plug_in, samples)
        validation.embed_texts(plug_in, ("a", "b"))
        plug_in.info = ScorerInfo("third-party", frozenset({"image"}), plug_in.quantities)
        scoring.score(plug_in, samples, batch(len(samples)), {})
        assert {operator for operator, _ in device.full_float32} >= {"lstm"}
        assert device.full_float32.total() >= 6
