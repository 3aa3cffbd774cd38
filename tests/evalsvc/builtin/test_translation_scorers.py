"""BLEU, chrF and TER of single texts and of corpora, as ``sacrebleu`` has them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER

from evalsvc.analysis.item_measures import measures_of
from evalsvc.builtin.scorers.translation import Bleu, Chrf, Ter
from evalsvc.core.errors import InputError
from evalsvc.inputs.suite_entries import ScorerQuantity
from evalsvc.inputs.suites import parse_suite
from evalsvc.metrics.corpus import corpus
from evalsvc.plugins.registry import Plugins
from tests.evalsvc.builtin.test_text_scorers import CPU, HOSTILE, quick, scored

words = st.lists(st.sampled_from(["the", "cat", "sat.", "A", "été", "東京", ",", "\ud800"]), max_size=8).map(" ".join)
texts = words | st.sampled_from([each for each in HOSTILE if len(each) < 100])
PAIRS = [
    (Bleu, {}, BLEU, {}),
    (Bleu, {"tokenize": "zh", "lowercase": True}, BLEU, {"tokenize": "zh", "lowercase": True}),
    (Chrf, {}, CHRF, {}),
    (Chrf, {"word_order": 2}, CHRF, {"word_order": 2}),
    (Ter, {}, TER, {}),
    (Ter, {"normalized": True, "asian_support": True}, TER, {"normalized": True, "asian_support": True}),
]


def of_corpus(scorer, outcome):
    """The statistic of all texts by the aggregate, from the quantities that a suite would read."""
    quantity = ScorerQuantity.of(scorer.info.quantities[0]).quantity
    sums = np.stack([outcome.values[name].numpy() for name in quantity.sums], 1)
    return corpus(sums, quantity).value


@pytest.mark.parametrize(("kind", "value"), [(Bleu, 100.0), (Chrf, 100.0), (Ter, 0.0)])
def test_a_text_equal_to_a_target_has_the_best_value(kind, value):
    scorer = kind(CPU)
    outcome = scored(scorer, ["The cat sat on the mat.", ""], [("A dog.", "The cat sat on the mat."), "a cat"])
    best, empty = outcome.values[scorer.info.name].tolist()
    assert best == pytest.approx(value)
    assert empty == (100.0 if kind is Ter else 0.0)
    assert not outcome.reasons


def test_known_corpora():
    """Two of three words right, then one of one: 3 / 4 of the words, not the mean of 2 / 3 and 1."""
    outcome = scored(Ter(CPU), ["a b x", "c"], ["a b c", "c"])
    assert outcome.values["ter"].tolist() == pytest.approx([100 / 3, 0])
    assert of_corpus(Ter(CPU), outcome) == pytest.approx(25)


@pytest.mark.parametrize(("kind", "options", "reference", "same"), PAIRS)
@quick
@given(st.lists(st.tuples(texts, texts, texts), min_size=2, max_size=5))
def test_texts_and_corpora_have_the_values_of_sacrebleu(kind, options, reference, same, rows):
    scorer = kind(CPU, **options)
    samples, first, second = zip(*rows, strict=True)
    outcome = scored(scorer, samples, list(zip(first, second, strict=True)))
    of_texts = reference(**same, **({"effective_order": True} if reference is BLEU else {}))
    expected = [of_texts.sentence_score(row[0], row[1:]).score for row in rows]
    assert outcome.values[scorer.info.name].tolist() == expected
    if kind is Ter and not outcome.values["ter_target_length"].sum():
        return  # 100 or 0 by definition, where a ratio does not exist
    whole = reference(**same).corpus_score(samples, [first, second]).score
    assert of_corpus(scorer, outcome) == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_a_scorer_is_named_alone_where_its_other_quantities_are_sums():
    metrics = [{"metric": "corpus", "of": "x"}, {"metric": "mean", "of": "x"}, {"metric": "mean", "of": "y/ter_edits"}]
    scorers = {"x": {"use": "chrf", "options": {"word_order": 2}}, "y": {"use": "ter"}}
    body = {"name": "t", "version": 1, "modality": "text", "samples": 2, "scorers": scorers, "metrics": metrics}
    suite = parse_suite(body, "suite", Plugins())
    assert suite.labels == ("chrf_corpus", "chrf", "x_failed", "ter_edits", "y_failed")
    measures = measures_of(suite.model_dump(mode="json"))
    assert {measures[name].key for name in ("x", "chrf", "chrf_corpus", "x/chrf")} == {"x/chrf"}
    assert set(measures) - set(suite.labels) == {"x", "x/chrf", "y", "y/ter", "y/ter_edits"}


def test_the_protocol_has_both_signatures():
    facts = Bleu(CPU).info.facts
    assert facts["sentence"].startswith("nrefs:var|case:mixed|eff:yes|tok:13a|smooth:exp|version:")
    assert facts["corpus"].startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert len({kind(CPU, **options).info.protocol for kind, options, _, _ in PAIRS}) == len(PAIRS)


def test_long_texts_keep_no_memory_and_too_long_ones_fail_by_name():
    scorer = Bleu(CPU)
    scored(scorer, ["x" * 100_000], ["a b"])
    assert type(scorer._metric.tokenizer).__call__.cache_info().currsize == 0
    outcome = scored(Ter(CPU), ["x " * 1000, "東" * 1000, "a"], ["y " * 251] * 3)
    assert outcome.reasons == {0: "the text of 1000 words is too long for TER with a target of 251"}
    assert outcome.failed == {0}
    outcome = scored(Ter(CPU, normalized=True, asian_support=True), ["東" * 1000], ["y " * 251])
    assert outcome.failed == {0}


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        (
            Bleu,
            {"tokenize": "flores200"},
            "invalid option tokenize='flores200' of scorer 'bleu': Input should be '13a'",
        ),
        (Chrf, {"word_order": 7}, "invalid option word_order=7 of scorer 'chrf'"),
        (Ter, {"no_punct": "yes"}, "invalid option no_punct='yes' of scorer 'ter'"),
    ],
)
def test_an_option_of_another_kind_is_refused(kind, options, why):
    with pytest.raises(InputError, match=why):
        kind(torch.device("cpu"), **options)
