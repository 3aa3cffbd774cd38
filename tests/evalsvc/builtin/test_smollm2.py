"""Real weights: SmolLM2-135M-Instruct, read from its GGUF file and converted once a session."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from evalsvc.builtin.demo.prose import prose_reference
from evalsvc.builtin.extractors.language import LikelihoodExtractor
from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.language_models.gguf import converted
from evalsvc.builtin.scorers.choice import Choice
from evalsvc.core.errors import CheckpointError
from evalsvc.inputs import published_weights
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.suites import SHIPPED, load_suite
from evalsvc.metrics.functional import distinct_n, paired_difference, perplexity
from evalsvc.plugins.items import ItemBatch
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import SampleRequest
from evalsvc.plugins.scorers import CandidateLikelihoods

CPU = torch.device("cpu")
WITHOUT_BOS = "<|endoftext|>"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One folder for all processes of a test session, so that one converts for all."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        yield


@pytest.fixture(scope="module")
def gguf():
    return published_weights.locate(published_weights.get("smollm2"))


@pytest.fixture(scope="module")
def smollm2(cache):
    torch.set_num_threads(1)
    return LikelihoodExtractor("smollm2", prefix=WITHOUT_BOS)


@pytest.fixture(scope="module")
def prose():
    documents = prose_reference().heldout
    return [text[:1000] for text in documents.read(0, len(documents)).items[::10]]


def test_prose_is_likely_its_words_shuffled_are_not(smollm2, prose):
    shuffled = [" ".join(random.Random(i).sample(text.split(), len(text.split()))) for i, text in enumerate(prose)]
    found = smollm2.extract([*prose, *shuffled])
    n = len(prose)
    read, mixed = (perplexity(found["nll"][part], found["tokens"][part]) for part in (slice(n), slice(n, None)))
    assert read.value < 60
    assert mixed.value > 500
    assert read.ci_low < read.value < read.ci_high < mixed.ci_low
    harder = paired_difference(found["nll"][n:], found["nll"][:n], found["bytes"][:n], of="bits_per_byte")
    assert harder.value - 4 * harder.stderr > 0


def test_float32_is_as_good_as_the_logits_in_float64(smollm2, prose):
    # The loss of transformers, a float32 log-softmax over 49,152 tokens, is off by 4e-6.
    text = prose[0][:300]
    found = smollm2.extract([text])
    model = smollm2._scorer._model
    tokens = torch.tensor([model.tokenizer.get_vocab()[WITHOUT_BOS], *model.encode([text])[0]])
    with torch.inference_mode():
        logits = model.network(tokens[None]).logits[0, :-1].double()
    expected = -logits.log_softmax(1).gather(1, tokens[1:, None]).sum()
    assert found["nll"][0] == pytest.approx(float(expected), rel=1e-6)


def test_it_answers_in_its_chat_template_and_heat_costs_fluency(smollm2, gguf):
    checkpoint = Checkpoint.open(gguf, "smollm2", 0)
    question = {"prompts": ("What is the capital of France?",), "chat": True, "temperature": 0, "max_tokens": 10}
    answer = CausalLM(checkpoint, CPU, decoding=Decoding(**question)).sample(SampleRequest.of(1, 0, 1)).samples.items[0]
    assert "Paris" in answer
    spread, nats = {}, {}
    for heat in (0.3, 1.5):
        decoding = Decoding(temperature=heat, max_tokens=16)
        written = (
            CausalLM(checkpoint, CPU, decoding=decoding, prefix=WITHOUT_BOS).sample(SampleRequest.of(1, 0, 8)).samples
        )
        found = smollm2.extract(written.items)
        nats[heat] = found["nll"].sum() / found["tokens"].sum()
        spread[heat] = distinct_n(written.items, 1).value
    assert nats[0.3] + 1 < nats[1.5]
    assert spread[0.3] < spread[1.5]


def test_a_gguf_file_is_converted_once_and_a_damaged_one_is_named(gguf, tmp_path):
    folder = converted(gguf)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert converted(gguf) == folder
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"broken.gguf is truncated or not a GGUF file"):
        converted(broken)
    assert not list(Path(folder.parent).glob(".tmp-*"))


def test_choices_have_the_likelihoods_and_accuracies_of_the_harness_item_by_item(smollm2):
    """Values of lm-evaluation-harness 0.4.13, from ``benchmarks/goldens_choices.py``; there, all 64 items agree."""
    goldens = json.loads((Path(__file__).parent / "choices.json").read_text())
    template = load_suite("questions", Plugins()).items.prompt.replace("{question}", "{0}")
    rows = {row["id"]: row for row in map(json.loads, (SHIPPED / "questions.jsonl").read_text().splitlines())}
    for task, prompt_of, delimiter, names in (
        ("plain", template.format, " ", ("knowledge-10", "arithmetic-10")),
        ("spaces", "Question: {0}\nAnswer:  ".format, "", ("knowledge-02",)),
    ):
        items = ItemBatch(
            names,
            torch.zeros(len(names), dtype=torch.int64),
            tuple(prompt_of(rows[name]["question"]) for name in names),
            choices=tuple(tuple(rows[name]["choices"]) for name in names),
            answers=tuple(rows[name]["answer"] for name in names),
        )
        scorer = Choice(CPU, delimiter=delimiter)
        texts = [text for each in scorer.candidates(items) for text in each]
        found = smollm2._scorer.score_after([prompt for prompt in items.prompts for _ in range(4)], texts)
        nats, tokens = found.nats.reshape(-1, 4), found.tokens.reshape(-1, 4)
        expected = [goldens[task][name] for name in names]
        assert nats == pytest.approx(-np.array([each["loglikelihoods"] for each in expected]), abs=3e-4)
        pairs = [CandidateLikelihoods(*pair) for pair in zip(nats, tokens, strict=True)]
        scored = scorer.score_likelihoods(pairs, items)
        for quantity in ("acc", "acc_norm"):
            assert scored.values[quantity].tolist() == [each[quantity] for each in expected]
