"""What a user can do wrong: one sentence on stderr, exit 2, nothing half-written."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.builtin.demo import shipped
from evalsvc.cli import main
from evalsvc.store.session import Database

VAE = next(path for family, step, path in shipped() if family == "vae" and step == 1000)


@pytest.fixture
def refuses(tmp_path, monkeypatch, capsys):
    """Runs a command in this process and gives its one sentence; no score may have been left behind."""
    monkeypatch.setenv("EVALSVC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def refuses(*arguments):
        monkeypatch.setattr(sys, "argv", ["evalsvc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main.run()
        assert stopped.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        sentences = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        assert len(sentences) == 1, printed.err
        database = tmp_path / "home" / "evalsvc.db"
        if database.exists():
            assert sqlite3.connect(database).execute("SELECT count(*) FROM scores").fetchone() == (0,)
        return sentences[0]

    return refuses


def truncated(folder):
    path = folder / "w_1.safetensors"
    path.write_bytes(VAE.read_bytes()[:-100])
    return path


def executable(folder):
    path = folder / "w_1.pt"
    torch.save({"x": Bomb(folder / "executed")}, path)
    return path


class Bomb:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


def misshapen(folder):
    path = folder / "w_1.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    return path


def few(folder):
    path = folder / "few_1.npz"
    np.savez(path, np.zeros((20, 8, 8), np.uint8))
    return path


@pytest.mark.parametrize(
    ("make", "generator", "complaint"),
    [
        (lambda folder: folder / "none_1.pt", "vae", "does not exist"),
        (lambda folder: folder / "none_*.pt", "vae", "no checkpoint matches"),
        (lambda folder: VAE, "va", "no generator 'va'; the nearest are vae"),
        (truncated, "vae", "not a complete safetensors file"),
        (executable, "vae", "save it as safetensors"),
        (misshapen, "vae", "does not fit the model"),
        (few, "samples", "contains 20 samples"),
    ],
)
def test_a_bad_checkpoint_is_refused(refuses, tmp_path, make, generator, complaint):
    assert complaint in refuses("score", make(tmp_path), "--generator", generator)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--suite", "digts"), "there is no suite 'digts'"),
        (("--option", "z"), "use key=value"),
        (("--option", "z=3"), "does not take these options"),
        (("--device", "cuda:9"), "device 'cuda:9' cannot be used here"),
        (("--device", "meta"), "device 'meta' cannot be used here"),
        (("--plugin", "none.py"), "none.py does not exist"),
    ],
)
def test_a_bad_option_is_refused(refuses, arguments, complaint):
    assert complaint in refuses("score", VAE, "--generator", "vae", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [("leaderboard",), ("compare", "a", "b"), ("show", "a"), ("export", "x.csv", "--suite", "digits")],
)
def test_an_empty_database_says_how_to_get_the_first_score(refuses, arguments):
    assert "scored yet" in refuses(*arguments)


def test_a_database_from_the_future_is_refused(refuses, evalsvc, tmp_path):
    evalsvc("models")
    with sqlite3.connect(tmp_path / "home" / "evalsvc.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "upgrade evalsvc" in refuses("models")


def test_a_changed_reference_is_refused(refuses, evalsvc, tmp_path):
    np.savez(tmp_path / "real.npz", np.zeros((50, 8, 8), np.uint8))
    evalsvc("reference", "add", "mine", "real.npz")
    np.savez(tmp_path / "real.npz", np.ones((50, 8, 8), np.uint8))
    suite = "{name: s, version: 1, modality: image, reference: mine, samples: 20, extractors: {p: {use: pixels}}, "
    (tmp_path / "s.yaml").write_text(suite + "metrics: [{metric: frechet_distance, features: p/pixels}]}")
    sentence = refuses("score", few(tmp_path), "--generator", "samples", "--suite", "s.yaml")
    assert "'mine' has changed" in sentence


def test_a_file_size_limit_stands_for_a_full_disk(tmp_path, environment):
    """The kernel itself refuses the write: the run fails by name, and with room again it goes on."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2); "
        "from evalsvc.cli.main import run; run()"
    )
    arguments = ["score", str(VAE), "--generator", "vae", "--json"]

    def run(limit):
        command = [sys.executable, "-c", code, str(limit), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    # The journal of a new database's migrations would be refused before any sample.
    Database(f"sqlite:///{tmp_path}/home/evalsvc.db").engine.dispose()
    refused = run(250_000)
    assert refused.returncode == 2, refused.stderr
    assert "run the same command again" in refused.stderr
    assert not list((tmp_path / "home" / "artifacts").rglob("*/.tmp*"))
    assert run(2**31).returncode == 0
