"""Right values in evaluations: noise and loops are beaten by what is as diverse, and as likely, as real samples."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from evalsvc.analysis.nearness import distances
from evalsvc.builtin.demo.digits import digits_reference
from evalsvc.builtin.demo.prose import prose_reference
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.right_values import RightValue, cut_to, subsets_of
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.metrics import functional
from evalsvc.metrics.functional import distinct_n, vendi_score
from evalsvc.metrics.tokenizers import mixed
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.store import queries, tables

DIGITS = {
    "name": "few-digits",
    "version": 1,
    "modality": "image",
    "reference": "digits",
    "samples": 200,
    "gallery": 0,
    "extractors": {"pixels": {"use": "pixels"}, "cnn": {"use": "digits-cnn"}},
    "metrics": [
        {"metric": "vendi_score", "features": "pixels/pixels"},
        {"metric": "ct_score", "features": "cnn/features"},
    ],
}
PROSE = prose_reference()
WRITTEN = PROSE.train.read(0, 323).items
COUNTS = Counter(pair for text in WRITTEN for pair in pairwise(text))


class Bigrams:
    """Likelihoods by the pairs of letters of a novel: fluent is what repeats its most frequent ones."""

    info = ExtractorInfo("bigrams", "text", {"nll": 1, "tokens": 1, "words": 1, "bytes": 1}, "none", "")

    def __init__(self, device):
        pass

    def extract(self, samples):
        nll = [sum(math.log(1e5 / (COUNTS[pair] + 0.5)) for pair in pairwise(text)) for text in samples.items]
        sizes = {"tokens": [len(text) for text in samples.items], "words": [len(t.split()) for t in samples.items]}
        columns = {"nll": nll, **sizes, "bytes": [len(text.encode()) for text in samples.items]}
        return {name: torch.tensor(column, dtype=torch.float32)[:, None] for name, column in columns.items()}


@pytest.fixture
def context(home):
    plugins = Plugins()
    plugins.add(Plugin(PluginKind.EXTRACTOR, "bigrams", "tests", "1", lambda: Bigrams))
    return EvaluationContext(Settings(home=home), plugins, "cpu")


TEXTS = {
    "name": "few-texts",
    "version": 1,
    "modality": "text",
    "reference": "prose",
    "samples": 60,
    "gallery": 0,
    "extractors": {"scorer": {"use": "bigrams"}},
    "metrics": [
        {"metric": "bits_per_byte", "features": "scorer", "label": "fluency"},
        {"metric": "distinct_n", "options": {"tokenizer": "mixed"}},
        {"metric": "repetition", "options": {"n": 2, "tokenizer": "mixed"}},
        {"metric": "compression_ratio"},
    ],
}


def score(context, path, body):
    spec = plan(context, Checkpoint.open(path, path.stem, 1), "samples", {}, Suite.model_validate(body))
    number = evaluate(spec, context)
    with context.database.read() as session:
        return {row.label: row for row in queries.scores(session, evaluation=number)}


def images(tmp_path, name, pixels):
    np.save(tmp_path / f"{name}.npy", pixels)
    return tmp_path / f"{name}.npy"


def texts(tmp_path, name, documents):
    (tmp_path / f"{name}.txt").write_text("\f".join(documents))
    return tmp_path / f"{name}.txt"


def surely_nearer(near, far):
    near, far = distances([near, far])
    return near.interval[1] < far.interval[0]


def test_noise_is_more_diverse_than_real_digits_and_farther_from_them(context, tmp_path):
    heldout = digits_reference().heldout.read(0, 200).pixels.numpy()
    noise = np.uint8(255) * (np.random.default_rng(0).random(heldout.shape) < 0.2)
    real = score(context, images(tmp_path, "real", heldout), DIGITS)
    random = score(context, images(tmp_path, "noise", noise), DIGITS)
    assert random["vendi_score"].value > 2 * real["vendi_score"].value
    assert surely_nearer(real["vendi_score"], random["vendi_score"])
    # The mean of four disjoint subsets of the reference, each as large as the samples.
    train = digits_reference().train.read(0, 898).pixels.reshape(898, -1).numpy() / 255
    expected = [vendi_score(train[np.sort(rows)]) for rows in subsets_of(898, 200, False)]
    assert len(expected) == 4
    assert real["vendi_score"].target == pytest.approx(np.mean([each.value for each in expected]), rel=1e-5)
    assert random["vendi_score"].target == real["vendi_score"].target
    assert 0.4 < real["vendi_score"].target_stderr / real["vendi_score"].stderr < 0.7
    # C_T has the right value 0, whatever the reference.
    assert (real["ct_score"].target, real["ct_score"].target_stderr) == (0.0, 0.0)
    # The right value takes no part in the protocol, so that scores from before stay comparable.
    assert not {"target", "reference", "train"} & set(real["vendi_score"].facts)


def test_looping_texts_are_the_most_likely_and_farther_from_what_people_wrote(context, tmp_path):
    heldout = [text[:400] for text in PROSE.heldout.read(0, 60).items]
    loops = ["and the other " * 28 + str(i) for i in range(60)]
    real = score(context, texts(tmp_path, "real", heldout), TEXTS)
    loop = score(context, texts(tmp_path, "loop", loops), TEXTS)
    assert loop["fluency"].value < real["fluency"].value
    for label in ("fluency", "distinct_2", "repetition_2", "compression_ratio"):
        assert surely_nearer(real[label], loop[label]), label
        assert abs(real[label].value - real[label].target) < 4 * np.hypot(real[label].stderr, real[label].target_stderr)


def test_texts_of_the_reference_are_cut_to_the_lengths_of_the_samples(context, tmp_path):
    short = [text[: 50 + i] for i, text in enumerate(PROSE.heldout.read(0, 60).items)]
    found = score(context, texts(tmp_path, "short", short), TEXTS)
    whole = distinct_n(WRITTEN[:60], 2, mixed)
    assert found["distinct_2"].target > 1.2 * whole.value
    assert cut_to(["abcdef", "ab", "abcd", "abc"], [1, 3]) == ["abc", "a", "abc", "a"]


def test_a_reference_of_fewer_samples_has_no_right_value_and_the_evaluation_says_so(context, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 8, 8), dtype=np.uint8)
    found = score(context, images(tmp_path, "noise", noise), DIGITS | {"samples": 900})
    assert found["vendi_score"].target is None
    with context.database.read() as session:
        provenance = session.get_one(tables.Evaluation, found["vendi_score"].evaluation_id).provenance
    reason = "the reference holds 898 samples, fewer than the 900 that are scored"
    assert provenance["no_right_value"] == {"vendi_score": reason}


def test_likelihoods_of_documents_have_a_direction_and_those_of_samples_a_right_value():
    suite = Suite.model_validate(TEXTS | {"metrics": [*TEXTS["metrics"], {"metric": "bits_per_byte", "label": "*"}]})
    targets = {label: use.target_of(quantity) for label, (use, quantity) in suite.measured.items()}
    assert (targets["fluency"], targets["bits_per_byte"]) == ("reference", None)


def test_the_error_of_a_right_value_is_that_of_its_subsets_or_widened_where_they_have_none():
    surely = [functional.repetition([f"a b a {i}", f"c d {i} d c d"] * 20, 2) for i in range(4)]
    assert RightValue.of(surely).stderr == pytest.approx(surely[0].stderr / 2, rel=0.2)
    few = [functional.vendi_score(np.random.default_rng(i).normal(size=(10, 4))) for i in range(4)]
    values = [each.value for each in few]
    assert RightValue.of(few).stderr == pytest.approx(np.std(values, ddof=1) / 2 * 3.182 / 1.96, rel=1e-3)
    assert RightValue.of(few[:1]) == RightValue(values[0], None)
