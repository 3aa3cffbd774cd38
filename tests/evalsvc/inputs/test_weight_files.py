"""Claims about folders that trainers write: the one set of weights in them is read, and anything else is named."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evalsvc.core.errors import CheckpointError
from evalsvc.inputs.checkpoints import Checkpoint, load_into


def weights(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).state_dict()


def loaded(folder, state=""):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    told = load_into(model, Checkpoint.open(folder, "m", 5), state)
    return told, model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of a trainer, without its weights."""
    folder = tmp_path / "checkpoint_5"
    folder.mkdir()
    for name in ("optimizer.bin", "scheduler.bin", "training_args.bin", "rng_state.pth", "scaler.pt"):
        torch.save({"0.weight": torch.zeros(3, 2)}, folder / name)
    for name in ("random_states_0.pkl", "trainer_state.json", "config.json", "custom_checkpoint_0.pkl"):
        (folder / name).write_text("{}")
    return folder


def write_shards(folder, suffix="safetensors"):
    state = weights()
    names = dict.fromkeys(state, f"model-00001-of-00002.{suffix}") | {"1.bias": f"model-00002-of-00002.{suffix}"}
    for file in set(names.values()):
        part = {name: state[name] for name in names if names[name] == file}
        save_file(part, folder / file) if suffix == "safetensors" else torch.save(part, folder / file)
    index = folder / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    return index


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "mp_rank_00_model_states.pt"])
def test_a_folder_with_one_file_of_weights_is_read_beside_states_of_training(folder, name):
    if name.endswith(".safetensors"):
        save_file(weights(), folder / name)
        expected = name
    else:
        torch.save({"module": weights(), "ds_version": "0.17"}, folder / name)
        expected = f"{name}: module"
    told, got = loaded(folder)
    assert told == expected
    assert same(got, weights())


def test_a_state_of_deepspeed_beside_gathered_weights_does_not_count(folder):
    save_file(weights(), folder / "model.safetensors")
    (folder / "global_step5").mkdir()
    torch.save({"module": {}}, folder / "global_step5" / "mp_rank_00_model_states.pt")
    assert loaded(folder)[0] == "model.safetensors"


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_with_an_index_are_one_set(folder, suffix):
    index = write_shards(folder, suffix)
    told, got = loaded(folder)
    assert told == index.name
    assert same(got, weights())
    with pytest.raises(CheckpointError, match=r"is one file of a sharded checkpoint: pass its folder$"):
        loaded(index)
    index.unlink()
    with pytest.raises(
        CheckpointError, match=r"contains 2 shards \(model-00001-of-00002.\w+\) but no index: restore it"
    ):
        loaded(folder)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], r"contains no weights \(\*\.safetensors, .*\): pass a file or its folder$"),
        (
            ["model.safetensors", "pytorch_model.bin"],
            r"contains 2 sets of weights, model.safetensors and pytorch_model.bin: pass one of them$",
        ),
        (["a.pt", "b.pt", "c.pt", "d.pt"], r"4 sets of weights, a.pt and b.pt and c.pt and 1 more: pass one of them$"),
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], "is sharded by DeepSpeed: convert it by 'python -m deepspeed"),
        (["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], "is sharded by DeepSpeed"),
        (["global_step5/mp_rank_00_model_states.pt"], "is sharded by DeepSpeed"),
        (
            ["a.bin.index.json", "model.safetensors"],
            r"2 sets of weights, a.bin.index.json and model.safetensors: move all but one away$",
        ),
        (["adapter_config.json", "adapter_model.safetensors"], "is an adapter: merge it into its base"),
        (["__0_0.distcp"], "has shards but no .metadata, which is written last"),
    ],
)
def test_a_folder_without_exactly_one_set_says_what_to_pass(folder, files, told):
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('{"weight_map": {}}')
    with pytest.raises(CheckpointError, match=told):
        loaded(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"weight_map": {"a": "../w.safetensors"}}', r"names '../w.safetensors', which is not a file beside it"),
        (
            '{"weight_map": {"a": "w.safetensors"}}',
            r"w.safetensors is missing, but model.safetensors.index.json names it",
        ),
        ('{"weight_map": [', "is not a complete index of weights"),
        ("[" * 10**5, "is not a complete index of weights"),
    ],
)
def test_an_index_that_is_damaged_or_leads_elsewhere_is_one_sentence(folder, content, told):
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=told):
        loaded(folder)


def test_a_tensor_in_two_shards_is_refused(folder):
    write_shards(folder)
    save_file(weights(), folder / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"contains 0.bias, as another shard does: copy it again"):
        loaded(folder)
