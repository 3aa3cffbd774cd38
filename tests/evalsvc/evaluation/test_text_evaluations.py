"""A text suite from checkpoint to leaderboard, on tiny models."""

import json
import math

import numpy as np
import pytest

from evalsvc.builtin.extractors.language import LikelihoodExtractor
from evalsvc.core.errors import InputError
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.references import add_reference
from evalsvc.inputs.suites import Suite, load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import queries
from tests.evalsvc.language_models import save

DOCUMENTS = [f"document {i} says {'so ' * (i % 5)}{i * 7919}" for i in range(23)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: save(root / name, "llama", seed) for seed, name in enumerate(("one_1", "two_2", "scorer"))}


@pytest.fixture
def suite(context, tmp_path, models):
    for split, part in (("train", DOCUMENTS[:12]), ("heldout", DOCUMENTS[12:])):
        (tmp_path / f"{split}.txt").write_text("\f".join(part))
    add_reference(context.database, Plugins(), "documents", tmp_path / "train.txt", tmp_path / "heldout.txt")
    return Suite.model_validate(
        {
            "name": "texts",
            "version": 1,
            "modality": "text",
            "reference": "documents",
            "samples": 40,
            "shard": 16,
            "decoding": {"max_tokens": 12},
            "extractors": {"fluency": {"use": "likelihood", "options": {"model": str(models["scorer"])}}},
            "metrics": [
                {"metric": "perplexity", "against": "heldout", "label": "*"},
                {"metric": "word_perplexity", "against": "heldout", "label": "*"},
                {"metric": "bits_per_byte", "against": "heldout", "label": "*"},
                {"metric": "bits_per_byte", "features": "fluency", "label": "fluency"},
                {"metric": "distinct_n", "options": {"tokenizer": "characters"}},
                {"metric": "compression_ratio"},
            ],
        }
    )


def score(context, suite, path, options=None, seed=None, name="tiny"):
    spec = plan(context, Checkpoint.open(path, name, 1), "causal-lm", options or {}, suite, seed)
    number = evaluate(spec, context)
    with context.database.read() as session:
        return spec, {row.label: row for row in queries.scores(session, evaluation=number)}


def test_likelihoods_are_of_the_held_out_documents_by_tokens_words_and_bytes(context, suite, models):
    _, found = score(context, suite, models["one_1"])
    columns = {
        name: column.sum() for name, column in LikelihoodExtractor(models["one_1"]).extract(DOCUMENTS[12:]).items()
    }
    assert found["perplexity"].value == pytest.approx(math.exp(columns["nll"] / columns["tokens"]))
    assert found["word_perplexity"].value == pytest.approx(math.exp(columns["nll"] / columns["words"]))
    assert found["bits_per_byte"].value == pytest.approx(columns["nll"] / math.log(2) / columns["bytes"])
    assert all(row.stderr > 0 for row in found.values())


def test_fluency_is_the_likelihood_of_samples_under_the_scorer(context, suite, models):
    spec, found = score(context, suite, models["one_1"])
    texts = [text for shard in spec.shards_of("samples") for text in _texts(context, spec, shard)]
    columns = LikelihoodExtractor(models["scorer"]).extract(texts)
    expected = columns["nll"].sum() / math.log(2) / columns["bytes"].sum()
    assert found["fluency"].value == pytest.approx(expected, rel=1e-5)
    assert found["fluency"].facts["features"].startswith("likelihood-")


def _texts(context, spec, shard):
    return json.loads(context.artifacts.read_arrays(spec.shard_key(shard))["texts"].tobytes())


def test_decoding_is_the_suite_s_unless_an_option_says_otherwise(context, suite, models):
    spec, sampled = score(context, suite, models["one_1"])
    again, greedy = score(context, suite, models["one_1"], {"temperature": 0})
    assert (spec.decoding.temperature, spec.decoding.max_tokens) == (1.0, 12)
    assert (again.decoding.temperature, again.decoding.max_tokens) == (0.0, 12)
    assert greedy["distinct_2"].value < sampled["distinct_2"].value
    # What the model knows does not depend on how it is made to write, and is not computed twice.
    assert spec.likelihood_key("heldout") == again.likelihood_key("heldout")
    assert greedy["perplexity"].value == sampled["perplexity"].value
    assert {label: row.protocol for label, row in greedy.items()} == {
        label: row.protocol for label, row in sampled.items()
    }


def test_settings_of_windows_are_part_of_the_protocol_and_tokenizers_only_of_token_perplexity(context, suite, models):
    _, plain = score(context, suite, models["one_1"])
    _, windowed = score(context, suite, models["one_1"], {"window": 16})
    likelihoods = {"perplexity", "word_perplexity", "bits_per_byte"}
    assert all((plain[label].protocol == windowed[label].protocol) == (label not in likelihoods) for label in plain)
    assert "tokenizer" in plain["perplexity"].facts
    assert "tokenizer" not in plain["bits_per_byte"].facts
    assert plain["distinct_2"].facts["tokenizer"] == "characters"


def test_two_seeds_of_a_checkpoint_differ_within_their_errors(context, suite, models):
    (_, a), (_, b) = (score(context, suite, models["two_2"], seed=seed) for seed in (1, 2))
    for label in ("fluency", "distinct_2", "compression_ratio"):
        assert 0 < abs(a[label].value - b[label].value) < 4 * np.hypot(a[label].stderr, b[label].stderr)


def test_a_suite_that_asks_for_what_there_is_not_says_so(context, suite, models):
    body = suite.model_dump()
    for change, reason in (
        ({"metrics": [{"metric": "perplexity", "features": "other"}]}, "has no 'other'"),
        ({"modality": "image"}, "'decoding' applies to texts, but the suite scores image samples"),
        ({"decoding": {"temperature": -1}}, "greater than or equal to 0"),
        (
            {"metrics": [{"metric": "distinct_n", "options": {"tokenizer": "bpe"}}]},
            "no tokenizer 'bpe'; available are white",
        ),
        ({"decoding": {"top_kk": 1}}, "Extra inputs are not permitted"),
    ):
        with pytest.raises(ValueError, match=reason):
            Suite.model_validate(body | change)
    with pytest.raises(InputError, match="option temperature"):
        score(context, suite, models["one_1"], {"temperature": "warm"})
    with pytest.raises(InputError, match="does not take these options"):
        score(context, suite, models["one_1"], {"temprature": 1})


def test_suites_from_before_there_was_decoding_keep_their_digest():
    assert load_suite("digits@1").digest.startswith("5d3bfd4b5d8bd9c1")


def test_copying_is_measured_against_the_training_half_with_the_other_as_control(context, suite, models, tmp_path):
    texts = ["quite another thing", *DOCUMENTS[:3]]
    (tmp_path / "written_1.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    body = suite.model_dump() | {
        "samples": 4,
        "extractors": {},
        "metrics": [
            {"metric": "copied_share", "options": {"length": 3}},
            {"metric": "near_duplicate_share"},
            {"metric": "self_bleu", "options": {"n": 2, "tokenizer": "mixed"}},
        ],
    }
    spec = plan(context, Checkpoint.open(tmp_path / "written_1.jsonl", "stored", 1), "samples", {}, Suite(**body))
    number = evaluate(spec, context)
    assert spec.decoding is None
    with context.database.read() as session:
        found = {row.label: row for row in queries.scores(session, evaluation=number)}
    assert found["near_duplicate_share"].value == found["copied_share"].value == 0.75
    assert set(found["copied_share"].facts) >= {"train_texts", "heldout_texts"}
    assert found["self_bleu_2"].facts["tokenizer"] == "mixed"


def test_shipped_text_suites_ask_for_what_there_is(context):
    assert load_suite("text").on("prose").reference == "prose"
    assert "fluency_bits_per_byte" in load_suite("text").labels
    assert load_suite("text-tiny").labels[0] == "bits_per_byte"


def test_a_hub_id_is_found_in_the_cache_and_an_unknown_one_is_named(tmp_path, models, monkeypatch):
    from huggingface_hub import constants

    from evalsvc.cli.checkpoint_arguments import find_checkpoints
    from evalsvc.inputs.checkpoint_names import Naming

    cached = tmp_path / "hub" / "models--org--Tiny-LM"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / ("0" * 40)).symlink_to(models["one_1"])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (found,) = find_checkpoints(["hub:org/Tiny-LM"], Naming())
    assert (found.model, found.step) == ("Tiny-LM", 0)
    assert found.digest == Checkpoint.open(models["one_1"], "x", 0).digest
    with pytest.raises(
        InputError, match="checkpoint hub:org/none: 'org/none' is not a folder and could not be downloaded"
    ):
        find_checkpoints(["hub:org/none"], Naming())
