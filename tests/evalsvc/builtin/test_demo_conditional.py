"""Claims about the shipped class-conditional generators, and about the one that lost a class."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from evalsvc.builtin.demo import shipped_by_class
from evalsvc.builtin.demo.digits import splits
from evalsvc.builtin.extractors.digits_cnn import DigitsCNN
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.metrics.functional import frechet_distance
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Images, SampleRequest

CPU = torch.device("cpu")
LAST = {each.family: each for each in shipped_by_class()}
FAMILIES = ["conditional-flow", "conditional-gan"]


@functools.cache
def generator(family, step=None):
    one = next(s for s in shipped_by_class() if s.family == family and s.step == (step or LAST[family].step))
    return Plugins().get(PluginKind.GENERATOR, one.generator).load()(Checkpoint.open(one.path, family, one.step), CPU)


def request(count, seed=7, start=0):
    rows = torch.arange(start, start + count)
    return dataclasses.replace(SampleRequest.of(seed, start, start + count), labels=rows % 10)


@functools.cache
def read(family, step=None):
    """Features of 1,000 samples, and the share of each class that the classifier reads as what was asked for."""
    asked = request(1000)
    arrays = DigitsCNN(CPU).extract(generator(family, step).sample(asked))
    right = (arrays["logits"].argmax(1) == asked.labels).view(-1, 10).double().mean(0)
    return arrays["features"], right.numpy()


def distance(family, step=None):
    train = DigitsCNN(CPU).extract(Images(splits()[0].pixels))["features"]
    return frechet_distance(read(family, step)[0], train).value


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trained_models_draw_the_digit_that_is_asked_for(family):
    _, right = read(family)
    assert right.mean() > 0.94
    assert right.min() > 0.85


def test_a_gan_learns_how_digits_look_before_it_listens_to_their_labels():
    assert read("conditional-gan", 1000)[1].mean() < 0.3
    assert distance("conditional-gan", 1000) < 100


def test_the_checkpoint_that_lost_the_threes_has_a_good_distance_and_draws_none():
    _, right = read("conditional-gan-without-3")
    assert np.argmin(right) == 3
    assert right[3] < 0.1
    assert np.delete(right, 3).min() > 0.9
    complete_but_early = distance("conditional-gan", 2000)
    assert distance("conditional-gan-without-3") < 0.6 * complete_but_early
    assert read("conditional-gan", 2000)[1].min() > 0.4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_and_a_label_give_their_sample_in_any_batch(family):
    whole = generator(family).sample(request(40)).pixels.int()
    parts = torch.cat([generator(family).sample(request(n, start=a)).pixels.int() for a, n in ((0, 1), (1, 39))])
    assert (whole - parts).abs().max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_another_label_gives_another_sample(family):
    asked = request(10)
    other = dataclasses.replace(asked, labels=(asked.labels + 1) % 10)
    drawn, changed = (generator(family).sample(each).pixels for each in (asked, other))
    assert (drawn != changed).flatten(1).any(1).all()


def test_a_digit_is_likelier_given_its_own_label():
    digits = splits()[1]
    own = torch.from_numpy(digits.labels[:200])
    images = Images(digits.pixels[:200])
    asked = SampleRequest.of(0, 0, 200)
    nats = [
        generator("conditional-flow").nll(images, dataclasses.replace(asked, labels=labels)).nats
        for labels in (own, (own + 1) % 10)
    ]
    assert (nats[0] < nats[1]).double().mean() > 0.95


@pytest.mark.parametrize("family", FAMILIES)
def test_a_request_without_a_known_label_is_refused_with_the_way_out(family):
    with pytest.raises(InputError, match="add 'items: {labels: {classes: 10}}'"):
        generator(family).sample(SampleRequest.of(0, 0, 2))
    with pytest.raises(InputError, match="classes 0 to 9, not 10"):
        generator(family).sample(dataclasses.replace(SampleRequest.of(0, 0, 1), labels=torch.tensor([10])))
