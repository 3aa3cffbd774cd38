import json

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.language_models import chat_templates
from evalsvc.builtin.language_models import model as model_module
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.builtin.language_models.token_choice import choose
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.samples import Images, SampleRequest, Texts
from tests.evalsvc.language_models import save

CPU = torch.device("cpu")
PROMPTS = ("", "The ", "Anne had not wanted this visit")
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def checkpoint(request, tmp_path_factory):
    return opened(save(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("one"), "llama")
    coder = AutoTokenizer.from_pretrained(folder)
    coder.chat_template = TEMPLATE
    coder.save_pretrained(folder)
    return opened(folder)


def opened(folder):
    return Checkpoint.open(folder, "tiny", 1)


def write(checkpoint, count=8, seed=1, **decoding):
    asked = Decoding(**{"max_tokens": 12} | decoding)
    return CausalLM(checkpoint, CPU, decoding=asked).sample(SampleRequest.of(seed, 0, count)).samples.items


def test_it_keeps_the_contract_of_a_generator(checkpoint):
    generator = CausalLM(checkpoint, CPU, decoding=Decoding(prompts=PROMPTS, max_tokens=12))
    findings = check_generator(generator, CPU)
    assert all(finding.ok for finding in findings), findings
    assert generator.info.modality == "text"


def test_a_sample_depends_on_its_seed_and_prompt_and_on_nothing_beside_it(checkpoint):
    together = write(checkpoint, prompts=PROMPTS)
    alone = CausalLM(checkpoint, CPU, decoding=Decoding(prompts=PROMPTS[2:], max_tokens=12))
    assert alone.sample(SampleRequest.of(1, 5, 6)).samples.items[0] == together[5]
    assert len(set(together)) == len(together)


@pytest.mark.parametrize("kind", ["llama", "qwen", "gpt2", "mamba", "rwkv"])
def test_greedy_decoding_and_likelihoods_are_those_of_transformers(tmp_path, kind):
    checkpoint = opened(save(tmp_path / kind, kind))
    coder = AutoTokenizer.from_pretrained(checkpoint.path)
    network = AutoModelForCausalLM.from_pretrained(checkpoint.path)
    asked = Decoding(prompts=PROMPTS, max_tokens=12, temperature=0, repetition_penalty=1.3)
    generator = CausalLM(checkpoint, CPU, decoding=asked, window=64)
    written = generator.sample(SampleRequest.of(1, 0, 3)).samples.items
    nats = generator.nll(Texts(PROMPTS), SampleRequest.of(0, 0, 3)).nats
    for prompt, text, found in zip(PROMPTS, written, nats, strict=True):
        tokens = torch.tensor([[coder.bos_token_id, *coder(prompt, add_special_tokens=False)["input_ids"]]]).long()
        made = network.generate(tokens, max_new_tokens=12, do_sample=False, repetition_penalty=1.3, pad_token_id=1)
        assert text == coder.decode(made[0, tokens.shape[1] :], skip_special_tokens=True)
        if prompt:
            with torch.no_grad():
                loss = float(network(tokens, labels=tokens).loss) * (tokens.shape[1] - 1)
            assert float(found) == pytest.approx(loss, rel=1e-6)


def test_tokens_are_drawn_with_the_chances_that_the_options_leave():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -torch.inf]]).expand(20_000, -1)
    uniforms = (torch.arange(20_000).double() + 0.5) / 20_000

    def shares(**decoding):
        return np.bincount(choose(logits, uniforms, Decoding(**decoding)), minlength=5) / 20_000

    chances = logits[0].softmax(0).numpy()
    assert np.allclose(shares(), chances, atol=1e-4)
    assert np.allclose(shares(temperature=2.0), (logits[0] / 2).softmax(0), atol=1e-4)
    assert np.allclose(shares(top_k=2), [*(chances[:2] / chances[:2].sum()), 0, 0, 0], atol=1e-4)
    # The least set that holds top_p: 0.64 alone is under 0.7, with 0.24 it is over.
    assert np.allclose(shares(top_p=0.7), shares(top_k=2), atol=1e-4)
    assert np.allclose(shares(top_p=0.6), [1, 0, 0, 0, 0])
    assert np.allclose(shares(temperature=0), [1, 0, 0, 0, 0])


def test_a_text_ends_before_its_stop_string_and_after_max_tokens(llama):
    whole = write(llama, count=20, max_tokens=30)
    stop = next(text for text in whole if len(text) > 12)[5:8]
    cut = write(llama, count=20, max_tokens=30, stop=[stop])
    assert cut == tuple(text.partition(stop)[0] for text in whole)
    assert cut != whole
    for short, long in zip(write(llama, count=20, max_tokens=3), whole, strict=True):
        assert long.startswith(short.rstrip("\ufffd"))  # half a character at the end is none yet
        assert len(short) < len(long)


def test_chat_goes_through_the_template_and_takes_no_prefix_before_it(llama):
    by_hand = {"prompts": ("[system]be brief[user]hi[assistant]",), "temperature": 0, "max_tokens": 8}
    expected = (
        CausalLM(llama, CPU, prefix="none", decoding=Decoding(**by_hand))
        .sample(SampleRequest.of(1, 0, 1))
        .samples.items
    )
    asked = by_hand | {"prompts": ["hi"], "chat": True}
    assert write(llama, 1, system="be brief", **asked) == expected
    assert write(llama, 1, **asked) != expected


@pytest.mark.parametrize(
    ("template", "seconds", "complaint"),
    [
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            5,
            "limits of time or memory",
        ),
        ("{{ 'x' * 10 ** 10 }}", 120, "limits of time or memory"),
        ("{{ raise_exception('no system role') }}", 120, "cannot be rendered .*no system role.*: omit the system mess"),
    ],
)
def test_a_chat_template_of_a_checkpoint_has_little_time_memory_and_reach(monkeypatch, template, seconds, complaint):
    monkeypatch.setattr(chat_templates, "SECONDS", seconds)
    with pytest.raises(CheckpointError, match=complaint):
        chat_templates.render(template, [[{"role": "system", "content": "be brief"}]], {})


def test_likelihoods_of_a_checkpoint_are_exact_and_over_its_tokens(llama):
    from evalsvc.builtin.extractors.language import LikelihoodExtractor

    texts = ("one text", "", "another one")
    few = Decoding(max_tokens=4)
    found = CausalLM(llama, CPU, decoding=few, window=8).nll(Texts(texts), SampleRequest.of(0, 0, 3))
    expected = LikelihoodExtractor(llama.path, window=8).extract(texts)
    assert found.kind == "exact"
    assert np.allclose(found.nats, expected["nll"])
    assert found.units.tolist() == expected["tokens"].tolist()
    assert found.facts["window"] == "8"
    with pytest.raises(InputError, match="computes likelihoods of texts only"):
        CausalLM(llama, CPU, decoding=few).nll(
            Images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)), SampleRequest.of(0, 0, 1)
        )


def test_what_cannot_be_written_is_a_named_error(llama, checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"prompt 1 has \d+ tokens, which with 12 new tokens exceeds .*, 64"):
        write(llama, prompts=["short", "a b " * 40])
    with pytest.raises(InputError, match="has no BOS token .* set prefix to eos or none"):
        write(opened(save(tmp_path / "nobos", "llama", bos=False)))
    with pytest.raises(InputError, match="a prompt .* is empty and prefix is 'none'"):
        CausalLM(llama, CPU, prefix="none")
    if "gpt2" in str(checkpoint.path):
        with pytest.raises(InputError, match="has no chat template"):
            write(checkpoint, chat=True)
    with pytest.raises(InputError, match="option temperature: Input should be greater"):
        Decoding().but({"temperature": -1})


def test_a_device_map_and_quantization_are_passed_on_and_marked(llama, monkeypatch):
    spread = CausalLM(llama, CPU, decoding=Decoding(max_tokens=4), device_map={"": "cpu"})
    assert spread.info.weights == "model.safetensors, device_map {'': 'cpu'} (untested)"
    asked = Texts(("one text",)), SampleRequest.of(0, 0, 1)
    assert spread.nll(*asked).nats == CausalLM(llama, CPU, decoding=Decoding(max_tokens=4)).nll(*asked).nats
    with pytest.raises(
        InputError, match=r"^option quantization .* needs the package bitsandbytes: pip install bitsandb"
    ):
        CausalLM(llama, CPU, quantization="8bit")
    monkeypatch.setattr(model_module, "find_spec", lambda package: None if package == "accelerate" else package)
    with pytest.raises(
        InputError, match=r"^option device_map .* needs the package accelerate: pip install accelerate$"
    ):
        CausalLM(llama, CPU, device_map="auto")
    monkeypatch.setattr(model_module, "find_spec", lambda package: package)
    with pytest.raises(InputError, match="invalid option quantization='2bit' .*: use 8bit or 4bit"):
        CausalLM(llama, CPU, quantization="2bit")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_folder_never_runs_whoever_says_yes(tmp_path, monkeypatch, file):
    folder = save(tmp_path / "hostile", "llama")
    (folder / "hostile.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')")
    auto = {"AutoConfig": "hostile.It", "AutoModelForCausalLM": "hostile.It", "AutoTokenizer": ["hostile.It", None]}
    told = json.loads((folder / file).read_text()) | {"auto_map": auto, "model_type": "it", "tokenizer_class": "It"}
    (folder / file).write_text(json.dumps(told))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(InputError, match="custom code"):
        write(opened(folder))
    assert not (tmp_path / "it-ran").exists()


def test_a_folder_is_opened_without_the_hub(tmp_path, monkeypatch):
    folder, seen = save(tmp_path / "m", "llama"), []
    for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
        given = kind.from_pretrained
        spy = lambda *a, given=given, **k: seen.append(offline()) or given(*a, **k)  # noqa: E731
        monkeypatch.setattr(kind, "from_pretrained", spy)
    offline = transformers.utils.hub.is_offline_mode
    LanguageModel.open(str(folder), CPU, "float32", "generator 'causal-lm'")
    assert seen == [True, True]
    assert not offline()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_configuration_names_no_code_of_the_hub(tmp_path, key):
    folder = save(tmp_path / "m", "llama")
    config = json.loads((folder / "config.json").read_text())
    for value in ("evil/kernels", {"": "paged|evil/kernels@main"}, "/tmp/kernel"):
        (folder / "config.json").write_text(json.dumps(config | {"text_config": {key: value}}))
        with pytest.raises(CheckpointError, match="names code to execute"):
            LanguageModel.open(str(folder), CPU, "float32", "generator 'causal-lm'")


def test_prompts_of_a_suite_s_file_come_with_the_request(llama):
    generator = CausalLM(llama, CPU, decoding=Decoding(max_tokens=8))
    asked = generator.sample(SampleRequest.of(5, 0, 3, prompts=PROMPTS)).samples.items
    assert asked == write(llama, 3, 5, prompts=PROMPTS, max_tokens=8)
    with pytest.raises(InputError, match=r"prompt 0 has \d+ tokens"):
        generator.sample(SampleRequest.of(5, 0, 1, prompts=["a b " * 40]))
