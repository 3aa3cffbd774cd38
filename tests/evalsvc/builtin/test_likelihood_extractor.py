import functools
import itertools
import math
import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

from evalsvc.builtin.demo.prose import prose_reference
from evalsvc.builtin.extractors.language import LikelihoodExtractor, Likelihoods
from evalsvc.builtin.language_models import scorer, token_budget
from evalsvc.builtin.language_models.windows import windows_of
from evalsvc.core.errors import InputError, ModelError
from evalsvc.plugins.samples import Images, Texts
from tests.evalsvc.language_models import VOCABULARY, save, tokenizer

CPU = torch.device("cpu")
TEXTS = [
    text[:length] for text, length in zip(prose_reference().heldout.read(0, 9).items, range(20, 200, 20), strict=True)
]
ODD = ["", "a", "\x00nul\x00", "שלום עולם, مرحبا", "🙂👩‍👩‍👧", "中文和 English 混合。", " \n\t ", "<s>", "x" * 300]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request, tmp_path_factory):
    return save(tmp_path_factory.mktemp(request.param), request.param)


@functools.lru_cache
def in_float64(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval(), AutoTokenizer.from_pretrained(
        folder
    )


def one_token_at_a_time(folder, text, window, context):
    """In float64: each token from the model run on exactly what precedes it in its window. Nats and tokens."""
    network, coder = in_float64(folder)
    tokens = [coder.bos_token_id, *coder(text, add_special_tokens=False)["input_ids"]]
    total, end = 0.0, min(window, len(tokens) - 1)
    begin = 0
    for position in range(1, len(tokens)):
        if position > end:
            end = min(end + window - context + 1, len(tokens) - 1)
            begin = end - window
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([tokens[begin:position]])).logits[0, -1]
        total -= float(torch.log_softmax(logits, 0)[tokens[position]])
    return total, len(tokens) - 1


@pytest.mark.parametrize(("window", "context"), [(64, 1), (16, 1), (16, 9), (7, 7)])
def test_likelihoods_are_those_of_a_float64_loop_over_single_tokens(folder, window, context):
    texts = [*TEXTS[2::3], *ODD[:6]]
    found = LikelihoodExtractor(folder, window=window, context=context).extract(texts)
    expected = [one_token_at_a_time(folder, text, window, context) for text in texts]
    assert found["tokens"].tolist() == [tokens for _, tokens in expected]
    nats = np.array([nats for nats, _ in expected])
    assert np.allclose(found["nll"], nats, rtol=1e-6, atol=1e-5)
    assert math.exp(found["nll"].sum() / found["tokens"].sum()) == pytest.approx(
        math.exp(nats.sum() / found["tokens"].sum()), rel=1e-6
    )


def test_no_batch_order_or_padding_side_changes_a_likelihood(folder, monkeypatch):
    texts = TEXTS + ODD
    expected = LikelihoodExtractor(folder).extract(texts)["nll"]
    for budget, chunk, seed in [(1, 1, 0), (100, 7, 1), (10_000, 10_000, 2)]:
        monkeypatch.setitem(token_budget.BUDGET, "cpu", budget)
        monkeypatch.setitem(scorer.CHUNK, "cpu", chunk)
        extractor = LikelihoodExtractor(folder)
        extractor._scorer._model.tokenizer.padding_side = "left"
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        found = extractor.extract([texts[i] for i in order])["nll"]
        assert np.allclose(found, expected[order], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("last", "window", "context"), list(itertools.product([0, 1, 7, 8, 9, 40], [4, 8], [1, 3, 4])))
def test_windows_score_every_token_once_with_the_context_asked_for(last, window, context):
    windows = list(windows_of(0, last, window, context))
    scored = [position for w in windows for position in range(w.first + 1, w.stop + 1)]
    assert scored == list(range(1, last + 1))
    assert all(w.length <= window and w.first - w.start + 1 >= (context if w.start else 1) for w in windows)
    assert all(w.length == min(window, last) for w in windows)


def test_words_and_bytes_are_those_of_the_original_text(folder):
    found = LikelihoodExtractor(folder).extract(["two words", "中文", "", "a\n b\tc "])
    assert found["words"].tolist() == [2, 1, 0, 3]
    assert found["bytes"].tolist() == [9, 6, 0, 7]
    assert found["tokens"][2] == found["nll"][2] == 0
    assert (found["nll"][[0, 1, 3]] > 0).all()


def test_a_long_line_is_scored_in_windows(folder):
    extractor = LikelihoodExtractor(folder, window=64, context=32)
    text = "0123456789" * 2_000
    found = extractor.extract([text, text])
    assert found["tokens"][0] > 10_000
    assert found["nll"][0] == pytest.approx(found["nll"][1], rel=1e-6)
    assert math.exp(found["nll"][0] / found["tokens"][0]) > 1


def test_out_of_memory_halves_the_budget_and_changes_nothing(folder, monkeypatch):
    expected = LikelihoodExtractor(folder).extract(TEXTS)["nll"]
    extractor = LikelihoodExtractor(folder)
    batch = extractor._scorer._batch

    def tight(documents, windows):
        if len(windows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch(documents, windows)

    monkeypatch.setattr(extractor._scorer, "_batch", tight)
    assert np.allclose(extractor.extract(TEXTS)["nll"], expected, rtol=1e-6)
    monkeypatch.setattr(extractor._scorer, "_batch", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(ModelError, match="out of memory with a single window of 64 tokens"):
        extractor.extract(TEXTS[:1])


def test_capped_logits_are_seen_and_not_lost_with_the_head(tmp_path):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=64, sliding_window=8, initializer_range=0.3,
        final_logit_softcapping=1.0, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    extractor = LikelihoodExtractor(tmp_path)
    assert not extractor._scorer._split
    assert extractor.extract(TEXTS[:1])["nll"][0] == pytest.approx(
        one_token_at_a_time(tmp_path, TEXTS[0], 64, 1)[0], rel=1e-5
    )


def test_the_protocol_names_windows_prefix_dtype_weights_and_tokenizer(folder):
    protocols = {
        LikelihoodExtractor(folder, **options).info.protocol
        for options in (
            *({}, {"window": 32}, {"context": 2}, {"prefix": "eos"}, {"prefix": "none"}),
            *({"dtype": "float64"}, {"dtype": "bfloat16"}),
        )
    }
    assert len(protocols) == 7
    assert "prefix bos, dtype float32" in LikelihoodExtractor(folder).info.preprocessing


def test_without_a_prefix_the_first_token_is_seen_and_not_scored(folder):
    with_prefix = LikelihoodExtractor(folder).extract(TEXTS)["tokens"]
    assert (LikelihoodExtractor(folder, prefix="none").extract(TEXTS)["tokens"] == with_prefix - 1).all()
    assert LikelihoodExtractor(folder, prefix="</s>").extract(TEXTS)["nll"] == pytest.approx(
        LikelihoodExtractor(folder, prefix="eos").extract(TEXTS)["nll"]
    )


def test_the_plugin_gives_the_same_as_columns(folder):
    found = Likelihoods(CPU, model=str(folder)).extract(Texts(tuple(TEXTS)))
    expected = LikelihoodExtractor(folder).extract(TEXTS)
    assert all(np.allclose(found[name][:, 0], expected[name]) for name in expected)
    with pytest.raises(InputError, match="'likelihood' requires text samples"):
        Likelihoods(CPU, model=str(folder)).extract(Images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)))


def test_what_a_model_cannot_do_is_a_named_error(folder, tmp_path):
    for options, reason in (
        ({"window": 65}, "window=65 .* exceeds .* 64 tokens"),
        ({"window": 8, "context": 9}, "invalid context=9 .* use 1 to the window, 8"),
        ({"dtype": "int8"}, "dtype='int8' .*: use float32"),
        ({"prefix": "<pad>"}, "has no '<pad>' token .* set prefix to bos or eos or none"),
    ):
        with pytest.raises(InputError, match=reason):
            LikelihoodExtractor(folder, **options)
    with pytest.raises(InputError, match="document 1 contains a lone surrogate"):
        LikelihoodExtractor(folder).extract(["fine", "\ud800"])
    save(tmp_path / "nobos", "llama", bos=False)
    with pytest.raises(InputError, match="nobos has no BOS token .* set prefix to eos or none"):
        LikelihoodExtractor(tmp_path / "nobos")
    assert LikelihoodExtractor(tmp_path / "nobos", prefix="eos").extract(["fine"])["tokens"][0] > 0


def test_damaged_or_missing_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = save(tmp_path / "broken", "llama")
    state = load_file(broken / "model.safetensors")
    first = next(name for name in state if name.endswith("q_proj.weight"))
    save_file({k: v for k, v in state.items() if k != first}, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"lacks weights that extractor 'likelihood' needs: {first}"):
        LikelihoodExtractor(broken)
    save_file(
        state | {"lm_head.weight": state["lm_head.weight"] * math.nan}, broken / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match="gives document 0 the likelihood nan in float32"):
        LikelihoodExtractor(broken).extract(["text"])
    (broken / "tokenizer.json").unlink()
    (broken / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="has no tokenizer that loads"):
        LikelihoodExtractor(broken)
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"is neither a folder of transformers nor a .gguf file"):
        LikelihoodExtractor(tmp_path / "model.bin")
