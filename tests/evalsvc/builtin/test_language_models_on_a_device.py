"""Language models on an accelerator: the texts and likelihoods of the CPU, with few waits, in float32."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from evalsvc.builtin.extractors.language import LikelihoodExtractor
from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.generators.seq2seq_lm import Seq2SeqLM
from evalsvc.builtin.language_models import writer
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.builtin.language_models.token_budget import LEAST, MOST, TokenBudget, bytes_per_token
from evalsvc.builtin.language_models.token_choice import choose
from evalsvc.core.errors import ModelError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.samples import SampleRequest, Texts
from tests.evalsvc.language_models import save
from tests.pretended_device import pretended

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
PROMPTS = ("x", "The ", "Anne had not")
TEXTS = ("one text", "", "another", "a third")
SAMPLED = {"top_k": 90, "top_p": 0.95, "repetition_penalty": 1.2, "temperature": 1.3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = save(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return folder


@pytest.fixture(autouse=True)
def careless():
    """A user's switch that lets float32 be computed in less."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


def opened(folder, device, **decoding):
    kind = Seq2SeqLM if folder.name.startswith(("bart", "t5")) else CausalLM
    options = {} if kind is Seq2SeqLM else {"window": 16}
    asked = Decoding(**{"max_tokens": 10, "prompts": PROMPTS} | decoding)
    return kind(Checkpoint.open(folder, "tiny", 1, kind.checkpoint_files), device, decoding=asked, **options)


def waits(device):
    """How often the host waited for the device, by kind; ``item`` is the library's question about its own mask."""
    counts = Counter()
    for (kind, _), count in device.synchronizations.items():
        counts[kind] += count
    return counts


@pytest.mark.parametrize("kind", ["llama", "mamba", "rwkv", "bart"])
def test_texts_are_those_of_the_cpu_and_finished_rows_leave_the_batch(folders, kind, monkeypatch):
    monkeypatch.setattr(writer, "STRIDE_ON_GPU", 4)
    request, decoding = SampleRequest.of(3, 0, 7), SAMPLED | {"stop": ("e", "1")}
    expected = opened(folders(kind), CPU, **decoding).sample(request)
    with pretended() as device:
        generator, sizes = opened(folders(kind), CUDA, **decoding), []
        chosen = writer.choose
        monkeypatch.setattr(
            writer, "choose", lambda logits, *given: sizes.append(len(logits)) or chosen(logits, *given)
        )
        device.forget()
        drawn = generator.sample(request)
    assert drawn.samples == expected.samples
    assert drawn.usage.tokens.tolist() == expected.usage.tokens.tolist()
    assert sizes[0] == 7 > sizes[-1]
    if kind != "bart":  # whose library asks at each step whether its mask masks
        assert sum(device.synchronizations.values()) == -(-len(sizes) // 4)
    assert not device.nondeterministic


@pytest.mark.parametrize("decoding", [{"temperature": 0}, {"json_schema": {"enum": ["Anne", "Mary"]}}], ids=str)
def test_greedy_and_guided_texts_are_those_of_the_cpu(folders, decoding):
    if "json_schema" in decoding:
        pytest.importorskip("llguidance")
    request = SampleRequest.of(3, 0, 3)
    expected = opened(folders("llama"), CPU, **decoding).sample(request)
    with pretended():
        drawn = opened(folders("llama"), CUDA, **decoding).sample(request)
    assert drawn.samples == expected.samples


def test_an_apple_device_chooses_tokens_on_the_host_which_has_float64(folders):
    request = SampleRequest.of(3, 0, 3)
    expected = opened(folders("llama"), CPU, **SAMPLED).sample(request)
    with pretended("mps") as device:
        request = SampleRequest.of(3, 0, 3, device.device)
        drawn = opened(folders("llama"), device.device, **SAMPLED).sample(request)
    assert drawn.samples == expected.samples


def test_tokens_are_drawn_as_on_the_cpu_from_sums_of_integers():
    torch.manual_seed(0)
    logits, uniforms = 6 * torch.randn(200, 3000), torch.rand(200, dtype=torch.float64)
    uniforms[:2] = torch.tensor([0.5, 2**46 - 0.5], dtype=torch.float64) * 2.0**-46
    for options in ({}, {"top_k": 5}, {"top_p": 0.8}, {"top_p": 0.99, "temperature": 2.0}):
        expected = choose(logits, uniforms, Decoding(**options))
        with pretended() as device:
            found = choose(device.tensor(logits), device.tensor(uniforms), Decoding(**options)).cpu()
        assert torch.equal(found, expected)
        assert not device.nondeterministic


@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_likelihoods_are_those_of_the_cpu_and_wait_once(folders, kind):
    prompts = [prompt for prompt in PROMPTS for _ in TEXTS]
    texts, request = Texts(TEXTS * 3), SampleRequest.of(0, 0, 12, prompts=prompts)
    expected = opened(folders(kind), CPU).nll(texts, request)
    with pretended() as device:
        generator = opened(folders(kind), CUDA)
        generator.nll(texts, request)  # probes
        generator._scorer._budget.tokens = 40
        device.forget()
        found = generator.nll(texts, request)
    assert found.nats.numpy() == pytest.approx(expected.nats.numpy(), rel=1e-5)
    assert {kind: count for kind, count in waits(device).items() if kind != "item"} == {"to host": 1}


def test_documents_are_scored_with_one_wait_and_memory_that_runs_out_halves_the_budget(folders, monkeypatch):
    kernels, attention = [], torch.nn.functional.scaled_dot_product_attention

    def seen(query, key, value, attn_mask=None, **options):
        kernels.append((attn_mask, options["is_causal"], query.shape == key.shape, "enable_gqa" in options))
        return attention(query, key, value, attn_mask=attn_mask, **options)

    expected = LikelihoodExtractor(folders("llama"), window=16).extract(TEXTS * 12)["nll"]
    with pretended() as device:
        extractor = LikelihoodExtractor(folders("llama"), window=16, device=CUDA)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
        device.forget()
        assert extractor.extract(TEXTS * 12)["nll"] == pytest.approx(expected, rel=1e-6)
        # The kernel of causal attention in float32 takes no mask, and as many heads of keys as of queries.
        assert kernels == [(None, True, True, False)] * 2
        assert waits(device) == {"to host": 1, "item": 1}
        before = extractor._scorer._budget.tokens
        device.largest = 60_000  # bytes: the embeddings fit, the logits of all tokens do not
        assert extractor.extract(TEXTS * 12)["nll"] == pytest.approx(expected, rel=1e-6)
        assert extractor._scorer._budget.tokens < before
        device.largest = 1
        with pytest.raises(ModelError, match="out of memory with a single window of 16 tokens"):
            extractor.extract(TEXTS)


def test_the_budget_is_a_power_of_two_that_half_of_the_free_memory_holds(folders):
    model = LanguageModel.open(str(folders("llama")), CPU, "float32", "a test")
    device = replace(model, device=CUDA)
    need = bytes_per_token(device, 16, whole_logits=False)
    assert bytes_per_token(device, 16, whole_logits=True) == need + 20 * 400
    for free, tokens in ((2 * 5000 * need, 4096), (2 * 4096 * need, 4096), (0, LEAST), (2**40, MOST)):
        with pretended(free=free):
            assert TokenBudget(device, 16, whole_logits=False).tokens == tokens
    assert TokenBudget(model, 16, whole_logits=False).tokens == 2048


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mamba", "rwkv"])
def test_a_token_takes_no_more_memory_than_the_budget_assumes(folders, kind):
    model = LanguageModel.open(str(folders(kind)), CPU, "float32", "a test")
    tokens = torch.zeros(4, 32, dtype=torch.int64)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        model.network.base_model(input_ids=tokens, use_cache=False)
    events = [each for each in run.profiler.kineto_results.events() if each.name() == "[memory]"]
    alive = np.cumsum([each.nbytes() for each in sorted(events, key=lambda each: each.start_ns())])
    assert alive.max() <= tokens.numel() * bytes_per_token(model, 32, whole_logits=False)
