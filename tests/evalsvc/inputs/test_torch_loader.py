import json
import mmap
import os
import socket
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
import torch

from evalsvc.core.errors import CheckpointError
from evalsvc.core.sandbox import restrictions
from evalsvc.inputs import torch_loader
from evalsvc.inputs.checkpoints import Checkpoint

HOSTILE = """
# The process that reads, with a reader that runs a file which begins with "run" as the program that it holds. So would
# a file that escaped torch's reader. A request may name layers of the confinement that the system is to lack.
import ctypes, json, os, signal, socket, stat, sys, time
from evalsvc.core.sandbox import restrictions, seccomp
from evalsvc.inputs import torch_loader_process as reader

convert, be_child = reader.convert, reader._be_child
LAYERS = {
    "a session of its own": (restrictions, "keep_only", lambda *descriptors: list(descriptors)),
    "namespaces": (restrictions, "_enter_namespaces", lambda *_: False),
    "another user": (restrictions, "_drop_root", lambda: None),
    "Landlock": (restrictions, "_landlock", lambda _: None),
    "limits": (restrictions, "_forbid_processes", lambda: None),
    "the filter": (seccomp, "install", lambda: False),
}


def be_child_without(request, descriptors, writing):
    for layer in request.get("without", ()):
        setattr(*LAYERS[layer])
    be_child(request, descriptors, writing)


def act(source, target):
    first, _, program = source.read().partition(b"\\n")
    source.seek(0)
    if first != b"run":
        convert(source, target)
    else:
        exec(program, globals() | {"source": source, "target": target})


reader._import_all()
reader._import_all = lambda: None
reader.convert, reader._be_child = act, be_child_without
reader.main(sys.argv[1])
"""
LOOK = """
def attempt(what):
    try:
        return what()
    except Exception:
        return None

tried = {
    "own environment": lambda: [name for name in os.environ if "SECRET" in name or name.startswith("EVALSVC_")],
    "the asker's environment": lambda: open(f"/proc/{asker}/environ").read(),
    "the reader's environment": lambda: open(f"/proc/{os.getppid()}/environ").read(),
    "a file": lambda: open(file).read(),
    "a file of everybody": lambda: open("/etc/passwd").read(),
    "a new file": lambda: open(file + ".new", "w"),
    "the place of a file": lambda: os.rename(file, file + ".moved") or "moved",
    "the network": lambda: socket.create_connection(("127.0.0.1", port), 2),
    "datagrams": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port)),
    "a signal": lambda: os.kill(asker, 0) or "sent",
    "root": lambda: os.setuid(0) or "root",
    "a process": lambda: os.fork() + 1,
    "a program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "memory to share": lambda: os.memfd_create("x") + 1,
    "a session": lambda: os.setsid() or "began",
    "limits of another": lambda: ctypes.CDLL(None).prlimit(asker, 7, None, None) == 0,
    "owner of a signal": lambda: __import__("fcntl").fcntl(3, 8, asker) or "owner",
    "the reader's socket": lambda: [n for n in range(64) if attempt(lambda: stat.S_ISSOCK(os.fstat(n).st_mode))],
    "descriptors": lambda: [n for n in range(6, 64) if attempt(lambda: os.fstat(n))],
    "streams": lambda: [n for n in range(3) if os.fstat(n).st_rdev != os.makedev(1, 3)],
    "a terminal": lambda: [n for n in range(64) if os.isatty(n)],
}
raise reader.RefusedError(json.dumps([name for name, what in tried.items() if attempt(what)]))
"""
SURVIVE = """
# A grandchild in a session of its own that holds the pipe of the answer, the file and the place of the tensors.
grandchild = os.fork()
if grandchild == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(300)
target.write(reader.safetensors.torch.save(
    {json.dumps(["", "level"]): reader.torch.tensor(grandchild)}, {"others": "[]"}
))
target.flush()
"""
DEEDS = {
    "eat": ("bytearray(2**30)", "needs far more memory than its size"),
    "sleep": ("signal.signal(signal.SIGALRM, signal.SIG_IGN); time.sleep(100)", "was not read within 1 s"),
    "hang up": ("for n in range(6): os.close(n)\ntime.sleep(100)", "was not read within 1 s"),
    "flood": ("while True: os.write(3, bytes(2**16))", "was not read within 1 s"),
    "crash": ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed the process that read it (SIGSEGV)"),
    "end": ("os.kill(os.getpid(), 40)", "crashed the process that read it (signal 40)"),
    "lie": ("target.write(b'no tensors'); target.flush()", "was converted to an invalid set of tensors"),
    "fill": ("while True: target.write(bytes(2**20))", "could not be read (OSError: [Errno 27] File too large)"),
    "deep names": (
        "target.write(reader.safetensors.torch.save({'[' * 1900: reader.torch.zeros(1)})); target.flush()",
        "was converted to an invalid set of tensors",
    ),
    "long names": (
        "target.write(reader.safetensors.torch.save({'x' * 5000: reader.torch.zeros(1)})); target.flush()",
        "was converted to an invalid set of tensors (a tensor has a name of more than 2000 characters)",
    ),
}


@pytest.fixture(scope="module")
def start():
    """Starts readers that hostile files take over; their environment is that of a process with secrets."""
    started, readers = subprocess.Popen, []

    def start():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EVALSVC_DATABASE_URL", "postgresql://secret")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            patch.setattr(
                subprocess,
                "Popen",
                lambda command, **options: started([command[0], "-c", HOSTILE, command[-1]], **options),
            )
            readers.append(torch_loader._Reader())
            readers[-1]._start()
        return readers[-1]

    yield start
    for reader in readers:
        if reader._process:
            reader._process.kill()
            reader._process.wait()


@pytest.fixture(scope="module")
def taken_over(start):
    """A reader that outlives all the files that take it over."""
    return start()


@pytest.fixture
def reader(taken_over, monkeypatch):
    monkeypatch.setattr(torch_loader, "_reader", taken_over)
    return taken_over


@pytest.fixture
def refusal(reader, tmp_path):
    def refusal(program):
        path = tmp_path / "hostile.pt"
        path.write_text(f"run\n{program}")
        with pytest.raises(CheckpointError, match=r"^checkpoint .*hostile\.pt ") as refused:
            Checkpoint.open(path, "m", 1).tensors()
        return str(refused.value).partition("hostile.pt ")[2]

    return refusal


def lacking(reader, monkeypatch, *layers):
    """Have the reader's next children do without these layers, as on a system that has none."""
    ask = reader.ask
    monkeypatch.setattr(reader, "ask", lambda request, *files: ask(request | {"without": layers}, *files))


def test_code_in_a_checkpoint_finds_no_secret_no_file_no_network_and_no_process(refusal, tmp_path):
    secret = tmp_path / "credentials"
    secret.write_text("secret")
    secret.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server:
        asker = f"asker, port, file = {os.getpid()}, {server.getsockname()[1]}, {str(secret)!r}\n"
        assert json.loads(refusal(asker + LOOK)) == []


@pytest.mark.parametrize("layer", ["namespaces", "another user", "Landlock", "limits", "the filter"])
def test_where_the_system_lacks_any_one_layer_the_others_close_what_it_closed(reader, monkeypatch, layer):
    lacking(reader, monkeypatch, layer)
    # Without the filter names are hidden by the empty root alone, which a container may not allow.
    assert torch_loader.reachable() in (["", "names of files"] if layer == "the filter" else [""])


def test_what_is_open_where_nothing_confines_is_named_whole(reader, monkeypatch):
    lacking(
        reader, monkeypatch, "a session of its own", "namespaces", "another user", "Landlock", "limits", "the filter"
    )
    expected = {
        *("files", "names of files", "folders to write to", "the environment of other processes", "the network"),
        *("the memory of other processes", "signals to other processes", "sockets", "further processes"),
        *("other programs", "foreign descriptors", "foreign standard streams", "a foreign session"),
    }
    # Some containers forbid to look into others whatever their user.
    assert expected - {"the memory of other processes"} <= set(torch_loader.reachable().split(", "))


def test_nothing_survives_a_file_and_nothing_that_holds_its_pipe_is_waited_for(reader, monkeypatch, tmp_path):
    (tmp_path / "hostile.pt").write_text(f"run\n{SURVIVE}")
    lacking(reader, monkeypatch, "limits", "the filter")  # so that there can be one
    grandchild = int(Checkpoint.open(tmp_path / "hostile.pt", "m", 1).tensors()["level"])
    with pytest.raises(ProcessLookupError):
        os.kill(grandchild, 0)


@pytest.mark.parametrize("ends", ["the socket closes", "the reader is killed"])
def test_a_file_is_read_no_longer_than_somebody_waits_for_it(start, tmp_path, ends):
    (tmp_path / "hostile.pt").write_text(
        "run\ntarget.write(str(os.getpid()).encode()); target.flush(); time.sleep(300)"
    )
    reader = start()
    with (tmp_path / "hostile.pt").open("rb") as source, torch_loader._nameless() as target:
        request = json.dumps({"seconds": 300, "format": "torch"}).encode()
        socket.send_fds(reader._channel, [request], [source.fileno(), target.fileno()])
        until(lambda: os.fstat(target.fileno()).st_size)
        child = int(os.pread(target.fileno(), 20, 0))
    if ends == "the socket closes":
        reader._channel.close()
    else:
        reader._process.kill()
    reader._process.wait(60)
    until(lambda: not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text())


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_file_that_another_tool_zipped_anew_is_read(tmp_path):
    torch.save({"x": torch.arange(3)}, tmp_path / "saved.pt")
    with (
        zipfile.ZipFile(tmp_path / "saved.pt") as saved,
        zipfile.ZipFile(tmp_path / "again.pt", "w", zipfile.ZIP_DEFLATED) as again,
    ):
        for name in saved.namelist():
            again.writestr(name, saved.read(name))
    assert Checkpoint.open(tmp_path / "again.pt", "m", 1).tensors()["x"].tolist() == [0, 1, 2]


def test_a_file_cannot_answer_for_the_next_one(refusal, tmp_path):
    assert refusal("for n in range(3, 64):\n    socket.socket(fileno=n).sendall(b'\\\"\\\"')").startswith(
        "could not be read"
    )
    for value in (1, 2):
        torch.save({"x": torch.tensor(value)}, tmp_path / "good.pt")
        assert Checkpoint.open(tmp_path / "good.pt", "m", 1).tensors()["x"] == value


def test_tensors_that_something_could_still_change_are_not_read():
    with torch_loader._nameless() as target:
        target.write(bytes(4096))
        target.flush()
        with mmap.mmap(target.fileno(), 4096), pytest.raises(OSError, match="busy"):
            torch_loader._seal(target)
        torch_loader._seal(target)
        with pytest.raises(PermissionError):
            os.write(target.fileno(), b"late")


def test_the_reader_never_had_the_secrets(reader, refusal):
    refusal("raise OSError")
    environment = Path(f"/proc/{reader._process.pid}/environ").read_bytes()
    assert b"secret" not in environment
    assert b"PATH=" in environment


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_file_does_to_its_reader_is_one_sentence_and_harms_nobody_else(refusal, tmp_path, monkeypatch, deed):
    program, sentence = DEEDS[deed]
    if "1 s" in sentence:
        monkeypatch.setattr(torch_loader, "SECONDS", 1)
    assert refusal(program).startswith(sentence)
    monkeypatch.setattr(torch_loader, "SECONDS", 60)
    torch.save({"x": torch.arange(3)}, tmp_path / "good.pt")
    assert Checkpoint.open(tmp_path / "good.pt", "m", 1).tensors()["x"].tolist() == [0, 1, 2]


def test_the_reader_imports_nothing_from_the_folder_that_somebody_is_in(tmp_path, monkeypatch):
    for module in ("torch", "evalsvc", "json"):
        (tmp_path / f"{module}.py").write_text("open('imported', 'w')")
    torch.save({"x": torch.arange(3)}, tmp_path / "good.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch_loader, "_reader", torch_loader._Reader())
    assert Checkpoint.open(Path("good.pt"), "m", 1).tensors()["x"].tolist() == [0, 1, 2]
    assert not Path("imported").exists()


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
    assert "secret" not in restrictions.environment().values()


def test_nothing_is_left_to_reach_on_this_system():
    assert torch_loader.reachable() == ""


def test_a_read_that_was_interrupted_leaves_no_answer_to_the_next(tmp_path, monkeypatch):
    torch.save({"x": torch.arange(3)}, tmp_path / "good.pt")
    (tmp_path / "bad.pt").write_text("no checkpoint")
    reader = torch_loader._Reader()
    monkeypatch.setattr(torch_loader, "_reader", reader)

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
