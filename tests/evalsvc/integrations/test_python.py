"""The Python interface: what is scored, what is recognized, and how results show themselves."""

import asyncio
import gc
import inspect
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import evalsvc
from evalsvc import Images, SampleRequest, Texts
from evalsvc.api.client import Client
from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.integrations.python.rendering import Grid

SUITE = """
name: tiny
version: 1
modality: image
samples: 24
shard: 12
gallery: 4
extractors: {pixels: {use: pixels}}
metrics: [{metric: vendi_score, features: pixels/pixels}]
"""


@pytest.fixture
def suite(home, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)


class Blurry(nn.Module):
    """Maps latents to images, and counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3 * 8 * 8)
        self.strength = 1.0
        self._asked = 0

    def forward(self, z):
        assert not self.training
        self._asked += len(z)
        return torch.tanh(self.strength * self.layer(z)).reshape(-1, 3, 8, 8)


def test_the_same_array_is_scored_once_and_a_changed_one_is_another_checkpoint(suite, images):
    first = evalsvc.evaluate(images, suite, model="mine", step=1000)
    again = evalsvc.evaluate(torch.from_numpy(images.copy()), suite, model="mine", step=1000)
    assert (first.computed, again.computed, first.evaluation) == (True, False, again.evaluation)
    assert (first.name, first.suite) == ("mine@1000", "tiny@1")
    changed = images.copy()
    changed[0, 0, 0, 0] ^= 1
    other = evalsvc.evaluate(changed, suite, model="mine", step=1000)
    assert other.checkpoint != first.checkpoint
    assert other.computed


def test_scores_are_those_of_the_command_line_for_the_same_checkpoint(suite, images, tmp_path):
    run = evalsvc.evaluate(images / np.float32(255), suite)
    np.save(tmp_path / "samples.npy", images)
    command = ["score", str(tmp_path / "samples.npy"), "--generator", "samples", "--suite", suite]
    done = CliRunner().invoke(app, [*command, "--model", "samples", "--step", "0", "--rerun", "--json"])
    [document] = json.loads(done.stdout)
    assert document["scores"][0]["value"] == run.scores["vendi_score"].value
    [row] = evalsvc.scores()
    assert row.digest == run.checkpoint
    assert row.evaluation_id != run.evaluation


def test_a_function_is_scored_again_each_time_and_says_so(suite):
    asked = []

    def noise(request: SampleRequest) -> Images:
        asked.append(len(request))
        return Images.from_unit(request.uniform(1, 8, 8))

    first, again = (evalsvc.evaluate(noise, suite) for _ in range(2))
    assert sum(asked) == 48
    assert first.checkpoint != again.checkpoint
    assert first.callable
    assert first.scores["vendi_score"].value == again.scores["vendi_score"].value
    assert "scored again each time" in first.provenance["weights"]
    assert "callables are always scored again" in repr(first)
    assert first.name == "noise@0"


def test_a_module_is_known_by_tensors_and_code_and_stays_in_its_mode(suite):
    torch.manual_seed(0)
    module = Blurry()
    options = {"latent": 6}
    first = evalsvc.evaluate(module, suite, options=options)
    again = evalsvc.evaluate(module, suite, options=options)
    assert (module._asked, first.computed, again.computed, module.training) == (24, True, False, True)
    module.strength = 2.0
    stronger = evalsvc.evaluate(module, suite, options=options)
    assert stronger.computed
    assert stronger.checkpoint == first.checkpoint
    with torch.no_grad():
        module.layer.bias.add_(1)
    assert evalsvc.evaluate(module, suite, options=options).checkpoint != first.checkpoint


def test_a_module_that_samples_itself_needs_no_latent(suite):
    class Sampler(Blurry):
        def sample(self, request):
            return Images.from_signed(self(request.normal(6)))

    assert evalsvc.evaluate(Sampler(), suite).scores


def test_what_was_scored_is_read_compared_and_ranked(suite, images):
    a = evalsvc.evaluate(images, suite, model="mine", step=500)
    b = evalsvc.evaluate(images // 2, suite, model="mine", step=1000)
    [difference] = evalsvc.compare(b, "mine@500")
    assert difference.value == a.scores["vendi_score"].value - b.scores["vendi_score"].value
    assert list(evalsvc.compare("mine@500", b).to_frame()["difference"]) == [-difference.value]
    assert list(evalsvc.leaderboard("tiny@1").to_frame()["step"]) == [1000]
    assert sorted(evalsvc.scores(model="mine").to_frame()["step"]) == [500, 1000]
    assert [row.step for row in evalsvc.scores(step=500, digest=a.checkpoint[:8])] == [500]
    assert b.to_frame().loc[0, "value"] == b.scores["vendi_score"].value


def test_texts_are_scored(home, tmp_path):
    suite = tmp_path / "texts.yaml"
    suite.write_text("{name: words, version: 1, modality: text, samples: 3, metrics: [{metric: distinct_n}]}")
    texts = ["one two three", "two three four", "five"]
    runs = [evalsvc.evaluate(given, str(suite)) for given in (texts, Texts(tuple(texts)))]
    assert [run.computed for run in runs] == [True, False]


def test_html_is_escaped_and_shows_errors_and_samples(suite, images):
    run = evalsvc.evaluate(images, suite, model="<script>alert(1)</script>")
    html = run._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "±" in html
    assert 'src="data:image/png;base64,' in html
    shown = Grid("\x1b[31m<b>", ("<i>",), [("[link=x]\n\u202e",)])
    assert "<b>" not in shown.html().removeprefix("<p><b>")
    assert "\x1b" not in shown.html()


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        (np.full((24, 8, 8), 2.0), {}, r"in \[0, 1\], but these are in \[2, 2\]"),
        (np.zeros((24, 8), np.uint8), {}, "uint8 images"),
        (np.zeros((3, 8, 8), np.uint8), {}, "contains 3 samples"),
        (3, {}, "cannot score int: pass a path, an array"),
        ("run/step_100.safetensors", {}, "pass generator=NAME"),
        (np.zeros((24, 8, 8), np.uint8), {"generator": "gan"}, "leave it out"),
        (Blurry(), {}, "Blurry.forward takes latents, whose shape Blurry does not name .*: give it as option latent"),
        (Blurry(), {"options": {"latent": 6}, "device": "meta"}, "the module is on cpu, not on meta"),
        (lambda request: [1], {}, "returned list"),
        ([], {}, "no texts were given"),
    ],
)
def test_every_error_names_the_way_out(suite, given, more, said):
    with pytest.raises(Exception, match=said) as raised:
        evalsvc.evaluate(given, suite, **more)
    assert isinstance(raised.value, InputError) or raised.type.__name__ == "ModelError"


def test_submit_queues_what_workers_can_read(suite, images):
    queued = evalsvc.submit(images, suite=suite, model="mine", step=1)
    assert queued.created
    assert queued.status == "queued"
    assert not evalsvc.submit(images, suite=suite, model="mine", step=1).created
    with pytest.raises(InputError, match="exists in this process only"):
        evalsvc.submit(lambda request: None, suite=suite)


def test_evaluations_work_in_a_running_event_loop_and_leave_nothing_open(suite, images):
    async def cell():
        return evalsvc.evaluate(images, suite)

    evalsvc.evaluate(images // 2, suite)  # what is opened once in a process
    gc.collect()  # what earlier tests left in cycles would be closed in between
    threads, handles = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    assert asyncio.run(cell()).scores
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == (threads, handles)


def test_progress_is_quiet_off_a_terminal_unless_asked_for(suite, images, capfd):
    evalsvc.evaluate(images, suite)
    assert capfd.readouterr() == ("", "")
    evalsvc.evaluate(images // 2, suite, progress=True)
    assert "samples: 24/24" in capfd.readouterr().err


def test_the_client_has_the_same_verbs_with_the_same_parameters():
    for verb in ("compare", "leaderboard", "scores"):
        here, there = (list(inspect.signature(getattr(each, verb)).parameters) for each in (evalsvc, Client))
        assert here == there[1:], verb
    assert set(inspect.signature(evalsvc.submit).parameters) <= set(inspect.signature(Client.submit).parameters)
    assert set(inspect.signature(evalsvc.submit).parameters) - {"path", "priority", "deadlines"} <= set(
        inspect.signature(evalsvc.evaluate).parameters
    )


def test_public_names_are_listed_lazy_and_promised():
    assert all(hasattr(evalsvc, name) for name in dir(evalsvc))
    assert {"evaluate", "submit", "compare", "leaderboard", "scores", "Client", "__version__"} <= set(dir(evalsvc))
    assert not any(name.startswith("_") and name != "__version__" for name in evalsvc.__all__)
