"""Claims about folders of torch.distributed.checkpoint: they are read as by torch, and their pickles do nothing."""

import io
import json
import os
import pickle
import random

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint import metadata as records
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from evalsvc.core.errors import CheckpointError, RefusedError
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.inputs.distributed_checkpoints import read_shards


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def state():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    average = {
        name: value.bfloat16() if value.is_floating_point() else value for name, value in network().state_dict().items()
    }
    return {"model": model.state_dict(), "ema": average, "optim": optimizer.state_dict(), "args": {"lr": 1e-3}}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder, whole = tmp_path_factory.mktemp("runs") / "step_3", state()
    dcp.save(whole, checkpoint_id=folder, no_dist=True)
    return folder, whole


def opened(folder):
    return Checkpoint.open(folder, "m", 3)


def refusal(folder):
    with pytest.raises(CheckpointError, match=r"^checkpoint .* has |is sharded") as refused:
        opened(folder).tensors()
    return str(refused.value).partition(f"{folder} ")[2]


def test_each_state_of_a_sharded_folder_is_bit_by_bit_what_was_saved(saved):
    folder, whole = saved
    assert same(opened(folder).tensors("model"), whole["model"])
    assert same(opened(folder).tensors("ema"), whole["ema"])
    model = network()
    assert load_into(model, opened(folder), "ema") == "ema (bfloat16)"
    with pytest.raises(CheckpointError, match="contains 2 state dicts that fit the model, ema and model: choose one"):
        load_into(model, opened(folder))
    with pytest.raises(CheckpointError, match=r"optim\.state\.0 \(3 tensors\), .*, optim\.param_groups\.0, args;"):
        opened(folder).tensors()


def test_averages_without_names_are_read_from_a_sharded_folder(tmp_path):
    model, target = network(), network()
    averages = [parameter.detach() + 1 for parameter in model.parameters()]
    file = {"model": model.state_dict(), "ema": {"decay": 0.9, "shadow_params": averages}}
    dcp.save(file, checkpoint_id=tmp_path / "step_3", no_dist=True)
    assert load_into(target, opened(tmp_path / "step_3"), "ema") == "ema.shadow_params (by position, rest of model)"
    assert torch.equal(target[2].bias, averages[-1])


class Sharded:
    """A folder that is written by hand, so that chunks and their places can be anything."""

    def __init__(self, folder):
        self.folder, self.files, self.tensors, self.places = folder, {}, {}, {}
        folder.mkdir()

    def add(self, name, size, chunks):
        """Add a tensor in chunks, each of a file, offsets and values."""
        properties = records.TensorProperties(dtype=chunks[0][2].dtype)
        boxes = [records.ChunkStorageMetadata(torch.Size(at), value.size()) for _, at, value in chunks]
        self.tensors[name] = records.TensorStorageMetadata(properties, torch.Size(size), boxes)
        for file, at, value in chunks:
            start, stream = len(self.files.get(file, b"")), io.BytesIO()
            torch.save(value, stream)
            self.files[file] = self.files.get(file, b"") + stream.getvalue()
            self.places[records.MetadataIndex(name, at)] = _StorageInfo(file, start, len(stream.getvalue()))

    def write(self):
        whole = records.Metadata(self.tensors, None, self.places)
        (self.folder / ".metadata").write_bytes(pickle.dumps(whole))
        for name, content in self.files.items():
            (self.folder / name).write_bytes(content)
        return self.folder


@pytest.fixture
def quarters(tmp_path):
    """A matrix in four chunks of unequal size, and a vector in two, on two ranks."""
    matrix, vector = torch.randn(5, 6), torch.arange(7)
    sharded = Sharded(tmp_path / "sharded_3")
    one, two = "__0_0.distcp", "__1_0.distcp"
    sharded.add(
        "0.weight",
        (5, 6),
        [
            *((one, (0, 0), matrix[:2, :4].clone()), (two, (0, 4), matrix[:2, 4:].clone())),
            *((one, (2, 0), matrix[2:, :4].clone()), (two, (2, 4), matrix[2:, 4:].clone())),
        ],
    )
    sharded.add("steps", (7,), [(one, (0,), vector[:3].clone()), (two, (3,), vector[3:].clone())])
    return sharded, {"0.weight": matrix, "steps": vector}


def test_chunks_of_several_ranks_are_joined_as_by_torch(quarters):
    sharded, expected = quarters
    folder = sharded.write()
    theirs = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
    dcp.load(theirs, checkpoint_id=folder, no_dist=True)
    assert same(opened(folder).tensors(), expected)
    assert same(opened(folder).tensors(), theirs)


def test_chunks_in_safetensors_are_joined_as_by_torch(tmp_path):
    matrix, scalar = torch.randn(5, 6), torch.tensor(3)
    whole = tmp_path / "whole_1"
    dcp.save(
        {"w": matrix, "n": scalar}, storage_writer=HuggingFaceStorageWriter(whole, save_distributed=True), no_dist=True
    )
    assert same(opened(whole).tensors(), {"w": matrix, "n": scalar})
    folder = tmp_path / "halves_1"
    folder.mkdir()
    for rank, (start, rows) in enumerate(((0, matrix[:2]), (2, matrix[2:])), start=1):
        chunks = {"w": rows.contiguous()} | ({"n": scalar} if start else {})
        places = {name: {"saved_offsets": [start, 0] if name == "w" else []} for name in chunks}
        facts = {"DCP_SHARDING_INFO": json.dumps(places), "DCP_VERSION": "1.0", "format": "pt"}
        save_file(chunks, folder / f"shard-0000{rank}-model-00001-of-00001.safetensors", facts)
    theirs = {"w": torch.zeros(5, 6), "n": torch.tensor(0)}
    dcp.load(theirs, storage_reader=HuggingFaceStorageReader(folder), no_dist=True)
    assert same(opened(folder).tensors(), theirs)
    (folder / "shard-00001-model-00001-of-00001.safetensors").unlink()
    assert refusal(folder).startswith("has chunks of w that do not cover it exactly once")


class Exploit:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


def test_what_a_metadata_pickle_asks_for_is_neither_run_nor_imported(tmp_path, quarters):
    sharded, _ = quarters
    sharded.tensors["evil"] = Exploit(tmp_path / "witness")
    folder = sharded.write()
    assert refusal(folder).startswith("has a .metadata that refers to posix.system, not a type of DCP: save it as")
    with (folder / ".metadata").open("rb") as file, pytest.raises(RefusedError):  # without the sandbox
        read_shards({".metadata": file})
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda place: {"relative_path": "../__0_0.distcp"},
            "has a .metadata that names '../__0_0.distcp' for 0.weight",
        ),
        (
            lambda place: {"relative_path": ".metadata"},
            "has a .metadata that names '.metadata' for 0.weight, which is not",
        ),
        (lambda place: {"relative_path": "/etc/passwd"}, "has a .metadata that names '/etc/passwd' for 0.weight"),
        (lambda place: {"length": 2**40}, "bytes, but 0.weight ends at 1,099,511,6"),
        (lambda place: {"offset": -4}, "has a damaged .metadata (a shape that is not a tuple of sizes)"),
        (
            lambda place: {"offset": place.offset + 9},
            "has a chunk of 0.weight in __1_0.distcp that is not a torch file",
        ),
        (lambda place: {"length": place.length - 300}, "in __1_0.distcp that is truncated or not a torch file"),
        (lambda place: {"transform_descriptors": ["zstd"]}, "has shards that are encoded by ['zstd']: export it by"),
    ],
)
def test_a_chunk_is_read_from_its_own_bytes_of_a_shard_in_the_folder(quarters, harm, told):
    sharded, _ = quarters
    place = sharded.places[records.MetadataIndex("0.weight", (2, 4))]
    vars(place).update(harm(place))
    assert told in refusal(sharded.write())


@pytest.mark.parametrize(
    ("at", "rows"),
    [
        ((0, 0), slice(0, 2)),
        ((1, 0), slice(2, 5)),
        ((0, 4), slice(2, 5)),
        ((4, 4), slice(2, 5)),
        ((-2, 4), slice(2, 5)),
    ],
)
def test_chunks_that_overlap_leave_a_gap_or_stand_out_are_refused(tmp_path, at, rows):
    sharded, matrix = Sharded(tmp_path / "sharded_3"), torch.randn(5, 6)
    first = ("__0_0.distcp", (0, 0), matrix[:2].clone())
    sharded.add("w", (5, 6), [first, ("__0_0.distcp", at, matrix[rows].clone())])
    told = refusal(sharded.write())
    assert told.startswith(
        "has a damaged .metadata" if min(at) < 0 else "has chunks of w that do not cover it exactly once"
    )


def test_an_interrupted_save_and_a_lost_shard_are_named(quarters):
    sharded, _ = quarters
    folder = sharded.write()
    for name in (".metadata", "__1_0.distcp"):
        with pytest.raises(CheckpointError, match=r"is one file of a sharded checkpoint: pass its folder$"):
            opened(folder / name).tensors()
    (folder / "__1_0.distcp").rename(folder / "elsewhere")
    assert refusal(folder).startswith("has a .metadata that names '__1_0.distcp' for 0.weight, which is not a shard in")
    (folder / ".metadata").unlink()
    assert refusal(folder).startswith("has shards but no .metadata, which is written last: wait for it")


def test_a_folder_of_fsdp_inside_a_checkpoint_of_accelerate_is_its_set_of_weights(tmp_path, saved):
    checkpoint = tmp_path / "checkpoint_3"
    dcp.save({"model": network().state_dict()}, checkpoint_id=checkpoint / "pytorch_model_fsdp_0", no_dist=True)
    dcp.save({"model": network().state_dict()}, checkpoint_id=checkpoint / "optimizer_0", no_dist=True)
    torch.save({}, checkpoint / "scheduler.bin")
    assert load_into(network(), opened(checkpoint)) == "pytorch_model_fsdp_0: model"


def test_a_shard_is_part_of_the_digest_and_so_is_its_metadata(quarters):
    sharded, _ = quarters
    folder = sharded.write()
    digests = {opened(folder).digest}
    for name in ("__1_0.distcp", ".metadata"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"\0")
        digests.add(opened(folder).digest)
    assert len(digests) == 3


def test_damage_anywhere_is_one_sentence(quarters):
    sharded, expected = quarters
    folder = sharded.write()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    chance = random.Random(0)
    for _ in range(150):
        name = chance.choice(list(files))
        damaged = bytearray(files[name][: chance.choice((len(files[name]), chance.randrange(1, len(files[name]))))])
        for _ in range(chance.randrange(4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            read = read_shards({each: io.BytesIO(content) for each, content in (files | {name: damaged}).items()})
        except RefusedError as refused:
            told = str(refused)
            assert not any(word in told for word in ("\n", "\x1b", "weights_only", "torch.load", "Weights only"))
        else:
            assert [tensor.shape for tensor in read.only().values()] == [tensor.shape for tensor in expected.values()]
