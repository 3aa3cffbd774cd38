"""Scorers of images against facts, and against the implementations whose values they give."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from evalsvc.builtin.demo.digits import splits
from evalsvc.builtin.extractors.digits_cnn import DigitsCNN
from evalsvc.builtin.scorers.clip_score import ClipScore
from evalsvc.builtin.scorers.label_accuracy import LabelAccuracy
from evalsvc.builtin.scorers.ms_ssim import MSSSIM
from evalsvc.builtin.scorers.psnr import PSNR
from evalsvc.builtin.scorers.ssim import SSIM
from evalsvc.core.errors import InputError
from evalsvc.metrics.confusion import confusion_matrix
from evalsvc.metrics.errors import MetricError
from evalsvc.metrics.functional import clip_score
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.items import ItemBatch, Message
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Images, MixedImages

CPU = torch.device("cpu")
AGAINST_TARGETS = [PSNR, SSIM, MSSSIM]


def noise(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def batch(count, **columns):
    return ItemBatch(tuple(map(str, range(count))), torch.zeros(count, dtype=torch.int64), **columns)


def compared(kind, images, targets):
    outcome = kind(CPU).score(images, batch(len(images), targets=targets))
    (values,) = outcome.values.values()
    return values.tolist(), outcome


# --- against a target ---


@pytest.mark.parametrize(
    ("kind", "shape", "theirs"),
    [
        (PSNR, (3, 3, 20, 30), lambda a, b: peak_signal_noise_ratio(a, b, data_range=255.0)),
        (SSIM, (3, 3, 20, 30), lambda a, b: structural_similarity_index_measure(a, b, data_range=255.0)),
        (
            MSSSIM,
            (2, 1, 180, 177),
            lambda a, b: multiscale_structural_similarity_index_measure(a, b, data_range=255.0, normalize="relu"),
        ),
    ],
)
def test_values_are_those_of_torchmetrics_on_each_pair_alone(kind, shape, theirs):
    targets = noise(*shape)
    images = (targets.float() + 40 * torch.randn(shape)).clamp(0, 255).to(torch.uint8)
    values, _ = compared(kind, Images(images), Images(targets))
    expected = [float(theirs(a[None].float(), b[None].float())) for a, b in zip(images, targets, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_ssim_is_its_formula():
    image, target = noise(1, 1, 16, 13), noise(1, 1, 16, 13, seed=1)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    x, y = (each[0, 0].double().numpy() for each in (image, target))

    def local(values):
        return correlate(values, window, mode="mirror")

    mx, my = local(x), local(y)
    vx, vy, c = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
    a, b = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = ((2 * mx * my + a) * (2 * c + b) / ((mx**2 + my**2 + a) * (vx + vy + b))).mean()
    (value,), _ = compared(SSIM, Images(image), Images(target))
    assert value == pytest.approx(expected, abs=1e-5)


def test_psnr_of_one_level_on_every_pixel_is_known_and_that_of_equal_images_is_100():
    flat = torch.full((1, 1, 4, 4), 100, dtype=torch.uint8)
    (value,), _ = compared(PSNR, Images(flat), Images(flat + 1))
    assert value == pytest.approx(20 * math.log10(255))
    assert compared(PSNR, Images(flat), Images(flat))[0] == [100.0]
    large = torch.zeros(1, 3, 300, 300, dtype=torch.uint8)
    almost = large.clone()
    almost[0, 0, 0, 0] = 1
    assert compared(PSNR, Images(almost), Images(large))[0] == [100.0]


@pytest.mark.parametrize("kind", AGAINST_TARGETS)
def test_equal_images_have_the_largest_value(kind):
    images = Images(torch.cat([noise(1, 3, 176, 176), torch.zeros(1, 3, 176, 176, dtype=torch.uint8)]))
    values, _ = compared(kind, images, images)
    assert values == pytest.approx([kind.quantities[0].high] * 2)


@pytest.mark.parametrize("kind", AGAINST_TARGETS)
def test_an_image_of_another_size_than_its_target_fails_by_name(kind):
    values, outcome = compared(kind, Images(noise(1, 1, 8, 9)), Images(noise(1, 1, 16, 9)))
    assert math.isnan(values[0])
    assert outcome.reasons == {0: "the image is 8x9 pixels, but its target is 16x9 pixels"}
    assert outcome.failed == {0}


@pytest.mark.parametrize(
    ("kind", "side", "reason"),
    [
        (SSIM, 1, "the window of 11x11 pixels does not fit in 1x1"),
        (SSIM, 10, "the window of 11x11 pixels does not fit in 10x10"),
        (MSSSIM, 175, "five scales of 176 pixels do not fit in 175x175"),
    ],
)
def test_images_smaller_than_the_window_have_no_value(kind, side, reason):
    images = Images(noise(1, 1, side, side))
    values, outcome = compared(kind, images, images)
    assert math.isnan(values[0])
    assert (outcome.reasons, outcome.failed) == ({0: reason}, frozenset())


def test_one_pixel_has_a_psnr():
    (value,), _ = compared(PSNR, Images(noise(1, 1, 1, 1)), Images(noise(1, 1, 1, 1, seed=5)))
    assert math.isfinite(value)


@pytest.mark.parametrize("kind", [PSNR, SSIM])
def test_a_gray_image_is_three_equal_channels_and_sizes_may_differ_within_a_batch(kind):
    gray, other = noise(1, 12, 12), noise(3, 20, 11, seed=2)
    images, targets = MixedImages((gray, other)), MixedImages((noise(3, 12, 12, seed=3), noise(3, 20, 11, seed=4)))
    mixed, _ = compared(kind, images, targets)
    as_rgb, _ = compared(kind, Images(gray.expand(3, -1, -1)[None]), Images(targets.items[0][None]))
    alone, _ = compared(kind, Images(other[None]), Images(targets.items[1][None]))
    assert mixed == as_rgb + alone


def test_targets_that_are_no_images_are_refused():
    with pytest.raises(InputError, match="'psnr' compares images"):
        PSNR(CPU).score(Images(noise(1, 1, 4, 4)), batch(1, targets=(("a",),)))


# --- labels ---


def labeled(scorer, pixels, labels):
    return scorer.score(Images(pixels), batch(len(pixels), labels=torch.as_tensor(labels)))


def test_label_accuracy_is_that_of_the_logits():
    digits = splits()[1]
    logits = DigitsCNN(CPU).extract(Images(digits.pixels[:200]))["logits"]
    outcome = labeled(LabelAccuracy(CPU, extractor="digits-cnn"), digits.pixels[:200], digits.labels[:200])
    top = logits.topk(5).indices.numpy()
    right = top == digits.labels[:200, None]
    assert outcome.values["label_accuracy"].tolist() == right[:, 0].astype(float).tolist()
    assert outcome.values["label_accuracy_top5"].tolist() == right.any(1).astype(float).tolist()
    assert outcome.values["predicted_label"].tolist() == top[:, 0].tolist()
    table = confusion_matrix(digits.labels[:200], outcome.values["predicted_label"].numpy(), 10)
    assert table.sum(1).tolist() == np.bincount(digits.labels[:200], minlength=10).tolist()
    assert np.trace(table) == right[:, 0].sum()


class Logits:
    """Logits by the first pixel."""

    def __init__(self, device, classes=3):
        self.classes = classes
        self.info = ExtractorInfo("first-pixel", "image", {"logits": classes}, "none", "as they are")

    def extract(self, samples):
        first = samples.pixels[:, 0, 0, 0].float()
        return {"logits": -(first[:, None] - torch.arange(self.classes)).abs()}


class Space(Logits):
    """A joint space of pixels and of texts by their lengths."""

    def __init__(self, device):
        self.info = ExtractorInfo("space", "image", {"embedding": 2}, "none", "as they are")

    def extract(self, samples):
        return {"embedding": samples.pixels[:, 0, 0, :2].float() - 100}

    def embed_texts(self, texts):
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


@pytest.fixture
def plugins():
    every = Plugins()
    for name, kind in (("first-pixel", Logits), ("space", Space)):
        every.add(Plugin(PluginKind.EXTRACTOR, name, "tests", "0", lambda kind=kind: kind))
    return every


def test_equal_logits_rank_by_class_and_few_classes_have_no_top_five(plugins):
    scorer = LabelAccuracy(CPU, extractor="first-pixel", options={"classes": 3}, plugins=plugins)
    pixels = torch.tensor([0, 2, 9], dtype=torch.uint8).view(3, 1, 1, 1)
    outcome = labeled(scorer, pixels, [0, 1, 2])
    assert outcome.values["label_accuracy"].tolist() == [1.0, 0.0, 1.0]
    assert outcome.values["label_accuracy_top5"].isnan().all()
    tied = LabelAccuracy(CPU, extractor="first-pixel", options={"classes": 2}, plugins=plugins)
    assert labeled(tied, torch.zeros(1, 1, 1, 1, dtype=torch.uint8), [0]).values["predicted_label"].tolist() == [0.0]


def test_labels_that_are_missing_or_have_no_logit_are_named_outcomes(plugins):
    scorer = LabelAccuracy(CPU, extractor="first-pixel", plugins=plugins)
    outcome = labeled(scorer, torch.zeros(2, 1, 1, 1, dtype=torch.uint8), [-1, 3])
    assert outcome.reasons == {
        0: "the item has no label",
        1: "the label 3 is not one of the 3 classes of the extractor",
    }
    assert outcome.failed == {1}
    assert all(column.isnan().all() for column in outcome.values.values())


def test_the_extractor_is_part_of_the_protocol(plugins):
    one, other = (
        LabelAccuracy(CPU, extractor="first-pixel", options={"classes": n}, plugins=plugins).info for n in (3, 4)
    )
    assert one.protocol != other.protocol
    with pytest.raises(InputError, match="returns logits, not 'classes': set the option 'output'"):
        LabelAccuracy(CPU, extractor="first-pixel", output="classes", plugins=plugins)


def test_a_confusion_outside_of_the_classes_is_refused():
    assert confusion_matrix(np.array([0, 1]), np.array([math.nan, 0.0]), 2).tolist() == [[0, 0], [1, 0]]
    with pytest.raises(MetricError, match="range from 0 to 2; pass 0 to 1"):
        confusion_matrix(np.array([0, 1]), np.array([2.0, 0.0]), 2)


# --- prompts ---


def test_the_mean_of_clip_scores_is_the_metric_of_the_set(plugins):
    scorer = ClipScore(CPU, extractor="space", plugins=plugins)
    pixels, prompts = noise(50, 1, 1, 2), tuple("x" * (i % 7 + 1) for i in range(50))
    outcome = scorer.score(Images(pixels), batch(50, prompts=prompts))
    space = Space(CPU)
    expected = clip_score(space.extract(Images(pixels))["embedding"].numpy(), space.embed_texts(prompts).numpy()).value
    assert float(outcome.values["clip_score"].mean()) == pytest.approx(expected, abs=1e-12)


def test_a_sample_without_prompt_or_direction_is_a_named_outcome(plugins):
    scorer = ClipScore(CPU, extractor="space", plugins=plugins)
    pixels = torch.tensor([[1, 2], [100, 100], [3, 4]], dtype=torch.uint8).view(3, 1, 1, 2)
    chat = (Message("user", "a cat"),)
    outcome = scorer.score(Images(pixels), batch(3, prompts=("", "a cat", chat)))
    assert outcome.reasons[0] == "the item has no prompt"
    assert "length 0" in outcome.reasons[1]
    assert set(outcome.reasons) == {0, 1}


def test_an_extractor_without_texts_is_refused(plugins):
    with pytest.raises(InputError, match="'digits-cnn' does not embed texts"):
        ClipScore(CPU, extractor="digits-cnn", output="features", plugins=plugins)
