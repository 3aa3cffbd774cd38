"""Evaluations with items: what generators are given, in which order, and what their errors count."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from evalsvc.cli.judge import _prompts
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.first_samples import used_first_samples
from evalsvc.evaluation.items import item_batch, places_of, request_of, units_of
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.shard_reading import read_texts
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.interfaces import Reference
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.store import queries

PLUGIN = """
import torch
from evalsvc import ExtractorInfo, GeneratorInfo, Images, Texts, register


@register("generators", "teller")
class Teller:
    info = GeneratorInfo("teller", "text", takes=frozenset({"prompt", "label", "source"}))

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        noise = request.uniform(1)[:, 0].tolist()
        given = request.prompts or request.labels.tolist()
        ids = zip(request.item_ids, request.draws.tolist(), request.indices.tolist())
        return Texts(tuple(f"{each} {x:.6f} {id}/{draw}/{at}" for each, x, (id, draw, at) in zip(given, noise, ids)))


@register("generators", "painter")
class Painter:
    info = GeneratorInfo("painter", "image", (3, 2, 2))

    def __init__(self, checkpoint, device):
        pass

    def sample(self, request):
        levels = torch.tensor([[float(len(prompt)), 9.0, 30.0] for prompt in request.prompts])
        return Images((levels[:, :, None, None] + 99 * request.uniform(3, 2, 2)).to(torch.uint8))


@register("extractors", "colours")
class Colours:
    info = ExtractorInfo("colours", "image", {"embedding": 3}, "none", "mean levels")

    def __init__(self, device):
        pass

    def extract(self, samples):
        return {"embedding": samples.pixels.float().mean((2, 3))}

    def embed_texts(self, texts):
        return torch.tensor([[float(len(text)), 9.0, 30.0] for text in texts])
"""
TEXTS = """
name: told
version: 1
modality: text
items: {{{items}}}
metrics:
  - {{metric: distinct_n, options: {{n: 1}}}}
"""
PAINTED = """
name: painted
version: 1
modality: image
items: {file: parti.tsv, prompt: Prompt, group: GROUP, draws: 4}
extractors:
  c: {use: colours}
metrics:
  - {metric: clip_score, features: c/embedding}
"""


@pytest.fixture
def context(tmp_path, home):
    (tmp_path / "teller.py").write_text(PLUGIN)
    np.save(tmp_path / "w_1.npy", np.zeros(2))
    lines = [json.dumps({"q": f"question {i}", "a": str(i)}) for i in range(6)]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    rows = [f"a {'very ' * i}big cat\t{('Animals', 'World')[i % 2]}" for i in range(8)]
    (tmp_path / "parti.tsv").write_text("\n".join(["Prompt\tCategory", *rows]))
    return EvaluationContext(Settings(home=home), Plugins((tmp_path / "teller.py",)), "cpu", batch_size=3)


@pytest.fixture
def checkpoint(context, tmp_path):
    return Checkpoint.open(tmp_path / "w_1.npy", "teller", 1)


def suite(folder, items="file: q.jsonl, prompt: q", plugins=None, **keys):
    path = folder / "suite.yaml"
    path.write_text(TEXTS.format(items=items) + "".join(f"{key}: {value}\n" for key, value in keys.items()))
    return load_suite(str(path), plugins)


def told(context, checkpoint, asked, generator="teller", seed=None):
    """The texts that are drawn for a suite, in the order of its samples."""
    spec = plan(context, checkpoint, generator, {}, asked, seed)
    return list(opening.generator_of(context, spec).sample(request_of(context, spec, 0, asked.samples)).items)


def test_all_draws_of_all_items_are_drawn_item_by_item(context, checkpoint, tmp_path):
    asked = suite(tmp_path, "file: q.jsonl, prompt: q, draws: 2")
    assert asked.samples == 12
    texts = told(context, checkpoint, asked)
    prompts = [text.rpartition(" ")[0].rpartition(" ")[0] for text in texts]
    assert prompts[::2] == prompts[1::2]
    assert len(set(prompts)) == 6
    assert len(set(texts)) == 12
    draws = [text.rpartition(" ")[2].split("/")[1:] for text in texts]
    numbers = [int(prompt.split()[1]) for prompt in prompts]
    assert draws == [[str(i % 2), str(i % 2 * 6 + number)] for i, number in enumerate(numbers)]


def test_further_items_and_draws_change_no_other_sample(context, checkpoint, tmp_path):
    def drawn(items):
        return {text.rpartition("/")[0] for text in told(context, checkpoint, suite(tmp_path, items))}

    few = drawn("file: q.jsonl, prompt: q")
    assert few < drawn("file: q.jsonl, prompt: q, draws: 2")
    with (tmp_path / "q.jsonl").open("a") as file:
        file.write('\n{"q": "another"}')
    assert few < drawn("file: q.jsonl, prompt: q")


def test_fewer_samples_are_the_first_of_the_same_order(context, checkpoint, tmp_path):
    every = told(context, checkpoint, suite(tmp_path, "file: q.jsonl, prompt: q, draws: 2"))
    some = plan(context, checkpoint, "teller", {}, suite(tmp_path, "file: q.jsonl, prompt: q, draws: 2", samples=7))
    evaluate(some, context)
    assert list(read_texts(some, context)) == every[:7]


def test_a_part_of_stored_samples_is_not_taken_for_the_first_ones(context, tmp_path):
    (tmp_path / "made_1.jsonl").write_text("\n".join(json.dumps(f"text {i}") for i in range(6)))
    asked = suite(tmp_path, samples=4)
    spec = plan(context, Checkpoint.open(tmp_path / "made_1.jsonl", "made", 1), "samples", {}, asked)
    assert not used_first_samples(spec.model_dump(mode="json"), context.artifacts)


def test_more_samples_than_draws_need_repeat(context, checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"9 samples are more than 6 items x 1 draws = 6: .* 'draws: 2', or 'repeat"):
        suite(tmp_path, samples=9)
    texts = told(context, checkpoint, suite(tmp_path, "file: q.jsonl, prompt: q, repeat: true", samples=9))
    assert len(set(texts)) == 9
    assert [text.split("/")[1] for text in texts] == ["0"] * 6 + ["1"] * 3


def test_a_corrected_target_draws_nothing_again(context, checkpoint, tmp_path):
    before = plan(context, checkpoint, "teller", {}, suite(tmp_path, "file: q.jsonl, prompt: q, target: a"))
    (tmp_path / "q.jsonl").write_text((tmp_path / "q.jsonl").read_text().replace('"a": "3"', '"a": "three"'))
    after = plan(context, checkpoint, "teller", {}, suite(tmp_path, "file: q.jsonl, prompt: q, target: a"))
    assert before.samples_key == after.samples_key
    assert before.fingerprint != after.fingerprint


def test_a_worker_elsewhere_finds_the_items_without_the_file(context, checkpoint, tmp_path):
    spec = plan(context, checkpoint, "teller", {}, suite(tmp_path))
    (tmp_path / "q.jsonl").unlink()
    context.items.clear()
    evaluate(spec, context)


def test_a_file_that_changed_since_the_suite_was_read_is_an_error(context, checkpoint, tmp_path):
    asked = suite(tmp_path)
    (tmp_path / "q.jsonl").write_text('{"q": "another"}')
    with pytest.raises(InputError, match=r"q.jsonl has changed since suite told@1 was read"):
        plan(context, checkpoint, "teller", {}, asked)


@pytest.mark.parametrize(("group", "kind", "count"), [("", "items", 8), ("Category", "groups", 2)])
def test_errors_count_items_or_groups_and_not_their_draws(context, checkpoint, tmp_path, group, kind, count):
    (tmp_path / "painted.yaml").write_text(PAINTED.replace("GROUP", group or "''"))
    asked = load_suite(str(tmp_path / "painted.yaml"), context.plugins)
    with context.database.read() as session:
        (row,) = queries.scores(session, evaluation=evaluate(plan(context, checkpoint, "painter", {}, asked), context))
    assert (row.n, row.independent, row.independent_unit) == (32, count, kind)


def test_seeds_of_one_checkpoint_share_their_items(context, checkpoint, tmp_path):
    one, two = (plan(context, checkpoint, "teller", {}, suite(tmp_path), seed) for seed in (1, 2))
    assert units_of(context, one).name == units_of(context, two).name
    assert not torch.equal(request_of(context, one, 0, 6).seeds, request_of(context, two, 0, 6).seeds)


def test_balanced_labels_are_drawn_in_rounds_of_all_classes(context, checkpoint, tmp_path):
    asked = suite(tmp_path, "labels: {classes: 5, as: balanced}", samples=12)
    labels = [int(text.split()[0]) for text in told(context, checkpoint, asked)]
    assert sorted(labels[:5]) == sorted(labels[5:10]) == list(range(5))
    spec = plan(context, checkpoint, "teller", {}, asked)
    assert units_of(context, spec).unit == "samples"


class Labelled:
    modality = "text"
    labels = np.array([0] * 6 + [2] * 2)

    def __len__(self):
        return 8

    def digest(self):
        return "1" * 64

    def read(self, start, stop):
        return Texts(("a b",) * (stop - start))


def test_labels_have_the_frequencies_of_the_reference(context, checkpoint, tmp_path):
    context.plugins.add(Plugin(PluginKind.REFERENCE, "lab", "x", "1", lambda: lambda: Reference("lab", Labelled())))
    asked = suite(tmp_path, "labels: {classes: 3, as: reference}", samples=80, reference="lab")
    texts = told(context, checkpoint, asked)
    assert len(set(texts)) == 80
    counts = np.bincount([int(text.split()[0]) for text in texts], minlength=3)
    assert np.abs(counts - [60, 0, 20]).max() <= 3
    spec = plan(context, checkpoint, "teller", {}, asked)
    other = spec.model_copy(update={"reference": {"train": "2" * 64}})
    assert other.samples_key != spec.samples_key


def test_stored_samples_belong_to_items_by_their_position_in_the_file(context, tmp_path):
    (tmp_path / "made_1.jsonl").write_text("\n".join(json.dumps(f"text {i}") for i in range(12)))
    made = Checkpoint.open(tmp_path / "made_1.jsonl", "made", 1)
    asked = suite(tmp_path, "file: q.jsonl, prompt: q, draws: 2")
    texts = told(context, made, asked, "samples")
    spec = plan(context, made, "samples", {}, asked)
    batch = item_batch(context, spec, 0, 12, {"prompt"})
    positions = [int(prompt.split()[1]) for prompt in batch.prompts]
    assert _prompts(context, spec, [0, 5, 7]) == [batch.prompts[i] for i in (0, 5, 7)]
    assert texts == [f"text {draw * 6 + at}" for at, draw in zip(positions, batch.draws.tolist(), strict=True)]
    (tmp_path / "few_1.jsonl").write_text("\n".join(json.dumps(f"text {i}") for i in range(11)))
    with pytest.raises(InputError, match="contains 11 samples, but suite told@1 scores 12"):
        plan(context, Checkpoint.open(tmp_path / "few_1.jsonl", "few", 1), "samples", {}, asked)


def test_stored_samples_belong_to_items_by_id(context, tmp_path):
    rows = [{"id": f"q{i}", "q": f"question {i}"} for i in range(4)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = [{"id": f"q{i}", "draw": draw, "text": f"{i} {draw}"} for draw in (1, 0) for i in (3, 1, 0, 2)]
    (tmp_path / "made_1.jsonl").write_text("\n".join(map(json.dumps, made)))
    asked = suite(tmp_path, "file: q.jsonl, prompt: q, draws: 2")
    checkpoint = Checkpoint.open(tmp_path / "made_1.jsonl", "made", 1)
    spec = plan(context, checkpoint, "samples", {"by": "id"}, asked)
    texts = opening.generator_of(context, spec).sample(request_of(context, spec, 0, 8)).items
    batch = item_batch(context, spec, 0, 8)
    assert texts == tuple(f"{name[1:]} {draw}" for name, draw in zip(batch.ids, batch.draws.tolist(), strict=True))
    (tmp_path / "few_1.jsonl").write_text("\n".join(map(json.dumps, made[1:])))
    with pytest.raises(InputError, match="contains no sample named 'q3-1'"):
        plan(context, Checkpoint.open(tmp_path / "few_1.jsonl", "few", 1), "samples", {"by": "id"}, asked)


def test_sources_and_targets_are_media_beside_the_file(context, checkpoint, tmp_path):
    for i in range(3):
        Image.fromarray(np.full((2, 2), 80 * i, np.uint8)).save(tmp_path / f"{i}.png")
    rows = [{"p": f"edit {i}", "from": f"{i}.png", "to": f"{2 - i}.png"} for i in range(3)]
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = suite(tmp_path, "file: edits.jsonl, prompt: p, source: from, target: to, draws: 2")
    spec = plan(context, checkpoint, "teller", {}, asked)
    for each in tmp_path.glob("*.png"):
        each.unlink()
    context.items.clear()
    request = request_of(context, spec, 0, 6)
    batch = item_batch(context, spec, 0, 6, {"source", "target"})
    numbers = torch.tensor([int(prompt.split()[1]) for prompt in request.prompts])
    assert torch.equal(request.sources.pixels[:, 0, 0, 0], (80 * numbers).to(torch.uint8))
    assert torch.equal(batch.targets.pixels[:, 0, 0, 0], (80 * (2 - numbers)).to(torch.uint8))
    assert torch.equal(batch.sources.pixels, request.sources.pixels)


def test_a_batch_of_items_is_the_same_in_every_cut(context, checkpoint, tmp_path):
    spec = plan(context, checkpoint, "teller", {}, suite(tmp_path, "file: q.jsonl, prompt: q, target: a, draws: 3"))
    rows, draws = places_of(context, spec, 0, 18)
    whole = item_batch(context, spec, 0, 18, {"target"})
    part = item_batch(context, spec, 7, 11, {"target"})
    assert (part.ids, part.targets) == (whole.ids[7:11], whole.targets[7:11])
    assert part.draws.tolist() == draws[7:11].tolist()
    assert np.array_equal(places_of(context, spec, 7, 11)[0], rows[7:11])
    assert whole.prompts == ()


def test_scorers_see_the_answer_that_stop_and_extract_leave(context, checkpoint, tmp_path):
    (tmp_path / "exact.yaml").write_text(
        TEXTS.format(items="file: q.jsonl, prompt: q, target: a, draws: 2, stop: [' 0.'], extract: 'question (.*)'")
        + "  - {metric: mean, of: exact/exact_match}\nscorers:\n  exact: {use: exact-match}\n"
    )
    asked = load_suite(str(tmp_path / "exact.yaml"), context.plugins)
    with context.database.read() as session:
        rows = queries.scores(session, evaluation=evaluate(plan(context, checkpoint, "teller", {}, asked), context))
    found = {row.label: (row.value, row.independent, row.independent_unit) for row in rows}
    assert found["exact_match"] == (1.0, 6, "items")
