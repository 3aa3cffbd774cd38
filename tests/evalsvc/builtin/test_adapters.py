"""Adapters of peft: the model that was trained, over the base that is meant, or one sentence."""

import json
import shutil
import sys

import huggingface_hub
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.core.errors import CheckpointError, EvalsvcError, InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.samples import SampleRequest, Texts
from tests.evalsvc.language_models import network, save, tokenizer

CPU = torch.device("cpu")
TEXTS = ("Anne had not wanted this visit", "one text")
ATTENTION = {"target_modules": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(tmp_path_factory.mktemp("bases") / "base", "llama")


@pytest.fixture(scope="module")
def lora(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "checkpoint-10"
    trained(base, folder, peft.LoraConfig(r=4, lora_alpha=16, **ATTENTION))
    return folder


@pytest.fixture
def copied(lora, tmp_path):
    return shutil.copytree(lora, tmp_path / "checkpoint-10")


def trained(base, folder, config, resized=0):
    """A model with random adapter weights, saved as ``peft`` saves it."""
    made = network("llama")
    made.name_or_path = str(base)
    if resized:
        made.resize_token_embeddings(resized, mean_resizing=False)
    model = peft.get_peft_model(made, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


def opened(folder, **options):
    return CausalLM(Checkpoint.open(folder, "tiny", 1), CPU, decoding=Decoding(max_tokens=4), **options)


def nats(folder, **options):
    return opened(folder, **options).nll(Texts(TEXTS), SampleRequest.of(0, 0, 2)).nats.tolist()


def loss(model):
    """Nats of the texts by the loss of ``transformers``."""
    coder = tokenizer()
    ids = [torch.tensor([[0, *coder(text, add_special_tokens=False)["input_ids"]]]) for text in TEXTS]
    with torch.no_grad():
        return [float(model(input_ids=each, labels=each).loss) * (each.shape[1] - 1) for each in ids]


def merged(base, lora, folder, scale):
    """The base with ``W + scale B A`` in float64, computed by hand."""
    shutil.copytree(base, folder)
    weights = {name: tensor.double() for name, tensor in load_file(base / "model.safetensors").items()}
    parts = load_file(lora / "adapter_model.safetensors")
    for name in parts:
        if "lora_A" in name:
            target = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
            down, up = parts[name].double(), parts[name.replace("lora_A", "lora_B")].double()
            weights[target] += scale * up @ down
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("rslora", [False, True])
def test_a_lora_has_the_likelihoods_of_a_merge_by_hand_in_float64(base, tmp_path, rslora):
    model = trained(base, tmp_path / "lora", peft.LoraConfig(r=4, lora_alpha=16, use_rslora=rslora, **ATTENTION))
    by_hand = merged(base, tmp_path / "lora", tmp_path / "merged", 16 / (2 if rslora else 4))
    assert nats(tmp_path / "lora", dtype="float64") == pytest.approx(nats(by_hand, dtype="float64"), abs=1e-9)
    assert nats(tmp_path / "lora") == pytest.approx(loss(model), abs=1e-4)
    assert nats(tmp_path / "lora") != pytest.approx(nats(base), abs=0.1)


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(use_dora=True, task_type="CAUSAL_LM", **ATTENTION),
        peft.LoraConfig(modules_to_save=["lm_head"], trainable_token_indices=[3, 5], **ATTENTION),
        peft.LoraConfig(target_modules=["embed_tokens", "q_proj"]),
        peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]),
        peft.LoKrConfig(r=4, **ATTENTION),
    ],
    ids=["dora", "saved modules and tokens", "embedding", "ia3", "lokr"],
)
def test_other_adapters_have_the_loss_of_the_model_that_was_saved(base, tmp_path, config):
    model = trained(base, tmp_path / "adapter", config)
    assert nats(tmp_path / "adapter") == pytest.approx(loss(model), abs=1e-4)


def test_an_adapter_that_was_trained_with_more_tokens_brings_their_embeddings(base, tmp_path):
    folder = tmp_path / "adapter"
    model = trained(base, folder, peft.LoraConfig(modules_to_save=["embed_tokens", "lm_head"], **ATTENTION), 405)
    coder = tokenizer()
    coder.add_tokens([f"<extra{number}>" for number in range(5)])
    coder.save_pretrained(folder)
    assert nats(folder) == pytest.approx(loss(model), abs=1e-4)
    found = opened(folder).nll(Texts(("<extra4>",)), SampleRequest.of(0, 0, 1))
    assert found.units.tolist() == [1]


def test_likelihoods_of_an_adapter_and_its_base_have_one_protocol_if_their_tokens_are_the_same(base, copied):
    def facts(folder):
        return opened(folder).nll(Texts(TEXTS), SampleRequest.of(0, 0, 2)).facts

    coder = tokenizer()
    coder.model_max_length = 127  # trainers write such settings beside their adapters
    coder.save_pretrained(copied)
    assert (copied / "tokenizer_config.json").read_text() != (base / "tokenizer_config.json").read_text()
    assert facts(copied) == facts(base)
    coder.add_tokens(["<more>"])
    coder.save_pretrained(copied)
    assert facts(copied) != facts(base)


def test_the_base_is_the_one_that_is_given_and_its_content_is_part_of_the_options(base, lora, tmp_path):
    other = save(tmp_path / "other", "llama", seed=1)
    assert nats(lora, base=str(base)) == nats(lora) != nats(lora, base=str(other))
    assert opened(lora, base=str(other)).info.weights == "adapter_model.safetensors over other/model.safetensors"
    pinned = [CausalLM.pin({"base": str(folder)}) for folder in (base, other)]
    assert pinned[0]["contents"] != pinned[1]["contents"]
    assert Checkpoint.open(lora, "t", 1).digest == Checkpoint.open(lora, "t", 1, CausalLM.checkpoint_files).digest


def test_without_peft_there_is_no_score_of_the_base(lora, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"is an adapter, which needs its extra: pip install 'evalsvc\[peft\]'"):
        opened(lora)


def changed(folder, **config):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            {"peft_type": "PREFIX_TUNING"},
            "is an adapter of the method PREFIX_TUNING, but generator 'causal-lm' supports",
        ),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "is an adapter with megatron_config"),
        ({"alora_invocation_tokens": [1]}, "is an adapter with alora_invocation_tokens"),
        ({"target_modules": ["c_attn"]}, "does not fit its base .*Target modules"),
        ({"r": 8}, "does not fit its base .*size mismatch for .*lora_A"),
        ({"r": 10**8}, "describes a model with far more parameters than its weights contain"),
        ({"target_modules": ["q_proj", "v_proj"]}, "also has .*down_proj.*, the first of 4 tensors"),
        ({"target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"]}, "lacks .*k_proj.*, the first of 4 tensors"),
        ({"modules_to_save": ["lm_head"]}, "does not fit its base .*lm_head"),
        ({"base_model_name_or_path": None}, "does not name a base .*: set option base to a folder or hub id"),
        (
            {"base_model_name_or_path": "org/never-downloaded"},
            "names the base org/never-downloaded, which is not on this",
        ),
        ({"base_model_name_or_path": "/nowhere/base"}, "names the base /nowhere/base, which is not on this machine"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_adapter_that_does_not_fit_is_refused_in_one_sentence(copied, config, told):
    changed(copied, **config)
    with pytest.raises(EvalsvcError, match=told) as error:
        opened(copied)
    assert "\n" not in str(error.value)


def test_a_hub_model_that_only_the_adapter_names_is_never_downloaded(copied, base, monkeypatch):
    asked = []

    def cached(name, **options):
        asked.append((name, options["revision"], huggingface_hub.constants.HF_HUB_OFFLINE))
        return str(base)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    changed(copied, base_model_name_or_path="org/base", revision="v2")
    assert nats(copied) == nats(copied, base=str(base))
    assert opened(copied, base="org/base@v3").info.weights == "adapter_model.safetensors over base/model.safetensors"
    assert asked == [("org/base", "v2", True), ("org/base", "v3", False)]


def test_a_lora_of_another_base_is_refused_by_its_layers_its_shapes_and_its_tokens(lora, copied, tmp_path):
    with pytest.raises(InputError, match="does not fit its base"):
        opened(lora, base=str(save(tmp_path / "gpt2", "gpt2")))
    coder = json.loads(tokenizer().backend_tokenizer.to_str())
    vocabulary = coder["model"]["vocab"]
    numbers = sorted(vocabulary.values())
    coder["model"]["vocab"] = dict(zip(vocabulary, [*numbers[1:], 0], strict=True))
    tokenizer().save_pretrained(copied)
    assert opened(copied).info.weights.startswith("adapter_model")
    (copied / "tokenizer.json").write_text(json.dumps(coder))
    with pytest.raises(InputError, match="is an adapter of another base, whose tokens have other numbers"):
        opened(copied)


def test_weights_of_an_adapter_are_whole_safetensors_and_never_a_pickle(copied):
    path = copied / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="adapter_model.safetensors is not a complete safetensors file"):
        opened(copied)
    path.unlink()
    (copied / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(InputError, match=r"without adapter_model.safetensors \(adapter_model.bin is a pickle"):
        opened(copied)
    with pytest.raises(InputError, match="adapter_model.bin is a pickle"):
        Checkpoint.open(copied, "t", 1, CausalLM.checkpoint_files)


def test_a_base_is_for_adapters_and_is_not_an_adapter(base, lora):
    with pytest.raises(InputError, match="option base .* is for adapters, but .* is a model: omit it"):
        opened(base, base=str(base))
    with pytest.raises(InputError, match="contains an adapter"):
        opened(lora, base=str(lora))
