"""Checks of plug-ins: what ships keeps its contract, and each breach is found by the clause that it breaks."""

import numpy as np
import pytest
import torch

from evalsvc.builtin.demo.digits import digits_reference
from evalsvc.builtin.demo.prose import prose_tiny_reference
from evalsvc.builtin.extractors.digits_cnn import DigitsCNN
from evalsvc.builtin.extractors.pixels import Pixels
from evalsvc.metrics.registry import METRICS, MetricSpec, Quantity
from evalsvc.metrics.score import Direction, Score
from evalsvc.plugins.conformance import check_extractor, check_judge, check_metric, check_reference
from evalsvc.plugins.interfaces import ExtractorInfo, JudgeInfo, Reference
from evalsvc.plugins.samples import Images, Texts

CPU = torch.device("cpu")


def broken(findings):
    return [finding.check for finding in findings if not finding.ok]


class Means:
    """Mean level of each channel, unless the test says otherwise."""

    def __init__(self, extract=None, **facts):
        facts = {"name": "means", "weights": "none", "preprocessing": "mean levels", "outputs": {"mean": 1}} | facts
        self.info = ExtractorInfo(modality="image", **facts)
        self.given = extract or (lambda pixels: pixels.float().mean((1, 2, 3))[:, None])

    def extract(self, samples):
        assert isinstance(samples, Images)
        return {"mean": self.given(samples.pixels)}


@pytest.mark.parametrize("extractor", [Means(), Pixels(CPU), DigitsCNN(CPU)], ids=lambda each: each.info.name)
def test_an_extractor_that_keeps_its_word_passes(extractor):
    assert broken(check_extractor(extractor)) == []


def random(pixels):
    return torch.rand(len(pixels), 1)


def centered(pixels):
    means = pixels.float().mean((1, 2, 3))[:, None]
    return means - means.mean()


def by_place(pixels):
    return pixels.float().mean((1, 2, 3))[:, None] + torch.arange(len(pixels))[:, None] * 10


@pytest.mark.parametrize(
    ("extractor", "clauses"),
    [
        (Means(random), {"image: determinism, same samples, second run"}),
        (Means(centered), {"image: batches of 1, 5 and 6 samples"}),
        (Means(by_place), {"image: same samples in reverse order"}),
        (Means(lambda pixels: pixels.float().flatten(1)), {"image: shapes, finite values"}),
        (Means(lambda pixels: pixels.float().mean((1, 2, 3))[:, None] / 0), {"image: shapes, finite values"}),
        (Means(outputs={"a/b": 1}), {"outputs: names and dimensions"}),
        (Means(preprocessing=" "), {"facts: name, weights, preprocessing"}),
        (Means(also_takes=frozenset({"text"})), {"text: shapes, finite values"}),
        (Means(mixed_sizes=True), {"image: same shapes and finite values in other batches"}),
    ],
)
def test_each_breach_of_an_extractor_is_found_by_its_clause(extractor, clauses):
    assert clauses <= set(broken(check_extractor(extractor)))


def test_shipped_references_keep_their_word():
    assert broken(check_reference(digits_reference(), "digits")) == []
    assert broken(check_reference(prose_tiny_reference(), "prose-tiny")) == []


class Words:
    """Texts of a reference, unless the test says otherwise."""

    modality = "text"

    def __init__(self, *texts, read=None, digest="0" * 64):
        self.texts, self.given, self.stated = texts, read, digest

    def __len__(self):
        return len(self.texts)

    def digest(self):
        return self.stated

    def read(self, start, stop):
        return self.given(start, stop) if self.given else Texts(self.texts[start:stop])


def by_range(start, stop):
    return Texts(tuple(str(start) for _ in range(start, stop)))


@pytest.mark.parametrize(
    ("reference", "clause"),
    [
        (Reference("other", Words("a", "b")), "name"),
        (Reference("r", Words("a")), "train: two or more samples"),
        (Reference("r", Words("a", "b", digest="none")), "train: a sha256 of the content, stable"),
        (Reference("r", Words("a", "b", read=lambda i, j: Texts(("a",)))), "train: type and count"),
        (Reference("r", Words("a", "b", read=by_range)), "train: same samples in another range"),
        (Reference("r", Words("a", "b", read=lambda i, j: 1 / 0)), "train: readable"),
        (Reference("r", Words("a", "b"), Words("a", "b")), "splits: different samples"),
    ],
)
def test_each_breach_of_a_reference_is_found_by_its_clause(reference, clause):
    assert clause in broken(check_reference(reference, "r"))


@pytest.mark.parametrize("name", ["frechet_distance", "distinct_n", "inception_score"])
def test_shipped_metrics_keep_their_word(name):
    assert broken(check_metric(METRICS[name])) == []


def metric_of(value, name="height", low=0.0):
    def height(x):
        return Score(name, value(x), None, None, None, len(x), Direction.HIGHER, "m", "none: a trial")

    return MetricSpec("height", height, (Quantity("height", Direction.HIGHER, "m", low=low),), 1)


@pytest.mark.parametrize(
    ("metric", "clause"),
    [
        (metric_of(lambda x: -1.0), "height: value in its range, standard error not negative"),
        (metric_of(lambda x: np.random.rand()), "determinism: same arrays, second run"),
        (metric_of(lambda x: 1.0, name="depth"), "quantities: as declared"),
        (metric_of(lambda x: x.__setitem__(0, 0)), "scores of trial arrays"),
    ],
)
def test_each_breach_of_a_metric_is_found_by_its_clause(metric, clause):
    assert clause in broken(check_metric(metric))


class Asked:
    """Answers as the test says."""

    info = JudgeInfo("asked", "says what it is told")

    def __init__(self, answer):
        self.compare = answer


def test_a_judge_gives_one_of_four_answers_and_the_same_again():
    counts = iter(range(1000))
    assert broken(check_judge(Asked(lambda *_: "tie"))) == []
    assert broken(check_judge(Asked(lambda *_: "A"))) == ["answers"]
    assert broken(check_judge(Asked(lambda *_: ("first", "second")[next(counts) // 4 % 2]))) == [
        "determinism: same questions, second run"
    ]
