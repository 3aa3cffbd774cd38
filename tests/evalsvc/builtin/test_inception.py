import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.random_inception import random_state
from evalsvc.builtin.extractors.inception import InceptionV3, inception_v3
from evalsvc.builtin.extractors.inception_network import WIDTHS, Inception
from evalsvc.builtin.extractors.preprocess import INCEPTION
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs import published_weights as published
from evalsvc.plugins.samples import Images, MixedImages, Texts


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def path(state, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(state, file)
    return file


@pytest.fixture(scope="module")
def everything(path):
    return InceptionV3(path, outputs=tuple(WIDTHS))


def images(n, height, width, seed=0):
    coarse = torch.rand(n, 3, 6, 5, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


class Written:
    """The 2015 graph written out as a reader of the paper would, straight from tensors in double precision."""

    def __init__(self, state):
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def conv(self, name, x, stride=1, padding=0):
        w = {part: self.state[f"{name}.{part}"] for part in ("conv.weight", "bn.weight", "bn.bias")}
        mean, var = self.state[f"{name}.bn.running_mean"], self.state[f"{name}.bn.running_var"]
        x = F.conv2d(x, w["conv.weight"], None, stride, padding)
        return F.batch_norm(x, mean, var, w["bn.weight"], w["bn.bias"], eps=0.001).relu()

    def chain(self, x, *steps):
        for name, padding in steps:
            x = self.conv(name, x, padding=padding)
        return x

    @staticmethod
    def average(x):
        """Mean over the neighbours that exist."""
        ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1) / ones

    def a(self, m, x):
        parts = [
            self.chain(x, (f"{m}.branch1x1", 0)),
            self.chain(x, (f"{m}.branch5x5_1", 0), (f"{m}.branch5x5_2", 2)),
            self.chain(x, (f"{m}.branch3x3dbl_1", 0), (f"{m}.branch3x3dbl_2", 1), (f"{m}.branch3x3dbl_3", 1)),
            self.chain(self.average(x), (f"{m}.branch_pool", 0)),
        ]
        return torch.cat(parts, 1)

    def c(self, m, x):
        flat, tall = (0, 3), (3, 0)
        dbl = f"{m}.branch7x7dbl_"
        parts = [
            self.chain(x, (f"{m}.branch1x1", 0)),
            self.chain(x, (f"{m}.branch7x7_1", 0), (f"{m}.branch7x7_2", flat), (f"{m}.branch7x7_3", tall)),
            self.chain(x, (f"{dbl}1", 0), (f"{dbl}2", tall), (f"{dbl}3", flat), (f"{dbl}4", tall), (f"{dbl}5", flat)),
            self.chain(self.average(x), (f"{m}.branch_pool", 0)),
        ]
        return torch.cat(parts, 1)

    def e(self, m, x, pooled):
        single = self.conv(f"{m}.branch3x3_1", x)
        double = self.chain(x, (f"{m}.branch3x3dbl_1", 0), (f"{m}.branch3x3dbl_2", 1))
        flat, tall = (0, 1), (1, 0)
        parts = [
            self.conv(f"{m}.branch1x1", x),
            self.conv(f"{m}.branch3x3_2a", single, padding=flat),
            self.conv(f"{m}.branch3x3_2b", single, padding=tall),
            self.conv(f"{m}.branch3x3dbl_3a", double, padding=flat),
            self.conv(f"{m}.branch3x3dbl_3b", double, padding=tall),
            self.conv(f"{m}.branch_pool", pooled),
        ]
        return torch.cat(parts, 1)

    def __call__(self, x):
        found = {}
        x = self.conv("Conv2d_2a_3x3", self.conv("Conv2d_1a_3x3", x.double(), stride=2))
        x = F.max_pool2d(self.conv("Conv2d_2b_3x3", x, padding=1), 3, 2)
        found["64"] = x.mean((2, 3))
        x = F.max_pool2d(self.chain(x, ("Conv2d_3b_1x1", 0), ("Conv2d_4a_3x3", 0)), 3, 2)
        found["192"] = x.mean((2, 3))
        for m in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.a(m, x)
        m = "Mixed_6a"
        double = self.chain(x, (f"{m}.branch3x3dbl_1", 0), (f"{m}.branch3x3dbl_2", 1))
        double = self.conv(f"{m}.branch3x3dbl_3", double, stride=2)
        x = torch.cat([self.conv(f"{m}.branch3x3", x, stride=2), double, F.max_pool2d(x, 3, 2)], 1)
        x = self.c("Mixed_6c", self.c("Mixed_6b", x))
        maps = self.conv("Mixed_6d.branch1x1", x)
        found["sfid"] = torch.stack([maps[:, i, r, c] for r in range(17) for c in range(17) for i in range(7)], 1)
        x = self.c("Mixed_6e", self.c("Mixed_6d", x))
        found["768"] = x.mean((2, 3))
        m = "Mixed_7a"
        long = self.chain(x, (f"{m}.branch7x7x3_1", 0), (f"{m}.branch7x7x3_2", (0, 3)), (f"{m}.branch7x7x3_3", (3, 0)))
        short = self.conv(f"{m}.branch3x3_2", self.conv(f"{m}.branch3x3_1", x), stride=2)
        x = torch.cat([short, self.conv(f"{m}.branch7x7x3_4", long, stride=2), F.max_pool2d(x, 3, 2)], 1)
        x = self.e("Mixed_7b", x, self.average(x))
        x = self.e("Mixed_7c", x, F.max_pool2d(x, 3, 1, 1))
        found["pool3"] = x.mean((2, 3))
        found["logits"] = found["pool3"] @ self.state["fc.weight"].T
        return found


def test_the_published_file_has_566_tensors(state):
    assert len(state) == 566
    assert sum(name.endswith("conv.weight") for name in state) == 94
    assert state["fc.weight"].shape == (1008, 2048)


def test_every_output_is_that_of_the_graph_as_written_to_1e_5_of_the_largest(state, everything):
    x = images(2, 40, 60)
    found, expected = everything.extract(x), Written(state)(INCEPTION["tf1"].apply(x))
    assert set(found) == set(WIDTHS)
    for name, width in WIDTHS.items():
        assert found[name].shape == (2, width)
        assert found[name].dtype == torch.float32
        assert (found[name] - expected[name]).abs().max() < 1e-5 * expected[name].abs().max(), name


def test_features_do_not_depend_on_the_batch(everything):
    x = images(5, 32, 32)
    whole = everything.extract(x)
    alone = everything.extract(x[3:4])
    for name, array in whole.items():
        assert (array[3] - alone[name][0]).abs().max() < 1e-5 * array.abs().max(), name


def test_images_and_bare_pixels_are_the_same_and_grey_is_repeated(path):
    first = InceptionV3(path, outputs=("64",))
    x = images(2, 32, 32)
    assert torch.equal(first.extract(Images(x))["64"], first.extract(x)["64"])
    gray = x[:, :1]
    assert torch.equal(first.extract(gray)["64"], first.extract(gray.expand(-1, 3, -1, -1))["64"])


def test_images_of_several_sizes_are_resized_one_by_one_and_share_batches(path):
    first = InceptionV3(path, outputs=("64",))
    items = [images(1, 32, 32)[0], images(1, 40, 20)[0, :1], images(1, 32, 32, seed=1)[0], images(1, 299, 299)[0]]
    found = first.extract(MixedImages(tuple(items)))["64"]
    alone = torch.cat([first.extract(item[None])["64"] for item in items])
    assert torch.allclose(found, alone, rtol=1e-5, atol=1e-6)
    assert first.info.mixed_sizes
    with pytest.raises(InputError, match="uint8 images"):
        first.extract(MixedImages((items[0], torch.zeros(2, 8, 8, dtype=torch.uint8))))


def test_nothing_behind_the_last_asked_block_is_computed(path):
    early = InceptionV3(path, outputs=("192",))
    reached = []
    network = Inception(("192",)).eval()
    for name, module in network.named_children():
        module.register_forward_hook(lambda *_, name=name: reached.append(name))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 299, 299))
    assert reached[-1] == "Conv2d_4a_3x3"
    assert set(early.extract(images(1, 32, 32))) == {"192"}


def test_each_preprocessing_and_precision_is_a_protocol_of_its_own(path, everything):
    assert len({way.description for way in INCEPTION.values()}) == len(INCEPTION)
    clean = InceptionV3(path, "clean", tuple(WIDTHS))
    coarse = InceptionV3(path, outputs=tuple(WIDTHS), precision="bfloat16")
    assert len({extractor.info.protocol for extractor in (everything, clean, coarse)}) == 3


def test_the_backend_is_no_part_of_the_protocol(path, home):
    plain, other = (InceptionV3(path, outputs=("64",), backend=name) for name in ("torch", "onnxruntime"))
    assert plain.info.protocol == other.info.protocol
    x = images(3, 32, 32)
    assert torch.allclose(plain.extract(x)["64"], other.extract(x)["64"], rtol=1e-4, atol=1e-5)


def test_the_plug_in_without_weights_says_which_file_goes_where(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSVC_WEIGHTS_DIR", str(tmp_path))
    offline = published.WeightFile(
        "inception-2015", "inception-v3", ("pt_inception-2015-12-05-6726825d.pth",), "6" * 64, ("http://127.0.0.1:9/x",)
    )
    monkeypatch.setattr(published, "WEIGHTS", {"inception-2015": offline})
    with pytest.raises(InputError, match=rf"put pt_inception-2015-12-05-6726825d.pth .*into {tmp_path}"):
        inception_v3(torch.device("cpu"))


def test_bad_input_is_named(path, tmp_path):
    first = InceptionV3(path, outputs=("64",))
    with pytest.raises(InputError, match="requires image samples"):
        first.extract(Texts(("hello",)))
    with pytest.raises(InputError, match=r"uint8 images .* got torch.float32"):
        first.extract(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="no preprocessing 'tf2'; available are tf1"):
        InceptionV3(path, "tf2")
    with pytest.raises(InputError, match="no such outputs 'pool4'"):
        InceptionV3(path, outputs=("pool4",))
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        InceptionV3(tmp_path / "small.pth")
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="truncated"):
        InceptionV3(tmp_path / "cut.pth")


def test_the_logits_have_no_bias(path, state, everything):
    found = everything.extract(images(1, 32, 32))
    assert np.allclose(found["logits"], found["pool3"] @ state["fc.weight"].T, atol=1e-4)
