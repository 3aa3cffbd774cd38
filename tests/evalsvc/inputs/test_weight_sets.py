"""A folder of transformers is loaded from one set of weights, and it is known which."""

import json

import pytest
import torch
from safetensors.torch import save_file

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.language_models import gguf as gguf_files
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.weight_sets import weight_set
from tests.evalsvc.language_models import save

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def single(tmp_path):
    folder = tmp_path / "single_1"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2), "b": torch.zeros(3)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def sharded(tmp_path):
    folder = tmp_path / "sharded_1"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name, file in zip("ab", SHARDS, strict=True):
        save_file({name: torch.zeros(1000)}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}))
    return folder


def judged(folder):
    return weight_set(folder, "the model", judged=True)


def test_the_set_that_is_loaded_is_named(single, sharded):
    assert str(judged(single)) == "model.safetensors"
    assert str(judged(sharded)) == f"{INDEX} (2 shards)"
    assert [path.name for path in judged(sharded).files] == list(SHARDS)
    (single / "model.safetensors").rename(single / "net.safetensors")
    (single / "config.json").write_text('{"transformers_weights": "net.safetensors"}')
    assert str(judged(single)) == "net.safetensors"


@pytest.mark.parametrize(
    "other",
    [
        "model.safetensors",
        "model.fp16.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.fp16.json",
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
    ],
)
def test_two_sets_of_weights_are_an_error_that_names_both(sharded, other):
    save_file({"a": torch.zeros(1000), "b": torch.zeros(1000)}, sharded / other)
    with pytest.raises(InputError, match="contains two sets of weights for the model, ") as told:
        judged(sharded)
    assert other in str(told.value)
    assert INDEX in str(told.value)


def test_weights_that_the_config_names_beside_the_usual_ones_are_two_sets(single):
    save_file({"a": torch.zeros(2)}, single / "net.safetensors")
    (single / "config.json").write_text('{"transformers_weights": "net.safetensors"}')
    with pytest.raises(InputError, match=r"model\.safetensors and net\.safetensors"):
        weight_set(single, "the model")


def test_files_that_nothing_would_load_do_not_matter(single):
    for name in ("tf_model.h5", "consolidated.safetensors", "README.md", "model.onnx"):
        (single / name).write_bytes(b"x")
    assert str(judged(single)) == "model.safetensors"


def test_a_revision_of_a_hub_and_an_extractor_may_hold_formats_that_are_not_read(single, tmp_path):
    (single / "pytorch_model.bin").write_bytes(b"x")
    assert str(weight_set(single, "an extractor")) == "model.safetensors"
    (tmp_path / "snapshots").mkdir()
    assert str(judged(single.rename(tmp_path / "snapshots" / "1f2e"))) == "model.safetensors"


def test_a_shard_that_is_missing_truncated_twice_there_or_a_pointer_is_named(sharded):
    path = sharded / SHARDS[1]
    whole = path.read_bytes()
    for content, told in (
        (whole[:-100], "is not a complete safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ((sharded / SHARDS[0]).read_bytes(), f"and {SHARDS[0]} both contain a"),
        (b"", "is not a complete safetensors file"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{SHARDS[1]} {told}"):
            judged(sharded)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{SHARDS[1]} is missing, but {INDEX} names it"):
        judged(sharded)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": 3}'])
def test_an_index_that_is_none_is_named(sharded, content):
    (sharded / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=INDEX):
        judged(sharded)


def test_a_folder_without_the_file_that_is_read_says_what_is_there(sharded, tmp_path):
    (sharded / INDEX).unlink()
    with pytest.raises(InputError, match=f"contains 2 shards .* no {INDEX}: restore the index"):
        judged(sharded)
    for name in SHARDS:
        (sharded / name).unlink()
    save_file({"a": torch.zeros(1)}, sharded / "model.bf16.safetensors")
    with pytest.raises(InputError, match=r"contains model\.bf16\.safetensors but no model\.safetensors"):
        judged(sharded)
    for name in ("m-q4.gguf", "m-q8.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"contains m-q4\.gguf and m-q8\.gguf: pass one \.gguf file"):
        judged(tmp_path)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_alone_or_beside_its_base_is_an_error_whatever_is_installed(single, name):
    (single / name).write_text("{}")
    with pytest.raises(InputError, match=rf"contains an adapter \({name}\).*merge it into its base first"):
        weight_set(single, "extractor 'clip'")
    (single / "model.safetensors").unlink()
    with pytest.raises(InputError, match="contains an adapter"):
        judged(single)


def test_a_language_model_says_which_weights_it_was_made_of(tmp_path):
    folder = save(tmp_path / "tiny_1", "llama")
    cpu = torch.device("cpu")
    model = CausalLM(Checkpoint.open(folder, "tiny", 1), cpu, decoding=Decoding(max_tokens=4))
    assert model.info.weights == "model.safetensors"
    (folder / "pytorch_model.bin").write_bytes(b"older weights")
    with pytest.raises(InputError, match=r"model\.safetensors and pytorch_model\.bin"):
        CausalLM(Checkpoint.open(folder, "tiny", 1), cpu)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [("general.type", "adapter", "is an adapter"), ("split.count", 3, "is part 1 of 3: merge the parts first")],
)
def test_a_gguf_file_that_is_an_adapter_or_a_part_is_refused(tmp_path, field, value, told):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m_1.gguf", "llama")
    if field == "split.count":
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", value)
    else:
        writer.add_string(field, value)
    writer.add_tensor("token_embd.weight", torch.zeros(4, 4).numpy())
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    with pytest.raises(InputError, match=told):
        gguf_files._convert(tmp_path / "m_1.gguf", tmp_path / "out")
