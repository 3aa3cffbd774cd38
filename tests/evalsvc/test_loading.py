import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from evalsvc import confinement, loading
from evalsvc.checkpoints import Checkpoint
from evalsvc.errors import CheckpointError

HOSTILE = """
# The process that reads, with a reader that lets the file's first word run what it likes.
import json, os, signal, socket, sys, time
from evalsvc import load_worker

convert = load_worker.convert


def attempt(what):
    try:
        return what()
    except Exception as error:
        return None


def look(asker, port, file):
    tried = {
        "own environment": lambda: [name for name in os.environ if "SECRET" in name or name.startswith("EVALSVC_")],
        "the asker's environment": lambda: open(f"/proc/{asker}/environ").read(),
        "the reader's environment": lambda: open(f"/proc/{os.getppid()}/environ").read(),
        "a file": lambda: open(file).read(),
        "a file of everybody": lambda: open("/etc/passwd").read(),
        "a new file": lambda: open(file + ".new", "w"),
        "the network": lambda: socket.create_connection(("127.0.0.1", int(port)), 2),
        "a signal": lambda: os.kill(int(asker), 0) or "sent",
        "root": lambda: os.setuid(0) or "root",
    }
    raise load_worker.RefusedError(json.dumps([name for name, what in tried.items() if attempt(what)]))


def act(source, target):
    word, *rest = source.read(200).decode(errors="replace").split()
    source.seek(0)
    if word == "look":
        look(*rest)
    elif word == "eat":
        bytearray(2**30)
    elif word == "sleep":
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        time.sleep(100)
    elif word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "lie":
        target.write(b"no tensors")
        target.flush()
    elif word == "fill":
        while True:
            target.write(bytes(2**20))
    else:
        convert(source, target)


load_worker._import_all()
load_worker._import_all = lambda: None
load_worker.convert = act
load_worker.main(sys.argv[1])
"""


@pytest.fixture(scope="module")
def taken_over():
    """A reader that hostile files take over; it outlives all of them."""
    started = subprocess.Popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_reader", loading._Reader())
        patch.setenv("EVALSVC_DATABASE_URL", "postgresql://secret")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setattr(
            subprocess, "Popen", lambda command, **options: started([command[0], "-c", HOSTILE, command[-1]], **options)
        )
        hostile = loading._reader
        hostile._start()
    yield hostile
    hostile._process.kill()
    hostile._process.wait()


@pytest.fixture
def reader(taken_over, monkeypatch):
    monkeypatch.setattr(loading, "_reader", taken_over)
    return taken_over


@pytest.fixture
def refusal(reader, tmp_path):
    def refusal(words):
        path = tmp_path / "hostile.pt"
        path.write_text(words)
        with pytest.raises(CheckpointError, match=r"^checkpoint .*hostile\.pt ") as refused:
            Checkpoint.open(path, "m", 1).tensors()
        return str(refused.value).partition("hostile.pt ")[2]

    return refusal


def test_code_in_a_checkpoint_finds_no_secret_no_file_no_network_and_no_process(refusal, tmp_path):
    secret = tmp_path / "credentials"
    secret.write_text("secret")
    secret.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = json.loads(refusal(f"look {os.getpid()} {server.getsockname()[1]} {secret}"))
    assert found == []


def test_the_reader_never_had_the_secrets(reader, refusal):
    refusal("lie")
    environment = Path(f"/proc/{reader._process.pid}/environ").read_bytes()
    assert b"secret" not in environment
    assert b"PATH=" in environment


@pytest.mark.parametrize(
    ("deed", "sentence"),
    [
        ("eat", "needs far more memory than its size"),
        ("sleep", "was not read within 2 s"),
        ("crash", "ended the process that read it (SIGSEGV)"),
        ("lie", "was read to something that is no set of tensors"),
        ("fill", "could not be read (OSError: [Errno 27] File too large)"),
    ],
)
def test_what_a_file_does_to_its_reader_is_one_sentence_and_harms_nobody_else(
    refusal, tmp_path, monkeypatch, deed, sentence
):
    if deed == "sleep":
        monkeypatch.setattr(loading, "SECONDS", 2)
    assert refusal(deed).startswith(sentence)
    monkeypatch.setattr(loading, "SECONDS", 60)
    torch.save({"x": torch.arange(3)}, tmp_path / "good.pt")
    assert Checkpoint.open(tmp_path / "good.pt", "m", 1).tensors()["x"].tolist() == [0, 1, 2]


def test_a_small_file_of_a_huge_tensor_is_refused(tmp_path):
    torch.save({"x": torch.zeros(1).expand(2**38)}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="needs far more memory than its size"):
        Checkpoint.open(tmp_path / "bomb.pt", "m", 1).tensors()


def test_every_kind_of_tensor_comes_back_bit_by_bit_whoever_reads(tmp_path):
    shared = torch.randn(4, 6)
    state = {
        "tied": shared,
        "to": shared,
        "part": shared[1:3, ::2],
        "turned": shared.T,
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.bool)},
    }
    for legacy in (False, True):
        torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
        checkpoint = Checkpoint.open(tmp_path / "w.pt", "m", 1)
        for loaded in (checkpoint.tensors(), checkpoint.tensors(trusted=True)):
            assert loaded.keys() == state.keys()
            for name, tensor in state.items():
                assert loaded[name].dtype == tensor.dtype
                assert torch.equal(loaded[name], tensor)


def test_a_child_inherits_no_secret(monkeypatch):
    monkeypatch.setenv("EVALSVC_DATABASE_URL", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "secret" not in confinement.environment().values()


def test_nothing_is_left_to_reach_on_this_system():
    assert loading.reachable() == ""


def test_a_read_that_was_interrupted_leaves_no_answer_to_the_next(tmp_path, monkeypatch):
    torch.save({"x": torch.arange(3)}, tmp_path / "good.pt")
    (tmp_path / "bad.pt").write_text("no checkpoint")
    reader = loading._Reader()
    monkeypatch.setattr(loading, "_reader", reader)

    def interrupted(*request):
        send_fds(*request)
        raise KeyboardInterrupt

    send_fds = socket.send_fds
    bad = Checkpoint.open(tmp_path / "bad.pt", "m", 1)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "send_fds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bad.tensors()
    assert Checkpoint.open(tmp_path / "good.pt", "m", 1).tensors()["x"].tolist() == [0, 1, 2]
