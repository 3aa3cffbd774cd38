"""LPIPS against facts, and against the networks of torchmetrics with the same random trunks."""

import math

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as peer

from evalsvc.builtin.scorers.lpips import LPIPS
from evalsvc.builtin.scorers.lpips_trunks import TRUNKS, activations
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs import published_weights
from evalsvc.plugins.samples import Images
from tests.evalsvc.builtin.test_image_scorers import CPU, batch, noise


def save_trunk(folder, name="squeeze", seed=0):
    """Random weights of a trunk as torchvision publishes them, with a classifier beside them."""
    torch.manual_seed(seed)
    layers = TRUNKS[name].build()
    state = {f"features.{key}": tensor for key, tensor in layers.state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(2, 3)}, folder / f"{name}.pth")
    return layers, str(folder / f"{name}.pth")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return LPIPS(CPU, trunk="squeeze", weights=save_trunk(tmp_path_factory.mktemp("lpips"))[1])


def distances(scorer, images, targets):
    return scorer.score(Images(images), batch(len(images), targets=Images(targets))).values["lpips"]


@pytest.mark.parametrize("name", TRUNKS)
def test_distances_are_those_of_torchmetrics_with_the_same_trunk(name, tmp_path, monkeypatch):
    layers, path = save_trunk(tmp_path, name)
    monkeypatch.setattr(peer, "_get_tv_model_features", lambda *_: layers)
    theirs = peer._LPIPS(net=name)  # whose heads are the published ones
    targets = noise(2, 3, 40, 33)
    images = (targets + 40 * torch.randn(targets.shape)).clamp(0, 255).to(torch.uint8)
    expected = [
        float(theirs(image[None] / 255, target[None] / 255, normalize=True))
        for image, target in zip(images, targets, strict=True)
    ]
    assert distances(LPIPS(CPU, trunk=name, weights=path), images, targets).tolist() == pytest.approx(
        expected, rel=1e-5
    )


def test_the_formula_of_one_layer_is_known(scorer, monkeypatch):
    """Activations along two axes differ by 1 in each of both channels, wherever they are and however long."""
    monkeypatch.setattr(scorer, "_layers", nn.Sequential(nn.Identity()))
    monkeypatch.setattr("evalsvc.builtin.scorers.lpips.activations", lambda layers, trunk, x: [x[:, :2].abs()])
    monkeypatch.setattr(scorer, "_heads", [torch.tensor([0.3, 0.5]).view(1, 2, 1, 1)])
    monkeypatch.setattr(scorer, "_shift", torch.tensor([-1.0, -1.0, -1.0]).view(3, 1, 1))
    image, target = torch.zeros(2, 1, 3, 20, 20, dtype=torch.uint8)
    image[:, 0], target[:, 1] = 10, 200
    assert distances(scorer, image, target).tolist() == pytest.approx([0.8])


def test_equal_images_have_distance_0_and_the_distance_is_symmetric_and_grows_with_noise(scorer):
    image, other = noise(1, 3, 32, 32), noise(1, 3, 32, 32, seed=1)
    near = (image + 5 * torch.randn(image.shape)).clamp(0, 255).to(torch.uint8)
    assert distances(scorer, image, image).tolist() == [0.0]
    assert distances(scorer, image, other).tolist() == pytest.approx(distances(scorer, other, image).tolist())
    assert 0 < distances(scorer, near, image) < distances(scorer, other, image)
    gray = noise(1, 1, 32, 32, seed=2)
    assert torch.equal(distances(scorer, gray, image), distances(scorer, gray.expand(-1, 3, -1, -1), image))


@pytest.mark.parametrize("name", TRUNKS)
def test_the_least_side_is_that_of_the_network(name):
    trunk = TRUNKS[name]
    layers, image = trunk.build(), torch.zeros(1, 3, trunk.least, trunk.least)
    assert len(activations(layers, trunk, image)) == len(trunk.compared)
    with pytest.raises(RuntimeError):
        activations(layers, trunk, image[..., :-1, :-1])


def test_images_smaller_than_the_network_takes_have_no_value(scorer):
    image = noise(1, 3, 16, 90)
    outcome = scorer.score(Images(image), batch(1, targets=Images(image)))
    assert math.isnan(outcome.values["lpips"][0])
    assert outcome.reasons == {0: "the network takes images from 17x17 pixels on, not 16x90"}
    assert not outcome.failed


def test_trunk_weights_and_heads_are_part_of_the_protocol(scorer, tmp_path):
    other = LPIPS(CPU, trunk="squeeze", weights=save_trunk(tmp_path, seed=1)[1])
    assert scorer.info.protocol != other.info.protocol
    assert scorer.info.facts["trunk"] == "squeeze"


def test_the_published_heads_ship_with_torchmetrics():
    for name in TRUNKS:
        assert published_weights.status(published_weights.get(f"lpips-{name}")) == published_weights.Status.PRESENT


def test_wrong_options_and_files_are_errors_that_name_them(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="'lpips' has no trunk 'resnet'; available are alex, vgg, squeeze"):
        LPIPS(CPU, trunk="resnet")
    with pytest.raises(InputError, match="invalid option weights=7 of scorer 'lpips'"):
        LPIPS(CPU, weights=7)
    with pytest.raises(InputError, match="nowhere"):
        LPIPS(CPU, weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        LPIPS(CPU, trunk="alex", weights=save_trunk(tmp_path)[1])
    (tmp_path / "cut.pth").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        LPIPS(CPU, weights=str(tmp_path / "cut.pth"))
    monkeypatch.setenv("EVALSVC_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"cut")
    with pytest.raises(InputError, match="is not the published alexnet file"):
        LPIPS(CPU)
