import json
import os
import struct

import pytest

from evalsvc.builtin.language_models import gguf
from evalsvc.builtin.pretrained import open_pretrained, open_tokenizer
from evalsvc.core.errors import CheckpointError, InputError
from tests.evalsvc.language_models import save

MORE = "describes a model with far more parameters than its weights contain"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: save(folder / kind, kind) for kind in ("llama", "gpt2")}


@pytest.fixture
def changed(models, tmp_path):
    """A copy of a model whose configuration says something else."""

    def changed(kind, **changes):
        for path in models[kind].iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        return tmp_path

    return changed


def opened(folder):
    return open_pretrained("AutoModelForCausalLM", str(folder), "it", "text")[0]


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000: the maximum is 1000"),
        ("llama", {"text_config": {"n_layer": 10**9}}, "n_layer = 1000000000: the maximum is 1000"),
        ("llama", {"num_hidden_layers": 10**400}, "num_hidden_layers = 10000000000000000000: the maximum is 1000"),
        ("llama", {"num_labels": 10**9}, "num_labels = 1000000000: the maximum is 100000"),
        ("llama", {"num_hidden_layers": 30}, "lacks weights that it needs: model.layers.10"),
        ("llama", {"hidden_size": 2**20}, MORE),
        ("llama", {"vocab_size": 10**11}, MORE),
        ("gpt2", {"n_positions": 10**12}, MORE),
        ("llama", {"model_type": "qwen3_moe", "num_experts": 10**9}, MORE),
        ("llama", {"model_type": "mixtral", "num_local_experts": 10**9}, MORE),
        ("llama", {"num_attention_heads": 0}, "cannot load .* as AutoModelForCausalLM"),
        ("llama", {"hidden_size": [["x"]]}, "cannot load .* as AutoModelForCausalLM"),
    ],
)
def test_a_configuration_takes_no_more_than_its_weights_are_worth(changed, kind, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        opened(changed(kind, **changes))


def test_what_fits_its_weights_is_loaded_as_before(models, changed):
    for kind, folder in models.items():
        assert sum(each.numel() for each in opened(folder).parameters()) > 10_000, kind
    assert opened(changed("llama", max_position_embeddings=2**40, id2label={str(i): "a" for i in range(1000)}))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "merges.txt"])
def test_every_file_of_a_model_is_measured_before_transformers_reads_it(changed, monkeypatch, name):
    folder = changed("llama")
    (folder / name).write_bytes(b'{"a":' * 200 + b"1" + b"}" * 200)
    if name == "merges.txt":
        monkeypatch.setattr("evalsvc.inputs.model_size.LARGEST", 1000)
    with pytest.raises(CheckpointError, match=rf"cannot read .*{name} \((more than|nested more than)"):
        opened(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=rf"{name} is a named pipe"):
        opened(folder)


@pytest.mark.parametrize("content", [b"{}", b'{"model": {"type": "BPE", "vocab": 3}}', b"[1]", b'{"model":'])
def test_a_damaged_tokenizer_is_a_sentence(changed, content):
    folder = changed("llama")
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match=r"has no tokenizer (that loads )?for it"):
        open_tokenizer(folder, "it")


@pytest.mark.parametrize(
    "fields",
    [
        struct.pack("<QQ", 0, 1) + struct.pack("<Q", 4) + b"name" + struct.pack("<IIQ", 9, 4, 2**40),
        struct.pack("<QQ", 0, 1) + struct.pack("<Q", 4) + b"name" + struct.pack("<IQ", 8, 2**62),
        struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**63) + b"name",
        struct.pack("<QQ", 2**40, 0),
        struct.pack("<QQ", 0, 2**40),
        b"",
    ],
)
def test_a_gguf_file_that_tells_of_more_than_it_holds_is_refused_at_once(tmp_path, fields):
    pytest.importorskip("gguf")
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack("<I", 3) + fields)
    with pytest.raises(CheckpointError, match=r"is truncated or not a GGUF file \(it declares"):
        gguf._convert(tmp_path / "m.gguf", tmp_path / "out")
