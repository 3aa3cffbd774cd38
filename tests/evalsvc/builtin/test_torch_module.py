"""Claims about modules that take labels beside latents."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from evalsvc.builtin.generators.torch_module import TorchModule
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.integrations.python.in_memory import module_plugin
from evalsvc.plugins.samples import SampleRequest

CPU = torch.device("cpu")


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(100, 64)

    def forward(self, z, truncation=1.0):
        return self.layer(truncation * z).tanh().view(-1, 1, 8, 8)


class Conditional(Plain):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(110, 64)

    def forward(self, z, y, truncation=1.0):
        assert y.dtype == torch.int64
        return super().forward(torch.cat([z, torch.nn.functional.one_hot(y, 10)], 1), truncation)


class Demanding(Plain):
    def forward(self, z, y, camera):
        return super().forward(z)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def make(kind, **options):
        path = tmp_path_factory.mktemp("weights") / "step_1.safetensors"
        save_file(kind().state_dict(), path)
        return TorchModule(
            Checkpoint.open(path, "m", 1), CPU, module=f"{__name__}:{kind.__name__}", latent=100, **options
        )

    return make


def test_a_second_required_parameter_takes_labels(make):
    assert (make(Plain).info.takes, make(Plain).info.needs) == (frozenset(), frozenset())
    assert (make(Conditional).info.takes, make(Conditional).info.needs) == (frozenset({"label"}),) * 2


def test_each_sample_is_of_its_label(make):
    generator, asked = make(Conditional, classes=10), SampleRequest.of(0, 0, 10)
    threes, mixed = (
        generator.sample(replace(asked, labels=labels)).pixels for labels in (torch.full((10,), 3), torch.arange(10))
    )
    assert (threes == mixed).flatten(1).all(1).nonzero().tolist() == [[3]]


def test_a_request_without_labels_names_the_way_out(make):
    with pytest.raises(InputError, match="add 'items: {labels: {classes: N}}' to the suite"):
        make(Conditional).sample(SampleRequest.of(0, 0, 2))


def test_labels_beyond_the_classes_never_reach_the_module(make):
    request = replace(SampleRequest.of(0, 0, 2), labels=torch.tensor([0, 10]))
    with pytest.raises(InputError, match="label 10 is not a class of Conditional, which has 0 to 9"):
        make(Conditional, classes=10).sample(request)
    with pytest.raises(InputError, match="some items do not have one"):
        make(Conditional).sample(replace(request, labels=torch.tensor([0, -1])))


def test_classes_of_a_module_without_labels_are_refused(make):
    with pytest.raises(InputError, match="does not have a second required parameter"):
        make(Plain, classes=10)


def test_a_third_required_parameter_is_refused(make):
    with pytest.raises(InputError, match="Demanding.forward requires z, y, camera"):
        make(Demanding)


def test_a_module_of_this_process_takes_labels_too():
    generator = module_plugin(Conditional(), "m", "image").load()(None, CPU, latent=100)
    assert generator.info.needs == {"label"}
    request = replace(SampleRequest.of(0, 0, 3), labels=torch.arange(3))
    assert generator.sample(request).pixels.shape == (3, 1, 8, 8)
