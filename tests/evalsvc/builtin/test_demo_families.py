"""Claims about the shipped generators: what they make, how it gets better, and that their likelihoods are proper."""

import functools
import itertools
import math

import pytest
import torch

from evalsvc.builtin.demo import shipped
from evalsvc.builtin.demo.digits import LEVELS, PIXELS, gray, splits
from evalsvc.builtin.extractors.digits_cnn import DigitsCNN
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.metrics.functional import frechet_distance, precision_recall
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import Likelihood
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Images, SampleRequest

CPU = torch.device("cpu")
STEPS = {family: [s.step for s in group] for family, group in itertools.groupby(shipped(), lambda s: s.family)}
FAMILIES = sorted(STEPS)
LIKELIHOODS = [family for family in FAMILIES if family != "gan"]


@functools.cache
def generator(family, step=None):
    path = {s.step: s.path for s in shipped() if s.family == family}
    step = STEPS[family][-1] if step is None else step
    make = Plugins().get(PluginKind.GENERATOR, family).load()
    return make(Checkpoint.open(path[step], family, step), CPU)


@functools.cache
def features(family, step):
    samples = generator(family, step).sample(SampleRequest.of(7, 0, 1000))
    return DigitsCNN(CPU).extract(samples)["features"]


@functools.cache
def real():
    return DigitsCNN(CPU).extract(Images(splits()[0].pixels))["features"]


def nats(family, pixels, step=None, seed=0):
    return generator(family, step).nll(Images(pixels), SampleRequest.of(seed, 0, len(pixels))).nats


# --- samples ---


def test_five_families_are_shipped_at_six_steps_each():
    assert FAMILIES == ["autoregressive", "ddpm", "flow", "gan", "vae"]
    assert all(len(steps) == 6 and steps[0] == 0 for steps in STEPS.values())
    assert sum(s.path.stat().st_size for s in shipped()) < 6e6


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_grey_8x8_images_one_a_seed(family):
    samples = validation.sample(generator(family), SampleRequest.of(0, 0, 9)).samples
    assert samples.pixels.shape == (9, 1, 8, 8)
    assert samples.pixels.dtype == torch.uint8
    assert len(samples.pixels.unique(dim=0)) == 9


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_its_sample_whatever_the_batch(family):
    whole = generator(family).sample(SampleRequest.of(3, 0, 70)).pixels.int()
    cuts = [(0, 1), (1, 2), (2, 37), (37, 70)]
    parts = torch.cat([generator(family).sample(SampleRequest.of(3, a, b)).pixels.int() for a, b in cuts])
    assert (whole - parts).abs().max() <= 1
    again = generator(family).sample(SampleRequest.of(3, 0, 70)).pixels.int()
    assert whole.equal(again)
    assert not whole.equal(generator(family).sample(SampleRequest.of(4, 0, 70)).pixels.int())


@pytest.mark.parametrize("family", FAMILIES)
def test_frechet_distance_falls_at_every_step(family):
    distances = [frechet_distance(features(family, step), real()).value for step in STEPS[family]]
    assert all(later < 0.96 * earlier for earlier, later in itertools.pairwise(distances)), distances
    assert distances[-1] < 50


def test_the_gan_collapses_on_its_way():
    recalls = [precision_recall(features("gan", step), real())["recall"].value for step in (500, 4000)]
    assert recalls[0] < 0.02
    assert recalls[1] > 0.4


# --- likelihoods ---


def test_all_but_the_gan_know_how_likely_an_image_is():
    assert [family for family in FAMILIES if isinstance(generator(family), Likelihood)] == LIKELIHOODS


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_likelihoods_say_their_kind_and_the_dimensions_they_are_over(family):
    found = generator(family).nll(Images(splits()[1].pixels[:3]), SampleRequest.of(0, 0, 3))
    assert found.kind == ("exact" if family == "autoregressive" else "upper_bound")
    assert found.units == 64
    assert found.nats.shape == (3,)
    assert found.nats.dtype == torch.float64


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_the_likelihood_of_unseen_digits_improves_with_training(family):
    means = [nats(family, splits()[1].pixels[:300], step).mean().item() for step in STEPS[family]]
    hardly = 0.005 * PIXELS * math.log(2)
    assert all(later < earlier + hardly for earlier, later in itertools.pairwise(means)), means
    assert means[-1] < min(means[:-2]) - 4 * hardly


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_digits_are_likelier_than_their_pixels_shuffled(family):
    pixels = splits()[1].pixels[:200]
    order = torch.randperm(PIXELS, generator=torch.Generator().manual_seed(0))
    shuffled = pixels.flatten(1)[:, order].view_as(pixels)
    assert (nats(family, pixels) < nats(family, shuffled)).all()


@pytest.mark.parametrize("step", [0, -1])
@pytest.mark.parametrize("family", LIKELIHOODS)
def test_noise_costs_no_less_than_its_entropy(family, step):
    levels = torch.randint(LEVELS, (300, PIXELS), generator=torch.Generator().manual_seed(0))
    found = nats(family, gray(levels), STEPS[family][step])
    stderr = found.std() / math.sqrt(len(found))
    assert found.mean() > PIXELS * math.log(LEVELS) - 4 * stderr - 1e-6


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_no_model_codes_the_training_half_below_its_entropy(family):
    pixels = splits()[0].pixels
    assert nats(family, pixels).mean() > math.log(len(pixels))


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_a_likelihood_does_not_depend_on_the_batch(family):
    pixels, whole = splits()[1].pixels[:40], nats(family, splits()[1].pixels[:40])
    cuts = [(0, 1), (1, 18), (18, 40)]
    model = generator(family)
    parts = torch.cat([model.nll(Images(pixels[a:b]), SampleRequest.of(0, a, b)).nats for a, b in cuts])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-3)
    assert nats(family, pixels).equal(whole)


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_images_of_another_size_have_no_likelihood(family):
    with pytest.raises(InputError, match="not of 1x9x9"):
        nats(family, torch.zeros(2, 1, 9, 9, dtype=torch.uint8))
