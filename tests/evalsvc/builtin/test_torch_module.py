"""Claims about networks: which parameter receives what, how output is read, and that each sample stands alone."""

import random
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.builtin.generators.torch_module import TorchModule
from evalsvc.core.errors import InputError, ModelError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.integrations.python.in_memory import module_plugin
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Videos

CPU = torch.device("cpu")
ASKED = SampleRequest.of(0, 0, 6)
NONE, LABEL, SOURCE = frozenset(), frozenset({"label"}), frozenset({"source"})


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


class Optional(Conditional):
    def forward(self, noise, class_labels=None):
        return super().forward(noise, torch.zeros(len(noise)).long() if class_labels is None else class_labels)


class Demanding(Plain):
    def forward(self, z, y, camera):
        return super().forward(z)


class StyleGAN(Plain):
    """The signature and attributes of StyleGAN: labels are vectors, of no numbers if there are no classes."""

    def __init__(self, c_dim=10):
        super().__init__()
        self.z_dim, self.c_dim, self.img_resolution = 100, c_dim, 8
        self.layer = torch.nn.Linear(100 + c_dim, 64)

    def forward(self, z, c, truncation_psi=1, noise_mode="random", **synthesis):
        assert c.dtype == torch.float32
        return super().forward(torch.cat([z, c], 1))


class Translator(torch.nn.Module):
    """An image in, an image out, as for a CycleGAN; or an autoencoder, which names its latents."""

    latent_dim = 8

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, input):
        return self.layer(input).tanh()


class Negative(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, image):
        return self.factor * image


class Perceptron(Plain):
    def forward(self, x):
        return super().forward(x)


class Diffusion(torch.nn.Module):
    """The signature of the samplers of denoising-diffusion-pytorch, which take a network and draw their own noise."""

    def __init__(self, model, *, image_size, timesteps=2):
        super().__init__()
        self.model, self.image_size, self.timesteps = model, image_size, timesteps

    def forward(self, img, *args, **kwargs):
        raise AssertionError("that is the loss")

    def sample(self, batch_size=16, return_all_timesteps=False):
        images = torch.randn(batch_size, 3, self.image_size, self.image_size)
        for _ in range(self.timesteps):
            images = images - 0.1 * self.model(images) + 0.1 * torch.randn_like(images)
        return (images + 1) / 2


class Autoencoder(Plain):
    latent_dim = 100

    def forward(self, image):
        return image

    def half(self):
        return super().half()

    def decode(self, latents):
        return {"sample": super().forward(latents), "loss": None}


class Noisy(Plain):
    """Latents, and noise of its own from three sources."""

    def forward(self, z):
        return super().forward(z) + 0.3 * torch.randn(1) + 0.1 * np.random.rand() + 0.1 * random.random()


class Threaded(Plain):
    """Asked for batches of these sizes, while another thread draws from Python's random numbers."""

    def forward(self, z):
        self.sizes = [*getattr(self, "sizes", ()), len(z)]
        random.random()
        return super().forward(z)


class Guided(Conditional):
    """The signature of samplers with guidance, whose labels say how many samples there are."""

    def sample(self, classes, cond_scale=6.0):
        return super().forward(torch.randn(len(classes), 100), classes)


class Reader(Plain):
    def forward(self, texts):
        return torch.stack([torch.full((1, 8, 8), len(text) / 100) for text in texts])


Returned = namedtuple("Returned", "sample")


class Shaped(torch.nn.Module):
    """Returns what it was built for."""

    def __init__(self, shape, kind="tensor"):
        super().__init__()
        self.shape, self.kind = shape, kind

    def forward(self, z):
        tensor = torch.sin(z.sum(1)).view(-1, *[1] * len(self.shape)).expand(-1, *self.shape) * 0.5
        return {"tensor": tensor, "tuple": (tensor, 1), "named": Returned(tensor), "none": None}[self.kind]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def make(kind, network=None, **options):
        path = tmp_path_factory.mktemp("weights") / "step_1.safetensors"
        save_file((network or kind()).state_dict(), path)
        return TorchModule(Checkpoint.open(path, "m", 1), CPU, module=f"{__name__}:{kind.__name__}", **options)

    return make


def pixels(generator, request=ASKED):
    return generator.sample(request).pixels


@pytest.mark.parametrize(
    ("kind", "takes", "needs"),
    [(Plain, NONE, NONE), (Conditional, LABEL, LABEL), (Optional, LABEL, NONE)],
)
def test_parameters_receive_what_their_names_say(make, kind, takes, needs):
    info = make(kind, latent=100).info
    assert (info.takes, info.needs, info.modality, info.sample_shape) == (takes, needs, "image", (1, 8, 8))


def test_each_sample_is_of_its_label(make):
    for kind in (Conditional, Optional):
        generator, asked = make(kind, latent=100, classes=10), SampleRequest.of(0, 0, 10)
        threes, mixed = (
            pixels(generator, replace(asked, labels=labels)) for labels in (torch.full((10,), 3), torch.arange(10))
        )
        assert (threes == mixed).flatten(1).all(1).nonzero().tolist() == [[3]]


def test_a_request_without_labels_names_the_way_out(make):
    with pytest.raises(InputError, match="add 'items: {labels: {classes: N}}' to the suite"):
        make(Conditional, latent=100).sample(ASKED)


def test_labels_beyond_the_classes_never_reach_the_module(make):
    request = replace(SampleRequest.of(0, 0, 2), labels=torch.tensor([0, 10]))
    with pytest.raises(InputError, match="label 10 is not a class of Conditional.forward, which has 0 to 9"):
        make(Conditional, latent=100, classes=10).sample(request)
    with pytest.raises(InputError, match="some items do not have one"):
        make(Conditional, latent=100).sample(replace(request, labels=torch.tensor([0, -1])))


def test_a_stylegan_says_its_latents_and_takes_labels_as_vectors(make):
    labeled = make(StyleGAN)
    assert labeled.info.needs == LABEL
    threes, fours = (pixels(labeled, replace(ASKED, labels=torch.full((6,), label))) for label in (3, 4))
    assert not torch.equal(threes, fours)
    with pytest.raises(InputError, match="label 10 is not a class"):
        labeled.sample(replace(ASKED, labels=torch.full((6,), 10)))
    plain = make(StyleGAN, StyleGAN(0), arguments={"c_dim": 0})
    assert (plain.info.takes, plain.info.needs) == (NONE, NONE)
    assert pixels(plain).shape == (6, 1, 8, 8)


def test_an_image_becomes_an_image_of_its_size(make):
    sources = Images(torch.randint(0, 256, (6, 3, 8, 12), dtype=torch.uint8))
    generator = make(Translator)
    assert (generator.info.takes, generator.info.needs) == (SOURCE, SOURCE)
    assert pixels(generator, replace(ASKED, sources=sources)).shape == (6, 3, 8, 12)
    for output, inverse in (("signed", 255 - sources.pixels.int()), ("unit", torch.zeros(6, 3, 8, 12))):
        negative = make(Negative, output=output)
        assert (pixels(negative, replace(ASKED, sources=sources)).int() - inverse).abs().max() <= 1
    unit = pixels(make(Negative, output="signed", source="unit"), replace(ASKED, sources=sources))
    assert int(unit.max()) == 128  # black is 0, and its negative the middle of [-1, 1]


def test_sources_of_several_sizes_are_translated_one_by_one(make):
    sizes = MixedImages(tuple(torch.full((3, 8 + i, 8), 40 * i, dtype=torch.uint8) for i in range(6)))
    drawn = make(Translator).sample(replace(ASKED, sources=sizes))
    assert [item.shape for item in drawn.items] == [item.shape for item in sizes.items]


def test_a_sampler_of_another_package_draws_each_sample_from_its_seed_alone(make):
    arguments = {
        "model": {"module": "torch.nn:Conv2d", "arguments": {"in_channels": 3, "out_channels": 3, "kernel_size": 1}},
        "image_size": 8,
    }
    network = Diffusion(torch.nn.Conv2d(3, 3, 1), image_size=8)
    generator = make(Diffusion, network, call="sample", output="unit", arguments=arguments)
    whole = pixels(generator)
    assert torch.equal(whole, torch.cat([pixels(generator, ASKED.take([i])) for i in range(6)]))
    assert torch.equal(whole.flip(0), pixels(generator, ASKED.take(range(5, -1, -1))))
    assert len({each.numpy().tobytes() for each in whole}) == 6
    assert [finding for finding in check_generator(generator, CPU) if not finding.ok] == []


def test_a_module_with_noise_of_its_own_is_called_under_the_seed_of_each_sample(make):
    generator, before = make(Noisy, latent=100), (torch.get_rng_state(), np.random.get_state()[1].tolist())
    whole = pixels(generator)
    assert torch.equal(whole, pixels(generator))
    assert torch.equal(whole[4:], pixels(generator, ASKED.take([4, 5])))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_random_numbers_of_other_threads_do_not_end_batches(make):
    generator = make(Threaded, latent=100)
    generator.sample(ASKED)
    assert generator._sampler._function.sizes == [2, 6]


def test_a_sampler_of_labels_draws_its_own_noise(make):
    generator, classes = make(Guided, call="sample"), torch.tensor([0, 1, 2, 0, 1, 2])
    assert generator.info.needs == LABEL
    drawn = pixels(generator, replace(ASKED, labels=classes))
    assert torch.equal(drawn[2:4], pixels(generator, replace(ASKED, labels=classes).take([2, 3])))
    assert not torch.equal(drawn[0], drawn[3])


def test_a_method_takes_latents_of_the_size_that_the_module_names(make):
    generator = make(Autoencoder, call="decode")
    assert torch.equal(pixels(generator), pixels(make(Plain, generator._sampler._function.__self__, latent=100)))
    with pytest.raises(InputError, match="option call='encode' is not a method of Autoencoder"):
        make(Autoencoder, call="encode")


def test_inputs_say_what_a_parameter_receives(make):
    generator = make(Reader, inputs={"texts": "prompt"})
    assert generator.info.needs == {"prompt"}
    drawn = pixels(generator, replace(ASKED, prompts=("a",) * 3 + ("a" * 50,) * 3))
    assert torch.equal(drawn[:3], drawn[:1].expand(3, -1, -1, -1))
    assert int(drawn[3, 0, 0, 0]) == 191  # 0.5 of [-1, 1]
    with pytest.raises(InputError, match="add 'items: {file: FILE, prompt: COLUMN}'"):
        generator.sample(ASKED)


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        (Demanding, {"latent": 100}, "Demanding.forward takes z, y, camera, and .* what camera should receive"),
        (Reader, {}, "takes latents, whose shape .*, or say with option inputs what else texts is"),
        (Perceptron, {}, "Perceptron.forward takes latents, whose shape Perceptron does not name"),
        (Plain, {}, "takes latents, whose shape Plain does not name .*: give it as option latent"),
        (Plain, {"latent": 100, "classes": 10}, "Plain.forward has no parameter for them: remove the option"),
        (Plain, {"latent": 100, "inputs": {"y": "label"}}, "option inputs names 'y', but .* takes z, truncation"),
        (Plain, {"latent": 100, "inputs": {"z": "label"}}, "but Plain.forward does not receive any: omit it, or say"),
        (Plain, {"inputs": {}}, "cannot tell what z should receive"),
        (Autoencoder, {"call": "half"}, "takes nothing, but no latents, labels"),
        (Conditional, {"latent": 100, "inputs": {"z": "latent", "y": "latent"}}, "would receive latents as z and y"),
        (Plain, {"latent": 0}, "invalid option latent=0 of generator 'torch-module': input should be greater than 0"),
        (Plain, {"output": "bytes"}, "invalid option output='bytes' .* 'signed' or 'unit'"),
        (
            Plain,
            {"inputs": {"z": "noise"}},
            "invalid option inputs=.* 'latent', 'label', 'source', 'prompt' or 'count'",
        ),
        (Plain, {"latents": 100}, "unknown option latents of generator 'torch-module': use latent, inputs"),
        (Plain, {"latent": 99}, r"Plain.forward failed on latent z of shape \(2, 99\): RuntimeError"),
        (Plain, {"arguments": {"depth": 3}}, "cannot be built with these arguments .*: correct option arguments"),
    ],
)
def test_each_mistake_is_one_sentence_with_the_way_out(make, kind, options, complaint):
    with pytest.raises((InputError, ModelError), match=complaint) as caught:
        make(kind, **options)
    assert "\n" not in str(caught.value)


def test_samples_are_what_the_shape_of_the_output_says(make):
    def drawn(shape, kind="tensor", **options):
        arguments = {"shape": shape, "kind": kind}
        return make(Shaped, Plain(), latent=4, arguments=arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalsvc.builtin.generators.torch_module.load_into", lambda *_: "")
        for kind in ("tensor", "tuple", "named"):
            assert drawn([3, 8, 8], kind).info.sample_shape == (3, 8, 8)
        assert drawn([8, 8], modality="image").info.sample_shape == (1, 8, 8)
        for shape, frames in (([5, 3, 8, 9], (5, 3, 8, 9)), ([3, 5, 8, 9], (5, 3, 8, 9)), ([3, 1, 8, 9], (3, 1, 8, 9))):
            assert isinstance(drawn(shape).sample(ASKED), Videos)
            assert drawn(shape).info.sample_shape == frames
        assert drawn([5, 8, 9], modality="video").info.sample_shape == (5, 1, 8, 9)
        for shape in ([1000], [1, 1000]):
            sounds = drawn(shape, rate=8000).sample(ASKED)
            assert isinstance(sounds, Audio)
            assert (sounds.rate, sounds.waves[5].shape) == (8000, (1000,))
        for shape, options, complaint in (
            ([1000], {}, "give its sample rate in Hz as option rate"),
            ([2, 1000], {"rate": 8000}, r"returned shape \(2, 2, 1000\), expected images \(n, c, h, w\)"),
            ([3, 8, 8], {"modality": "audio"}, "option modality=audio"),
        ):
            with pytest.raises(ModelError, match=complaint):
                drawn(shape, **options)
        with pytest.raises(ModelError, match="returned NoneType, expected a tensor, a tuple"):
            drawn([1], "none")


def test_a_module_of_this_process_takes_labels_too():
    generator = module_plugin(Conditional(), "m", "image").load()(None, CPU, latent=100)
    assert generator.info.needs == {"label"}
    request = replace(SampleRequest.of(0, 0, 3), labels=torch.arange(3))
    assert generator.sample(request).pixels.shape == (3, 1, 8, 8)
    assert module_plugin(Autoencoder(), "m", "image").load()(None, CPU, call="decode").sample(ASKED)
