"""The files of the tutorials do what the tutorials say, saved and run as a reader does."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from evalsvc.builtin.generators.command import CommandSamples
from evalsvc.cli.main import app
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.samples import SampleRequest
from tests.docs.pages import ROOT, blocks


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    """A folder with all files that pages ask a reader to save, as the working directory and on Python's path."""
    for block in blocks("python", "yaml", "toml"):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EVALSVC_HOME", str(tmp_path / "home"))
    return tmp_path


def test_the_generator_of_the_tutorial_passes_its_check(saved):
    runpy.run_path("save_checkpoints.py")
    words = "plugins check my-model --plugin my_generator.py --checkpoint runs/my-model/step_100.safetensors"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    assert result.output.count("identical") == 3


def test_the_network_of_the_guide_passes_its_check_and_the_program_speaks(saved):
    save_file(runpy.run_path("faces.py")["Generator"]().state_dict(), "step_1.safetensors")
    words = "plugins check torch-module --checkpoint step_1.safetensors --option module=faces.py:Generator"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    spoken = CommandSamples(Checkpoint.open(Path("espeak.yaml"), "m", 1), torch.device("cpu"))
    drawn = spoken.sample(SampleRequest.of(0, 0, 1, prompts=["hello"]))
    assert len(drawn.samples.waves[0]) > drawn.samples.rate / 5


def test_the_samples_of_the_tutorial_are_images_of_the_suite(saved):
    runpy.run_path("make_samples.py")
    (images,) = np.load("noise.npz").values()
    assert images.shape == (2000, 8, 8, 1)
    assert images.dtype == np.uint8


def test_the_metrics_of_the_readme_run(capsys):
    readme = [block for block in blocks("python") if block.page == ROOT / "README.md"]
    (block,) = (block for block in readme if "frechet_distance(" in block.text)
    exec(compile(block.text, "README.md", "exec"), {})
    value, stderr, low, high = map(float, capsys.readouterr().out.split())
    assert low < value < high
    assert stderr < value


def test_the_items_of_the_guide_are_scored_as_it_says(saved):
    runpy.run_path("make_capitals.py")
    for words in (
        "suite validate capitals.yaml",
        "score answers_step_100.jsonl --generator samples --suite capitals.yaml --model capitals-lm --device cpu",
    ):
        result = CliRunner().invoke(app, words.split())
        assert result.exit_code == 0, result.output
    assert "0.6667" in result.output
