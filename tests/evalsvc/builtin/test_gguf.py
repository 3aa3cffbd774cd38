"""GGUF files are the model that they were made of, or one sentence: no setting is left out."""

import numpy as np
import pytest
import torch
import transformers

from evalsvc.builtin.language_models import gguf as gguf_files
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.core.errors import InputError
from tests.evalsvc.gguf_files import write_gguf
from tests.evalsvc.language_models import VOCABULARY, tokenizer

SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "initializer_range": 0.2, "bos_token_id": 0,
    "eos_token_id": 1, "tie_word_embeddings": False,
}  # fmt: skip
THETA = {"rope_theta": 5e5}
LLAMA3 = {"original_max_position_embeddings": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16}
HEADS = {"attention.key_length": 16, "attention.value_length": 16}


def network(kind, **more):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | more)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def scaled(kind, factor=4.0, **more):
    return {"rope_parameters": {"rope_type": kind, "factor": factor, **THETA, **more}}


def frequencies(kind, **more):
    """Inverse frequencies of a network with this scaling, by ``transformers``."""
    return network("Llama", **scaled(kind, **more)).model.rotary_emb.inv_freq


def factors():
    """What each frequency is divided by with the scaling of Llama 3."""
    return (frequencies("linear", factor=1.0) / frequencies("llama3", factor=8.0, **LLAMA3)).numpy()


@pytest.mark.parametrize(
    ("kind", "config", "settings", "tensors"),
    [
        ("Llama", scaled("linear"), {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {}),
        ("Llama", scaled("yarn", original_max_position_embeddings=16), YARN, {}),
        ("Llama", scaled("llama3", factor=8.0, **LLAMA3), {}, {"rope_freqs.weight": factors}),
        ("Llama", {"head_dim": 16}, HEADS, {}),
        ("Qwen2", {}, {}, {}),
        ("Qwen3", {"head_dim": 16}, HEADS, {}),
    ],
    ids=["linear", "yarn", "llama3", "heads", "qwen2", "qwen3"],
)
def test_a_file_is_the_model_that_it_was_made_of(tmp_path, kind, config, settings, tensors):
    made = network(kind, **config)
    stored = {name: array() for name, array in tensors.items()}
    path = write_gguf(tmp_path / "m.gguf", made, tokenizer(), kind.lower(), settings, stored)
    gguf_files._convert(path, tmp_path / "m")
    read = LanguageModel.open(str(tmp_path / "m"), torch.device("cpu"), "float32", "tests")
    assert read.encode(["Anne had not"]) == tokenizer()(["Anne had not"])["input_ids"]
    tokens = torch.arange(48)[None]
    with torch.no_grad():
        assert torch.allclose(read.network(tokens).logits, made(tokens).logits, atol=1e-5)
        if "rope_parameters" in config:
            assert not torch.allclose(network(kind)(tokens).logits, made(tokens).logits, atol=1e-2)


@pytest.mark.parametrize(
    ("architecture", "settings", "tensors", "told"),
    [
        ("mpt", {}, {}, "architecture mpt is not supported"),
        ("llama", {"logit_scale": 0.5}, {}, r"its setting llama.logit_scale = 0.5 is not followed"),
        ("llama", {"rope.scaling.type": "longrope", "rope.scaling.factor": 4.0}, {}, "scaled by 'longrope'"),
        ("llama", {}, {"rope_freqs.weight": np.full(4, 3.0, np.float32)}, "is not the scaling of Llama 3"),
        ("llama", {}, {"blk.0.attn_q.bias": np.ones(32, np.float32)}, "has 44,224 parameters, and the model .* 44,192"),
        ("llama", {"rope.dimension_count": 4}, {}, "it rotates 4 of the 8 dimensions"),
        ("llama", {"attention.key_length": 8, "attention.value_length": 4}, {}, "keys of 8 and values of 4"),
    ],
)
def test_what_the_model_would_not_follow_is_refused_in_one_sentence(tmp_path, architecture, settings, tensors, told):
    path = write_gguf(tmp_path / "m.gguf", network("Llama"), tokenizer(), architecture, settings, tensors)
    with pytest.raises(InputError, match=rf"transformers cannot read .*m.gguf as GGUF \(.*{told}") as error:
        gguf_files._convert(path, tmp_path / "m")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "m").exists()
