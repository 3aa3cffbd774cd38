"""Claims about graphs of ONNX: the numbers of torch, inputs by name, and nothing but arithmetic."""

import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from evalsvc.builtin.generators.onnx_module import OnnxModule
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import CheckpointError, InputError, ModelError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Images, SampleRequest

CPU = torch.device("cpu")
ASKED = SampleRequest.of(3, 0, 5)
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


class Conditional(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 16)
        self.body = torch.nn.Sequential(torch.nn.ConvTranspose2d(16, 8, 4), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1))

    def forward(self, z, y):
        return self.body(z + self.embed(y)[:, :, None, None]).tanh()


def graph(*nodes, z=("n", 4), extra=(), weights=(), functions=(), domains=("",)):
    """A model with an input z and the output x of its nodes."""
    inputs = [helper.make_tensor_value_info("z", FLOAT, z), *extra]
    output = helper.make_tensor_value_info("x", FLOAT, ["n", 1, 2, 2])
    made = helper.make_graph(nodes, "g", inputs, [output], weights)
    opsets = [helper.make_opsetid(domain, 17) for domain in domains]
    return helper.make_model(made, opset_imports=opsets, functions=functions, ir_version=8)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, **attributes)


SHAPE = numpy_helper.from_array(np.array([-1, 1, 2, 2]), "shape")
RESHAPE = node("Reshape", ["z", "shape"], ["x"])


@pytest.fixture
def make(tmp_path):
    def make(model, name="step_1.onnx", path=None, **options):
        if path is None:
            path = tmp_path / name
            path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return OnnxModule(Checkpoint.open(path, "m", 1), CPU, **options)

    return make


def test_samples_are_those_of_the_exported_module(make, tmp_path):
    torch.manual_seed(0)
    module = Conditional().eval()
    path = tmp_path / "step_1.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(2, 16, 1, 1), torch.zeros(2).long()), str(path), input_names=["z", "y"],
            dynamic_axes={"z": {0: "n"}, "y": {0: "n"}}, dynamo=False,
        )  # fmt: skip
    generator = make(None, path=path, threads=2)
    assert (generator.info.needs, generator.info.sample_shape) == ({"label"}, (3, 4, 4))
    labels = torch.arange(5)
    latents = ASKED.normal(16, 1, 1)
    with torch.no_grad():
        right = module(latents, labels)
    assert (generator._sampler._function(z=latents, y=labels) - right).abs().max() < 1e-5
    drawn = generator.sample(replace(ASKED, labels=labels)).pixels
    assert (drawn.int() - Images.from_signed(right).pixels.int()).abs().max() <= 1
    assert [each for each in check_generator(generator, CPU) if not each.ok] == []


def test_the_latents_are_of_the_size_of_the_input(make):
    generator = make(graph(RESHAPE, weights=[SHAPE]))
    assert (generator.info.takes, generator.info.sample_shape) == (frozenset(), (1, 2, 2))
    assert torch.equal(generator.sample(ASKED).pixels, Images.from_signed(ASKED.normal(1, 2, 2)).pixels)
    single = make(graph(RESHAPE, z=(1, 4), weights=[SHAPE]))
    assert torch.equal(single.sample(ASKED).pixels, generator.sample(ASKED).pixels)
    open_ = graph(RESHAPE, z=("n", "d"), weights=[SHAPE])
    assert torch.equal(make(open_, latent=4).sample(ASKED).pixels, generator.sample(ASKED).pixels)
    for model, complaint in (
        (open_, "step_1.onnx does not fix the shape of z: give it as option latent"),
        (graph(RESHAPE, z=(8, 4), weights=[SHAPE]), "takes 8 samples at a time: export it with a dynamic first axis"),
    ):
        with pytest.raises(InputError, match=complaint):
            make(model)


def test_an_image_as_input_is_a_source(make):
    shape = ["n", 3, "h", "w"]
    made = helper.make_graph(
        [node("Neg", ["input"], ["y"])],
        "g",
        *([helper.make_tensor_value_info(name, FLOAT, shape)] for name in ("input", "y")),
    )
    generator = make(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert generator.info.needs == {"source"}
    sources = Images(torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8))
    drawn = generator.sample(replace(ASKED, sources=sources)).pixels
    assert (drawn.int() - (255 - sources.pixels.int())).abs().max() <= 1


def test_labels_of_floats_are_vectors(make):
    labels = helper.make_tensor_value_info("c", FLOAT, ["n", 4])
    nodes = [node("Add", ["z", "c"], ["s"]), node("Reshape", ["s", "shape"], ["x"])]
    generator = make(graph(*nodes, extra=[labels], weights=[SHAPE]))
    drawn = generator.sample(replace(ASKED, labels=torch.tensor([0, 1, 2, 3, 3]))).pixels
    moved = ASKED.normal(4) + torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3, 3]), 4)
    assert torch.equal(drawn, Images.from_signed(moved.view(5, 1, 2, 2)).pixels)
    with pytest.raises(InputError, match="label 4 is not a class"):
        generator.sample(replace(ASKED, labels=torch.full((5,), 4)))


def external(location: str) -> onnx.ModelProto:
    """A graph that multiplies by weights in a file, after 8 bytes."""
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "8"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    return graph(node("Mul", ["z", "w"], ["s"]), node("Reshape", ["s", "shape"], ["x"]), weights=[SHAPE, weight])


def weights(factor: float) -> bytes:
    return bytes(8) + np.full(4, factor, np.float32).tobytes()


def test_weights_in_the_file_that_torch_writes_belong_to_the_graph(make, tmp_path):
    path, data = tmp_path / "step_1.onnx", tmp_path / "step_1.onnx.data"
    path.write_bytes(external(data.name).SerializeToString())
    for factor in (0.5, 0.25):
        data.write_bytes(weights(factor))
        drawn = make(None, path=path).sample(ASKED).pixels
        assert torch.equal(drawn, Images.from_signed(ASKED.normal(1, 2, 2) * factor).pixels)
    opened = Checkpoint.open(path, "m", 1)
    assert opened.is_still()
    data.write_bytes(weights(0.125))
    assert not opened.is_still()
    assert Checkpoint.open(path, "m", 1).stamp != opened.stamp
    data.unlink()
    with pytest.raises(CheckpointError, match="step_1.onnx.data is missing, but step_1.onnx needs it: restore it"):
        make(None, path=path)
    assert Checkpoint.open(path, "m", 1).digest == digest_path(path)


def test_weights_in_other_files_belong_to_the_folder(make, tmp_path):
    folder = tmp_path / "step_2"
    folder.mkdir()
    data = folder / "g.data"
    (folder / "g.onnx").write_bytes(external(data.name).SerializeToString())
    data.write_bytes(weights(0.5))
    drawn = make(None, path=folder).sample(ASKED).pixels
    assert torch.equal(drawn, Images.from_signed(ASKED.normal(1, 2, 2) / 2).pixels)
    with pytest.raises(CheckpointError, match=f"keeps weights in g.data: give the folder {folder}"):
        make(None, path=folder / "g.onnx")
    data.write_bytes(b"short")
    with pytest.raises(CheckpointError, match="g.data is truncated: copy it again"):
        make(None, path=folder)
    (folder / "h.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is not one ONNX graph: give a .onnx file"):
        make(None, path=folder)


@pytest.mark.parametrize(
    "locations", [["../secret"], ["/etc/passwd"], ["a/../../b"], ["..\\secret"], [], ["../a", "b"]]
)
def test_no_graph_reads_a_file_outside_of_its_folder(make, locations):
    """Not of a weight, and not of a constant in a branch of a condition."""
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for location in locations:
        weight.external_data.add(key="location", value=location)
    branch = helper.make_graph(
        [node("Constant", [], ["b"], value=weight)], "b", [], [helper.make_tensor_value_info("b", FLOAT, [4])]
    )
    condition = node("If", ["c"], ["x"], then_branch=branch, else_branch=branch)
    for model in (graph(RESHAPE, weights=[SHAPE, weight]), graph(condition)):
        with pytest.raises(CheckpointError, match="reads weights from .* outside of its folder: export it again"):
            make(model)


def test_nothing_but_standard_operators_without_chance_is_opened(make):
    branch = helper.make_graph(
        [node("RandomNormal", [], ["b"], shape=[4])], "b", [], [helper.make_tensor_value_info("b", FLOAT, [4])]
    )
    inner = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Evil", ["a"], ["b"], domain="lib")], [helper.make_opsetid("lib", 1)]
    )
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    call = [node("Twice", ["z"], ["s"], domain="own"), node("Reshape", ["s", "shape"], ["x"])]
    for model, complaint in (
        (
            graph(node("Evil", ["z"], ["x"], domain="lib"), domains=("", "lib")),
            "custom operator lib.Evil, which is code",
        ),
        (graph(*call, weights=[SHAPE], functions=[inner], domains=("", "own")), "custom operator lib.Evil"),
        (graph(node("RandomNormalLike", ["z"], ["x"])), r"draws its own random numbers \(RandomNormalLike\)"),
        (graph(node("If", ["c"], ["x"], then_branch=branch, else_branch=branch)), "draws its own random numbers"),
    ):
        with pytest.raises(CheckpointError, match=complaint):
            make(model)
    generator = make(graph(*call, weights=[SHAPE], functions=[twice], domains=("", "own")))
    assert torch.equal(generator.sample(ASKED).pixels, Images.from_signed(2 * ASKED.normal(1, 2, 2)).pixels)


@pytest.mark.parametrize(
    ("model", "options", "complaint"),
    [
        (b"no graph at all", {}, "is not an ONNX graph"),
        (graph(RESHAPE, weights=[SHAPE]), {"name": "step_1.pt"}, "is not one ONNX graph: give a .onnx file"),
        (graph(RESHAPE, extra=[onnx.ValueInfoProto(name="m")]), {}, "takes m, which is not a tensor"),
        (graph(RESHAPE, weights=[SHAPE]), {"threads": 0}, "invalid option threads=0 .*: use 1 to 256"),
        (graph(RESHAPE, weights=[SHAPE]), {"call": "f"}, "unknown option call of generator 'onnx-module'"),
        (graph(RESHAPE, weights=[SHAPE]), {"latent": 5}, r"failed on latent z of shape \(2, 5\)"),
        (graph(node("Add", ["z", "no"], ["x"])), {}, "cannot be opened .*: export it again"),
        (graph(RESHAPE, z=("n", 2**27), weights=[SHAPE]), {}, "takes 134,217,728 values as z, more than 67,108,864"),
        (
            graph(RESHAPE, extra=[helper.make_tensor_value_info(i, FLOAT, [2]) for i in ("a", "b")], weights=[SHAPE]),
            {},
            "takes z, a, b, and generators cannot tell what a and b should receive",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_one_sentence_with_the_way_out(make, model, options, complaint, capfd):
    with pytest.raises((InputError, ModelError), match=complaint) as caught:
        make(model, **options)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_clients_do_not_open_graphs():
    assert not hasattr(Plugins().get(PluginKind.GENERATOR, "onnx-module").load(), "client_options")
