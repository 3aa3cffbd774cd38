"""The example of a gate on speech: its programs speak, and a recognizer that mishears some words decides."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from typer.testing import CliRunner

from evalsvc.builtin.generators.command import CommandSamples
from evalsvc.builtin.generators.program import Runner
from evalsvc.builtin.recognizers import opening
from evalsvc.builtin.recognizers.faster_whisper import FasterWhisper
from evalsvc.builtin.recognizers.interface import RATE
from evalsvc.builtin.scorers.error_rates import WordErrors
from evalsvc.cli.main import app
from evalsvc.gates.policy import load_policy
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.samples import SampleRequest, Texts
from tests.evalsvc.builtin.test_image_scorers import CPU, batch

SPEECH = Path(__file__).parents[3] / "examples" / "gates" / "speech"
POLICY = str(SPEECH / "evalsvc-gate.yaml")
ACCENTS = ("en-us", "en-gb-scotland")


def test_the_programs_speak_and_are_heard():
    one = SampleRequest.of(1, 0, 2)
    text = "The baby fell asleep during the long drive."
    asked = SampleRequest(one.seeds, one.indices, one.device, (text, text), sources=Texts(ACCENTS))
    scorer = WordErrors(CPU, recognizer={"window": 10.0})
    for program in ("flite.yaml", "espeak.yaml"):
        drawn = CommandSamples(Checkpoint.open(SPEECH / program, "speaker", 1), torch.device("cpu")).sample(asked)
        assert not drawn.failures
        one, other = drawn.samples.waves
        assert one.shape != other.shape, "the accents are two voices"
        rates = scorer.score(drawn.samples, batch(2, targets=((text,), (text,)))).values["wer"]
        assert bool((rates < 1).all()), program


def spoken(_, arguments, folder):
    """In place of a program: a sound whose samples are the characters of the accent and the sentence."""
    output, source, text = arguments[-3:]
    letters = np.array(list(f"{Path(source).read_text()}:{text}".encode()), np.float32)
    wavfile.write(output, RATE, letters / 128)


def mishearing(share):
    """In place of the recognizer: of each accent, this share of the words is misheard."""

    def hear(_, wave, language):
        accent, _, text = bytes((wave * 128).round().astype(np.uint8)).decode().partition(":")
        words, random = text.split(), np.random.default_rng(len(wave))
        return " ".join("so" if random.random() < share[accent] else word for word in words)

    return hear


@pytest.mark.parametrize(
    ("share", "code", "verdict"),
    [
        ({"en-us": 0.06, "en-gb-scotland": 0.1}, 0, "PASS"),
        ({"en-us": 0.01, "en-gb-scotland": 0.35}, 3, "FAIL"),
    ],
)
def test_a_voice_that_is_misheard_does_not_ship(home, monkeypatch, share, code, verdict):
    # Another recognizer under the same name, which must not find what the one before has heard.
    monkeypatch.setattr(opening, "_OPEN", {})
    monkeypatch.setattr(Runner, "run", spoken)
    monkeypatch.setattr(FasterWhisper, "__init__", _unopened)
    monkeypatch.setattr(FasterWhisper, "hear", mishearing(share))
    options = ["--candidate", str(SPEECH / "flite.yaml"), "--generator", "command", "--model", "flite", "--step", "1"]
    run = CliRunner().invoke(app, ["gate", "run", POLICY, *options])
    assert run.exit_code == code, run.output
    assert [line for line in run.stdout.splitlines() if line.startswith(f"{verdict}: ")]


def _unopened(self, folder, weights, use, who, device):
    self.languages, self.weights, self.facts = frozenset({"en"}), weights, {"recognizer": "mishears"}


def test_the_policy_limits_failures_too_so_that_silence_is_not_good_speech():
    assert set(load_policy(Path(POLICY)).metrics) == {"wer_corpus", "wer_corpus[worst]", "heard_failed"}
