import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoints import Checkpoint, load_into


class Exploit:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def opened(path: Path) -> Checkpoint:
    return Checkpoint.open(path, "model", 1)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    witness = tmp_path / "executed"
    torch.save({"weight": Exploit(witness)}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Exploit(witness)))
    for name in ("evil.pt", "evil.pkl"):
        with pytest.raises(CheckpointError, match="save it as safetensors"):
            opened(tmp_path / name).tensors()
    assert not witness.exists()


@pytest.mark.parametrize("name", ["whole.safetensors", "whole.pt"])
def test_a_truncated_checkpoint_is_named(tmp_path, name):
    path = tmp_path / name
    tensors = {"weight": torch.zeros(1000)}
    save_file(tensors, path) if name.endswith("safetensors") else torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=name):
        opened(path).tensors()


def test_a_missing_and_an_empty_checkpoint_are_errors(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        opened(tmp_path / "none.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(InputError, match="empty file"):
        opened(tmp_path / "empty.pt")


def test_a_whole_model_in_place_of_a_state_dict_is_an_error(tmp_path):
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "nested.pt")
    with pytest.raises(CheckpointError, match="state_dict"):
        opened(tmp_path / "nested.pt").tensors()


def test_weights_of_another_shape_are_an_error_that_names_the_tensor(tmp_path):
    save_file({"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="weight"):
        load_into(torch.nn.Linear(2, 3), opened(tmp_path / "w.safetensors"))


def test_both_formats_give_the_same_tensors(tmp_path):
    tensors = {"a": torch.randn(3), "b": torch.randn(2, 2)}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save(tensors, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        loaded = opened(tmp_path / name).tensors()
        assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)


def test_the_digest_of_a_folder_follows_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    before = opened(tmp_path).digest
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = opened(tmp_path).digest
    (tmp_path / "b").write_text("2")
    assert len({before, renamed, opened(tmp_path).digest}) == 3


@pytest.mark.parametrize("model", ["", "m" * 201, "a\0b", "a\x1b[31m", "\udcff"])
def test_a_model_has_a_name_that_can_be_stored_and_seen(tmp_path, model):
    (tmp_path / "w.pt").write_bytes(b"x")
    with pytest.raises(InputError, match="invalid model name"):
        Checkpoint.open(tmp_path / "w.pt", model, 1)
