import json
import os
import socket
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.api.server.checkpoint_files import under_roots
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.core.deadline import deadline
from evalsvc.core.digests import digest_path, stamp_path
from evalsvc.core.errors import CheckpointError, InputError, RefusedError
from evalsvc.core.files import json_files, regular_files
from evalsvc.core.files.json_files import read_json
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.prompts import read_prompts
from evalsvc.inputs.sample_sets import open_samples
from evalsvc.inputs.tables.parquet_conversion import convert_cells
from evalsvc.inputs.weight_sets import weight_set

WAIT = 60
"""Seconds after which a reader waits for ever."""
NOT_REGULAR = r"(named pipe \(FIFO\)|socket|character device): use a regular file"


@pytest.fixture
def special(tmp_path, monkeypatch):
    """Puts what is no regular file at a path below a folder that is the current one: names of sockets are short."""
    monkeypatch.chdir(tmp_path)

    def special(kind, path):
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(os.path.relpath(path))
        else:
            path.symlink_to("/dev/zero")
        return path

    return special


READERS = {
    "digest": digest_path,
    "stamp": stamp_path,
    "a torch file": lambda path: Checkpoint("m", 1, path, "").tensors(),
    "a trusted torch file": lambda path: Checkpoint("m", 1, path, "").tensors(trusted=True),
    "a checkpoint": lambda path: Checkpoint.open(path, "m", 1),
    "samples": open_samples,
    "prompts": read_prompts,
    "JSON": read_json,
    "a language model": lambda path: LanguageModel.open(str(path), torch.device("cpu"), "float32", "it"),
}


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_regular_file_is_an_error_at_once_whoever_reads(special, tmp_path, kind):
    (tmp_path / "link").symlink_to(special(kind, tmp_path / "x.pt"))
    for path in (tmp_path / "x.pt", tmp_path / "link"):
        for name, read in READERS.items():
            with deadline(WAIT), pytest.raises(InputError) as refused:
                read(path)
            assert name == "a language model" or "use a regular file" in str(refused.value), name
    for suffix in (".safetensors", ".npy", ".npz", ".zip", ".txt", ".jsonl", ".parquet", ".arrow", ".gguf"):
        path = special(kind, tmp_path / f"y{suffix}")
        readers = [open_samples, digest_path, lambda path: Checkpoint("m", 1, path, "").tensors()]
        for read in readers:
            with deadline(WAIT), pytest.raises(InputError, match=NOT_REGULAR):
                read(path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_a_folder_that_holds_what_is_no_regular_file_is_an_error_that_names_it(special, tmp_path, kind):
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    for name in ("a.png", "config.json"):
        (folder / name).write_bytes(b"{}")
    for name in ("b.png", "c.txt", "model.safetensors"):
        path = special(kind, folder / "below" / name)
        for read in (digest_path, stamp_path, open_samples, lambda folder: Checkpoint.open(folder, "m", 1)):
            with deadline(WAIT), pytest.raises(InputError, match=rf"{name} is a {NOT_REGULAR}"):
                read(folder)
        with pytest.raises(InputError, match="under EVALSVC_CHECKPOINT_ROOTS"):
            under_roots(str(folder), [tmp_path])
        path.unlink()
    special(kind, folder / "._socket")  # what systems leave is passed over
    assert digest_path(folder)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(special, tmp_path, monkeypatch):
    monkeypatch.setattr(regular_files, "require_regular", lambda path: None)  # it was a file when it was looked at
    with deadline(WAIT), pytest.raises(InputError, match="named pipe"):
        regular_files.open_regular(special("pipe", tmp_path / "x"))


def safetensors(path, header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
DAMAGED = {
    "many empty tensors": ({f"t{i}": EMPTY for i in range(20_000)}, b""),
    "a header beyond the end": (b"", b""),
    "overlapping tensors": ({"a": ONE, "b": ONE}, bytes(4)),
    "a tensor before the begin": ({"a": ONE | {"data_offsets": [-4, 0]}}, bytes(4)),
    "a shape beyond all numbers": ({"a": ONE | {"shape": [2**62, 4]}}, bytes(4)),
    "deep JSON": (b'{"__metadata__":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, b""),
    "a long name": ({"a" * 3000: ONE}, bytes(4)),
    "bytes that no tensor has": ({"a": ONE}, bytes(8)),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_hostile_safetensors_header_is_a_sentence_wherever_it_is_read(tmp_path, damage):
    path = safetensors(tmp_path / "model.safetensors", *DAMAGED[damage])
    if damage == "a header beyond the end":
        path.write_bytes(struct.pack("<Q", 2**63 - 1) + b"{}")
    (tmp_path / "config.json").write_text("{}")
    checkpoint = Checkpoint.open(path, "m", 1)
    for read in (checkpoint.tensors, checkpoint.metadata, lambda: weight_set(tmp_path, "it")):
        with pytest.raises(CheckpointError, match="is not a complete safetensors file") as refused:
            read()
        assert len(str(refused.value)) < 1000


def test_a_header_may_be_as_large_as_its_tensors_explain(tmp_path):
    names = [f"model.layers.{i}.mlp.experts.{i}.down_proj.weight" for i in range(12_000)]
    save_file({name: torch.full((200,), i) for i, name in enumerate(names)}, tmp_path / "m_1.safetensors")
    loaded = Checkpoint.open(tmp_path / "m_1.safetensors", "m", 1).tensors()
    assert loaded[names[-1]][0] == len(names) - 1


def npy(shape, data, descr="|u1"):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("shape", [(10**9, 64, 64, 3), (10**30, 2**62), (-1, 8, 8)])
@pytest.mark.parametrize("compression", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path, shape, compression):
    path = tmp_path / ("x.npy" if compression is None else "x.npz")
    if compression is None:
        path.write_bytes(npy(shape, bytes(100)))
    else:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("x.npy", npy(shape, bytes(100)))
    with pytest.raises(InputError, match="is truncated: its header declares an array"):
        open_samples(path)


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez_compressed(tmp_path / "x.npz", np.array([{"a": 1}], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InputError, match="contains an array of Python objects, which evalsvc never unpickles"):
            open_samples(tmp_path / name)


def test_a_compressed_array_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", np.zeros((100, 32, 32, 3), np.uint8))
    assert len(open_samples(tmp_path / "x.npz")) == 100
    monkeypatch.setattr(regular_files, "UNPACKED", 2**16)
    with pytest.raises(
        InputError, match=r"to 307,328 bytes and looks like a decompression bomb: save it uncompressed with np\.savez"
    ):
        open_samples(tmp_path / "x.npz")


def test_a_parquet_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(regular_files, "UNPACKED", 2**22)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * 2**12]))
    pyarrow.parquet.write_table(pa.table({"text": text}), tmp_path / "x.parquet", store_schema=False)
    with (
        (tmp_path / "x.parquet").open("rb") as source,
        (tmp_path / "out").open("wb") as target,
        pytest.raises(RefusedError, match="unpacks to more than 4,194,304 bytes and looks like a decompression bomb"),
    ):
        convert_cells(source, target, "text", (0, 1), regular_files.most_unpacked(0), 3000)
    assert (tmp_path / "out").stat().st_size < 2 * 2**22


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" * 101 + b"]" * 101, "more than 100 levels deep"),
        (b'{"a":' * 200, "more than 100 levels deep"),
        (b'["\\"[", ' + b"[" * 101, "more than 100 levels deep"),
        (b"[" + b"1," * 2**10 + b"1]", "more than 1,000 values"),
        (b"[" + b" " * 2**16 + b"]", "65,538 bytes, more than 65,536"),
        (b'"' + b'\\"' * 30_000, "Unterminated string"),
        ("[1]".encode("utf-16"), "codec can't decode"),
    ],
)
def test_json_is_measured_before_it_is_parsed(tmp_path, monkeypatch, data, reason):
    monkeypatch.setattr(json_files, "MOST_VALUES", 1000)
    monkeypatch.setattr(json_files, "LARGEST", 2**16 if reason.startswith("65") else 2**26)
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        read_json(tmp_path / "x.json")


def test_brackets_in_strings_are_no_depth(tmp_path):
    value = {"a": ["[" * 1000, '"{' * 1000, "\\"], '\\"[': 1}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "x.json") == value
