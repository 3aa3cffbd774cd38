"""Text to image: prompt i belongs to sample i, and a CLIP score is a score like any other."""

import json

import numpy as np
import pytest
from PIL import Image

from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.influences import read_influences
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.prompts import digest_prompts, read_prompts
from evalsvc.inputs.sample_order import order
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import queries
from evalsvc.store.tables import Evaluation

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}
SUITE = """
name: painted
version: 1
modality: image
prompts: {prompts}
samples: {samples}
shard: 4
extractors:
  colours: {{use: {extractor}}}
metrics:
  - {{metric: clip_score, features: colours/{output}}}
"""
PLUGIN = """
import torch
from evalsvc import ExtractorInfo, GeneratorInfo, register
from evalsvc import Images

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


@register("generators", "painter")
class Painter:
    info = GeneratorInfo("painter", "image", (3, 2, 2))
    asked = []

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        self.asked.extend(request.prompts)
        levels = torch.tensor([COLOURS[prompt] for prompt in request.prompts])
        return Images((levels[:, :, None, None] * torch.ones(1, 1, 2, 2)).to(torch.uint8))


@register("extractors", "colours")
class Colours:
    info = ExtractorInfo("colours", "image", {"embedding": 3}, "none", "mean levels")

    def __init__(self, device):
        pass

    def extract(self, samples):
        return {"embedding": samples.pixels.float().mean((2, 3))}

    def embed_texts(self, texts):
        return torch.tensor([COLOURS[text] for text in texts]).float()
"""


@pytest.fixture
def painting(tmp_path, home):
    (tmp_path / "painter.py").write_text(PLUGIN)
    (tmp_path / "prompts.txt").write_text("red\ngreen\nblue\n" * 4)
    np.save(tmp_path / "w_1.npy", np.zeros(2))
    return EvaluationContext(Settings(home=home), Plugins((tmp_path / "painter.py",)), "cpu", batch_size=3)


def suite(folder, prompts="prompts.txt", samples=10, extractor="colours", output="embedding", version=1):
    path = folder / f"painted-{version}.yaml"
    text = SUITE.format(prompts=prompts, samples=samples, extractor=extractor, output=output)
    path.write_text(text.replace("version: 1", f"version: {version}"))
    return load_suite(str(path))


def scored(context, spec):
    with context.database.read() as session:
        (row,) = queries.scores(session, evaluation=evaluate(spec, context))
    return row


@pytest.mark.parametrize("name", ["captions.json", "captions.csv"])
def test_a_file_whose_lines_are_no_prompts_is_not_read_as_lines(tmp_path, name):
    (tmp_path / name).write_text('["a red boat", "the sea"]')
    way = "replace 'prompts' by 'items: {file: captions.csv, prompt: COLUMN}', or " if name == "captions.csv" else ""
    with pytest.raises(
        InputError, match=f"cannot read prompts from .*{name}: {way}write them to a .txt, one per line, or to a .jsonl"
    ):
        read_prompts(tmp_path / name)


def test_each_sample_is_drawn_for_its_prompt_and_compared_with_it(painting, tmp_path):
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    spec = plan(painting, checkpoint, "painter", {}, suite(tmp_path))
    row = scored(painting, spec)
    colours = [list(COLOURS)[i % 3] for i in order(spec.suite.seed, 12)[:10]]
    assert opening.generator_of(painting, spec).asked == colours
    assert (row.label, row.value, row.n) == ("clip_score", pytest.approx(100), 10)


def test_a_sample_of_a_prompt_is_the_same_under_suites_of_every_size(painting, tmp_path):
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    small, large = (plan(painting, checkpoint, "painter", {}, suite(tmp_path, samples=n)) for n in (5, 12))
    assert small.samples_key == large.samples_key
    assert small.indices(0, 5).tolist() == large.indices(0, 12).tolist()[:5]
    assert sorted(large.indices(0, 12)) == list(range(12))
    (tmp_path / "prompts.txt").write_text("red\ngreen\nblue\n" * 5)
    longer = plan(painting, checkpoint, "painter", {}, suite(tmp_path, samples=15))
    kept = [i for i in longer.indices(0, 15) if i < 12]
    assert kept == large.indices(0, 12).tolist()


def test_another_seed_draws_other_noise_for_the_same_prompts(painting, tmp_path):
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    one, two = (plan(painting, checkpoint, "painter", {}, suite(tmp_path), seed) for seed in (1, 2))
    assert np.array_equal(one.indices(0, 10), two.indices(0, 10))
    assert one.samples_key != two.samples_key


def test_images_that_were_made_for_some_of_the_prompts_are_taken_with_their_own(painting, tmp_path):
    (tmp_path / "made_1").mkdir()
    for i, name in enumerate(["red", "green", "blue"] * 3):
        Image.fromarray(np.full((2, 2, 3), COLOURS[name], np.uint8)).save(tmp_path / "made_1" / f"{i}.png")
    checkpoint = Checkpoint.open(tmp_path / "made_1", "made", 1)
    spec = plan(painting, checkpoint, "samples", {}, suite(tmp_path, samples=4))
    assert spec.order.of == 9
    assert scored(painting, spec).value == pytest.approx(100)


def test_prompts_are_part_of_the_fingerprint_by_content_and_not_by_place(painting, tmp_path):
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    first = plan(painting, checkpoint, "painter", {}, suite(tmp_path))
    (tmp_path / "moved.jsonl").write_text('{"prompt": "red"}\n{"prompt": "green"}\n"blue"\n' * 4)
    moved = plan(painting, checkpoint, "painter", {}, suite(tmp_path, "moved.jsonl"))
    assert (moved.fingerprint, moved.samples_key) == (first.fingerprint, first.samples_key)
    (tmp_path / "other.txt").write_text("blue\ngreen\nred\n" * 4)
    other = plan(painting, checkpoint, "painter", {}, suite(tmp_path, "other.txt"))
    assert other.fingerprint != first.fingerprint
    assert other.samples_key != first.samples_key


def test_a_worker_elsewhere_finds_the_prompts_without_the_file(painting, tmp_path):
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    spec = plan(painting, checkpoint, "painter", {}, suite(tmp_path))
    (tmp_path / "prompts.txt").unlink()
    painting.prompts.clear()
    assert scored(painting, spec).value == pytest.approx(100)


def test_stored_images_are_scored_against_the_prompts_they_were_made_for(painting, tmp_path):
    (tmp_path / "made_1").mkdir()
    for i, name in enumerate(["red", "green", "blue", "red"]):
        Image.fromarray(np.full((2, 2, 3), COLOURS[name], np.uint8)).save(tmp_path / "made_1" / f"{i}.png")
    checkpoint = Checkpoint.open(tmp_path / "made_1", "made", 1)
    row = scored(painting, plan(painting, checkpoint, "samples", {}, suite(tmp_path, samples=4)))
    assert row.value == pytest.approx(100)


def test_what_is_missing_is_said_before_any_work(painting, tmp_path):
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    with pytest.raises(InputError, match="contains 12 prompts, but suite painted@1 draws 13 samples"):
        plan(painting, checkpoint, "painter", {}, suite(tmp_path, samples=13))
    with pytest.raises(InputError, match="'pixels' cannot embed prompts"):
        plan(painting, checkpoint, "painter", {}, suite(tmp_path, extractor="pixels", output="pixels"))
    (tmp_path / "prompts.txt").write_text("green\n" * 12)
    ready = suite(tmp_path, version=2)
    (tmp_path / "prompts.txt").write_text("red\n" * 12)
    with pytest.raises(InputError, match=r"prompts.txt has changed since suite painted@2"):
        plan(painting, checkpoint, "painter", {}, ready)
    text = SUITE.format(prompts="prompts.txt", samples=2, extractor="colours", output="embedding")
    (tmp_path / "none.yaml").write_text(text.replace("prompts: prompts.txt\n", ""))
    with pytest.raises(InputError, match="clip_score needs prompts: add 'items:'"):
        load_suite(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("p.txt", "", "contains no prompts"),
        ("p.txt", "a\n\nb\n", "line 2 is empty"),
        ("p.jsonl", '"a"\n{', "line 2 is not valid JSON"),
        ("p.jsonl", '{"words": "a"}\n', "line 1 is neither a string nor an object"),
    ],
)
def test_a_bad_prompt_file_is_named_with_the_line(tmp_path, name, content, complaint):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=complaint):
        read_prompts(tmp_path / name)
    with pytest.raises(InputError, match="cannot read prompts"):
        read_prompts(tmp_path / "none.txt")


def test_one_digest_whatever_the_file_format(tmp_path):
    (tmp_path / "p.txt").write_text("a boat\nthe sea\n")
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"caption": text}) for text in ("a boat", "the sea")))
    assert digest_prompts(read_prompts(tmp_path / "p.txt")) == digest_prompts(read_prompts(tmp_path / "p.jsonl"))


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_prompts_of_any_characters_stay_with_their_samples(tmp_path, name):
    """What Unicode takes for the end of a line is none, and the mark that some editors put first is no character."""
    prompts = ("a boat", "line\u2028one", "next\x85line", "a\x0bb\x0cc", "the sea")
    lines = [json.dumps(prompt, ensure_ascii=False) for prompt in prompts] if name == "p.jsonl" else prompts
    (tmp_path / name).write_bytes("\ufeff".encode() + "\r\n".join(lines).encode() + b"\r\n")
    assert read_prompts(tmp_path / name) == prompts


def test_prompts_that_are_used_repeatedly_are_the_units_and_few_of_them_decide_nothing(painting, tmp_path):
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    row = scored(painting, plan(painting, checkpoint, "painter", {}, suite(tmp_path)))
    assert (row.n, row.independent, row.independent_unit) == (10, 3, "prompts")
    assert row.stderr is None
    assert "fewer than 20 independent groups of samples (3)" in row.stderr_method


def test_other_seeds_are_of_the_same_prompts_and_paired(painting, tmp_path):
    (tmp_path / "once.txt").write_text("\n".join(f"{name}" for name in COLOURS))
    checkpoint = Checkpoint.open(tmp_path / "w_1.npy", "painter", 1)
    found = []
    for seed in (0, 1):
        spec = plan(painting, checkpoint, "painter", {}, suite(tmp_path, "once.txt", samples=3), seed)
        number = evaluate(spec, painting)
        with painting.database.read() as session:
            files = {each.kind: each.path for each in session.get_one(Evaluation, number).artifacts}
        found.append(read_influences(painting.artifacts, files["influences"])["clip_score"])
    assert found[0].units == found[1].units
    assert found[0].influence.minus(found[1].influence).variance == 0
