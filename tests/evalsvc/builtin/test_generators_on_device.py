"""Claims about generators on an accelerator: the samples of the CPU, in full precision, and no waiting in a loop."""

import functools
from dataclasses import replace

import diffusers
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from evalsvc.builtin.demo import shipped, shipped_by_class
from evalsvc.builtin.demo.digits import splits
from evalsvc.builtin.global_generators import seeded
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import GeneratorInfo, Likelihood, NegativeLogLikelihood
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Images, SampleRequest
from tests.evalsvc import diffusion_pipelines as tiny
from tests.pretended_device import PretendedDevice, pretended

CPU = torch.device("cpu")
N = 3
DEMO = {each.family: each for each in (*shipped(), *shipped_by_class()) if each.family == each.generator}
IN_FLOAT64 = {"flow", "conditional-flow", "autoregressive"}
"""Families whose samples are the same in every batch."""
MOST = {"ddpm": 2600}
"""Operators of a batch, of fifty steps: their noise alone was 9,000 before it was drawn together."""
ELSEWHERE = {"causal-lm", "seq2seq-lm"}
"""Language models, which have tests of their own."""
WITHOUT_NETWORK = {"samples", "command", "openai-compatible"}


class Latents(torch.nn.Module):
    """Convolutions of latents and labels."""

    latent_dim = (4, 2, 2)

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.body = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 8, 4, 2, 1), torch.nn.ReLU())
        self.last = torch.nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, z, y):
        return self.last(self.body(z + self.embed(y)[:, :, None, None])).tanh()


class Drawing(torch.nn.Module):
    """A sampler that draws its own noise on the device of its weights, as those of published repositories do."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(16, 16)

    def forward(self, batch_size):
        x = torch.randn(batch_size, 16, device=self.body.weight.device)
        for _ in range(2):
            x = x - 0.1 * self.body(x) + 0.1 * torch.randn_like(x)
        return x.tanh().view(-1, 1, 4, 4)


class Recurrent(torch.nn.Module):
    """Sounds from a recurrent cell."""

    latent_dim = (20, 4)

    def __init__(self):
        super().__init__()
        self.body = torch.nn.LSTM(4, 8, batch_first=True)

    def forward(self, z):
        return self.body(z)[0].mean(2)


def module(kind, **options):
    """How ``torch-module`` is opened with a class of this file."""

    def opened(folder):
        torch.manual_seed(0)
        save_file(kind().state_dict(), folder / "step_1.safetensors")
        return folder / "step_1.safetensors", {"module": f"{__name__}:{kind.__name__}", **options}

    return opened


def pipeline(make, **options):
    def opened(folder):
        make().save_pretrained(folder / "step_1")
        return folder / "step_1", options

    return opened


def graph(folder):
    """An affine map, as ONNX."""
    z, x = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 2, 2]) for name in "zx")
    made = helper.make_graph([helper.make_node("Tanh", ["z"], ["x"])], "g", [z], [x])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "step_1.onnx")
    return folder / "step_1.onnx", {"inputs": {"z": "latent"}, "latent": [1, 2, 2]}


CASES = {
    **{name: (name, lambda folder, each=each: (each.path, {})) for name, each in DEMO.items()},
    "latents and labels": ("torch-module", module(Latents, classes=10)),
    "a network that draws": ("torch-module", module(Drawing)),
    "a recurrent network": ("torch-module", module(Recurrent, rate=8000)),
    "a graph": ("onnx-module", graph),
    "a pipeline": (
        "diffusers",
        pipeline(
            lambda: diffusers.DDPMPipeline(tiny.unet2d(), diffusers.DDPMScheduler(num_train_timesteps=4)), steps=2
        ),
    ),
    "a pipeline of labels": ("diffusers", pipeline(tiny.dit, steps=1)),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A function that opens a case on a device."""

    @functools.cache
    def place(case):
        return CASES[case][1](tmp_path_factory.mktemp("case"))

    def opened(case, device):
        name, (path, options) = CASES[case][0], place(case)
        files = Plugins().checkpoint_files(name)
        return Plugins().get(PluginKind.GENERATOR, name).load()(Checkpoint.open(path, "m", 1, files), device, **options)

    return opened


@pytest.fixture
def fast():
    """A process whose user has switched on fast products, by the switch that all versions of torch have."""
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def fast_anew(monkeypatch):
    """The same by the switch of torch 2.9 and later."""
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")


def asked(device, *rows):
    rows = torch.tensor(rows or range(N))
    return replace(SampleRequest.at(7, rows, device), labels=(rows % 10).to(device))


def flat(samples):
    """Samples on the CPU, as levels of 255."""
    if isinstance(samples, Images):
        return samples.pixels.cpu().int().flatten(1)
    return torch.stack([wave.cpu() for wave in samples.waves]) * 127.5


def test_every_generator_with_a_network_has_a_case():
    built_in = {plugin.name for plugin in Plugins() if plugin.kind == PluginKind.GENERATOR}
    assert {name for name, _ in CASES.values()} | ELSEWHERE | WITHOUT_NETWORK == built_in


@pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN")
@pytest.mark.parametrize("case", CASES)
def test_samples_on_a_device_are_those_of_the_cpu_and_of_other_batches(opened, fast, case):
    own = case == "a network that draws"
    right = None if own else flat(validation.sample(opened(case, CPU), asked(CPU)).samples)
    with pretended() as device:
        generator = opened(case, device.device)
        device.forget()
        drawn = validation.sample(generator, asked(device.device)).samples
        waits, operators = device.synchronizations.total(), device.operators
        again = validation.sample(generator, asked(device.device, 2, 0)).samples
        drawn, again = flat(drawn), flat(again)
    far = (drawn[[2, 0]] - again).abs().max()
    assert far == 0 if own or case in IN_FLOAT64 else far <= 1
    assert own or (drawn - right).abs().max() <= 1
    assert waits <= (4 * N if own else 3)
    assert operators < MOST.get(case, 1500)
    assert {operator for operator, _ in device.nondeterministic} <= {"aten.cumsum.default"}


@pytest.mark.parametrize("family", ["autoregressive", "conditional-flow", "ddpm", "flow", "vae"])
def test_likelihoods_on_a_device_are_those_of_the_cpu(opened, fast, family):
    items = Images(splits()[1].pixels[:N])
    right = validation.nll(opened(family, CPU), family, items, asked(CPU)).nats
    with pretended() as device:
        generator = opened(family, device.device)
        device.forget()
        nats = validation.nll(generator, family, items, asked(device.device)).nats.cpu()
    torch.testing.assert_close(nats, right, rtol=1e-6, atol=0)
    assert device.synchronizations.total() <= 3


@pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN")
@pytest.mark.parametrize("case", [*DEMO, "latents and labels", "a recurrent network"])
def test_on_a_device_without_float64_samples_and_likelihoods_are_those_of_the_cpu_too(opened, case):
    items, right = Images(splits()[1].pixels[:N]), opened(case, CPU)
    expected = flat(validation.sample(right, asked(CPU)).samples)
    with PretendedDevice("mps") as device:
        generator = opened(case, device.device)
        drawn = flat(validation.sample(generator, asked(device.device)).samples)
        if isinstance(generator, Likelihood):
            nats = validation.nll(generator, case, items, asked(device.device)).nats.cpu()
            assert torch.equal(nats, validation.nll(right, case, items, asked(CPU)).nats)
    assert (drawn - expected).abs().max() <= (0 if case in DEMO else 1)


class Fast:
    """A generator of a third party, which computes products and convolutions as the switches say."""

    info = GeneratorInfo("fast", "image", (1, 4, 4))

    def sample(self, request):
        x = request.normal(1, 4, 4)
        return Images.from_signed(torch.conv2d(x @ x, x[:1, :, :1, :1]).tanh())

    def nll(self, items, request):
        return NegativeLogLikelihood((request.normal(4, 4) @ request.normal(4, 1)).sum((1, 2)).double(), 16, "exact")


@pytest.mark.parametrize("switch", ["fast", "fast_anew"])
def test_float32_of_any_generator_is_computed_in_full(request, switch):
    request.getfixturevalue(switch)
    with pretended() as device:
        validation.sample(Fast(), asked(device.device))
        validation.nll(Fast(), "fast", Images(torch.zeros(N, 1, 4, 4, dtype=torch.uint8)), asked(device.device))
    assert device.full_float32.total() == 3


def test_less_precision_is_the_choice_of_code_within_the_call():
    class Faster(Fast):
        def sample(self, request):
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            with torch.autocast("cpu", torch.bfloat16):
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
            return super().sample(request)

    before = torch.backends.cuda.matmul.fp32_precision
    with PretendedDevice() as device:
        validation.sample(Faster(), asked(device.device))
    assert (device.tf32.total(), device.full_float32.total()) == (1, 1)
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_a_device_without_a_number_means_that_of_the_request():
    device = PretendedDevice()
    with device:
        validation.sample(Fast(), asked(device.device))
    assert device.made_current[:2] == [0, 0]


# --- random numbers of the process ---


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_draws_from_the_generator_of_a_device_are_seeded_noticed_and_forgotten(kind):
    with PretendedDevice(kind) as device:
        x = device.tensor(torch.ones(3))
        draws = (
            lambda: torch.randn(3, device=device.device),
            lambda: torch.rand_like(x),
            lambda: torch.dropout(x, 0.5, train=True),
            lambda: x.clone().normal_(),
            lambda: torch.randn(3),
        )
        for draw in draws:
            before = torch.get_rng_state(), device.generator.get_state()
            found = []
            for _ in range(2):
                with seeded(5, device.device) as is_used:
                    found.append(draw().cpu())
                    assert is_used()
            assert torch.equal(*found)
            assert all(map(torch.equal, before, (torch.get_rng_state(), device.generator.get_state())))
        with seeded(5, device.device) as is_used:
            x.mul(2)
            assert not is_used()


def test_the_generators_of_other_devices_are_not_touched(monkeypatch):
    others = [torch.Generator().manual_seed(index) for index in range(3)]
    monkeypatch.setattr(torch.cuda, "default_generators", tuple(others))
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", pytest.fail)
    before = [each.get_state() for each in others]
    with seeded(5, torch.device("cuda", 1)):
        changed = [not torch.equal(each.get_state(), state) for each, state in zip(others, before, strict=True)]
    assert changed == [False, True, False]
    assert all(torch.equal(each.get_state(), state) for each, state in zip(others, before, strict=True))
