import functools
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from evalsvc import metrics
from evalsvc.metrics import functional
from evalsvc.metrics.metric_classes import CLASSES, Collected
from evalsvc.metrics.registry import METRICS
from evalsvc.metrics.score import MetricError, Score
from tests.pretended_device import PretendedDevice

pytestmark = pytest.mark.filterwarnings("error::UserWarning:torchmetrics")

N = 120
OPTIONS = {
    "KernelDistance": {"subsets": 5, "subset_size": 40},
    "Mauve": {"seeds": 2},
    "MauveStar": {"seeds": 2},
    "CtScore": {"cells": 2},
    "Mind": {"directions": 20},
}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def inputs(name, n=N):
    """An input of every name in the vocabulary."""
    rng = np.random.default_rng(sum(name.encode()))
    if name in ("texts", "train_texts"):
        return [" ".join(rng.choice(WORDS, 12)) + " é" for _ in range(40)]
    if name in ("generated", "reference", "train", "heldout", "prompts", "logits", "x"):
        return rng.standard_normal((n, 4)) + (name == "generated")
    return rng.integers(1, 50, n).astype(np.float64)


def arrays(metric):
    return {name: inputs(name) for name in metric.spec.inputs}


def make(name):
    return CLASSES[name](**OPTIONS.get(name, {}))


def values(result):
    scores = result if isinstance(result, dict) else {"": result}
    assert all(isinstance(score, Score) for score in scores.values())
    return {key: score.value for key, score in scores.items()}


def by_function(metric):
    options = getattr(metric, "options", {})
    return values(metric.spec.function(**arrays(metric), **options))


def same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert first[key] == pytest.approx(second[key], rel=1e-9, abs=1e-9)


def shards(name, count):
    """Metrics that each saw a part of every input, in order; the parts are of unequal size."""
    filled = []
    for k in range(count):
        metric = make(name)
        for key, rows in arrays(metric).items():
            start, stop = (len(rows) * k * k // count**2, len(rows) * (k + 1) ** 2 // count**2)
            metric.update(**{key: rows[start:stop]}) if key not in PAIRED else None
        together = {key: rows for key, rows in arrays(metric).items() if key in PAIRED}
        if together:
            size = len(next(iter(together.values())))
            part = slice(size * k * k // count**2, size * (k + 1) ** 2 // count**2)
            metric.update(**{key: rows[part] for key, rows in together.items()})
        filled.append(metric)
    return filled


PAIRED = {"nll", "tokens", "words", "bytes", "dims", "units", "nll_a", "nll_b"}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_merged_shards_equal_one_pass_in_any_order(name):
    metric = make(name)
    metric.update(**arrays(metric))
    expected = by_function(metric)
    same(values(metric.compute()), expected)
    filled = shards(name, 3)
    random.Random(name).shuffle(filled)
    first, *rest = filled
    for other in rest:
        first.merge_state(other)
    same(values(first.compute()), expected)
    fresh = make(name)
    functools.reduce(lambda metric, shard: metric.merge_state(shard) or metric, [first], fresh)
    same(values(fresh.compute()), expected)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_metric_survives_state_dict_and_pickling_in_the_middle(name):
    metric = make(name)
    whole = arrays(metric)
    first = {key: rows[: len(rows) // 3] for key, rows in whole.items()}
    rest = {key: rows[len(rows) // 3 :] for key, rows in whole.items()}
    metric.update(**first)
    restored = make(name)
    restored.load_state_dict(metric.state_dict())
    for copy in (restored, pickle.loads(pickle.dumps(metric))):
        copy.update(**rest)
        same(values(copy.compute()), by_function(metric))
        same(values(pickle.loads(pickle.dumps(copy)).compute()), by_function(metric))


def test_every_registered_metric_has_its_class_and_its_direction_except_those_of_scorers_and_groups():
    ours = {
        name
        for name, spec in METRICS.items()
        if spec.function is getattr(functional, name, None) and spec.derive is None and not name.startswith("grouped")
    }
    assert len(CLASSES) == len(ours) >= 20
    for name, made in CLASSES.items():
        assert getattr(metrics, name) is made
        assert name in dir(metrics)
    assert metrics.FrechetDistance.higher_is_better is False
    assert metrics.VendiScore.higher_is_better is True


def test_a_collection_shares_what_its_metrics_keep():
    collection = MetricCollection(
        [metrics.FrechetDistance(), metrics.Prdc(k=3), metrics.KernelDistance(subsets=None), metrics.VendiScore()]
    )
    x, y = inputs("generated"), inputs("reference")
    for part in np.split(np.arange(N), 4):
        collection.update(generated=x[part], reference=y[part], x=x[part])
    assert ["Prdc", "KernelDistance"] in collection.compute_groups.values()
    results = collection.compute()
    assert results["FrechetDistance"].value == pytest.approx(functional.frechet_distance(x, y).value, rel=1e-9)
    assert results["KernelDistance"].value == functional.kernel_distance(x, y, subsets=None).value
    assert results["precision"].value == functional.prdc(x, y, k=3)["precision"].value
    assert results["VendiScore"].value == pytest.approx(functional.vendi_score(x).value)


def test_the_first_rows_count_first_however_late_they_are_merged():
    x, y = inputs("generated"), inputs("reference")
    early, late = (metrics.KernelDistance(subsets=3, subset_size=30) for _ in range(2))
    early.update(generated=x[:50], reference=y)
    late.update(generated=x[50:])
    late.merge_state(early)
    assert late.compute() == functional.kernel_distance(x, y, subsets=3, subset_size=30)


def test_forward_gives_the_score_of_the_batch_and_keeps_its_rows():
    metric, x = metrics.VendiScore(), inputs("x")
    assert metric(x[:30]).value == pytest.approx(functional.vendi_score(x[:30]).value)
    metric(x[30:])
    assert metric.compute().value == pytest.approx(functional.vendi_score(x).value)


def test_frechet_keeps_moments_and_not_rows():
    metric = metrics.FrechetDistance()
    for _ in range(5):
        metric.update(np.ones((1000, 3)) * np.arange(1000)[:, None], inputs("reference", 300)[:, :3])
    kept = [state for state in metric.metric_state.values() if isinstance(state, torch.Tensor)]
    assert sum(state.numel() for state in kept) == 2 * (1 + 3 + 9)
    waiting = [len(rows) for name in ("generated", "reference") for rows in metric.metric_state[f"{name}_waiting"]]
    assert sum(waiting) < 2 * 2 * 3
    score = metric.compute()
    assert score.n == 5000
    assert score.stderr is None
    assert "moments" in score.stderr_method


def test_frechet_takes_single_rows_and_moments():
    x, y = inputs("generated"), inputs("reference")
    metric = metrics.FrechetDistance()
    metric.update(reference=functional.Moments.of(y))
    for row in x:
        metric.update(generated=torch.from_numpy(row[None]))
    assert metric.compute().value == pytest.approx(functional.frechet_distance(x, y).value, rel=1e-9)


def test_rows_that_wait_for_others_are_neither_lost_nor_counted_twice():
    x, y = inputs("generated"), inputs("reference")
    metric = metrics.FrechetDistance()
    for start in range(0, 80, 20):
        metric(generated=x[start : start + 20], reference=y[start : start + 20])
        assert metric.compute().n == start + 20
    twin = metrics.FrechetDistance()
    twin.load_state_dict(metric.state_dict())
    metric.merge_state(pickle.loads(pickle.dumps(twin)))
    assert metric.compute().n == 160
    metric.reset()
    metric.update(x, y)
    assert metric.compute().value == pytest.approx(functional.frechet_distance(x, y).value, rel=1e-9)


PROCESS = """
import sys, numpy as np, torch.distributed as dist, metrics
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
metric = metrics.FrechetDistance()
for name in ("generated", "reference"):
    rows = np.load(f"{folder}/{name}.npy")
    for part in np.array_split(rows[50:] if rank else rows[:50], 3):
        metric.update(**{name: part})
print(repr(metric.compute().value))
"""


def test_processes_that_saw_parts_of_the_samples_agree_on_the_distance_of_all(tmp_path):
    x, y = inputs("generated"), inputs("reference")
    np.save(tmp_path / "generated.npy", x)
    np.save(tmp_path / "reference.npy", y)
    both = [
        subprocess.Popen([sys.executable, "-c", PROCESS, tmp_path, str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    values = [float(process.communicate(timeout=100)[0]) for process in both]
    assert values == pytest.approx([functional.frechet_distance(x, y).value] * 2, rel=1e-9)


def test_reset_forgets():
    metric = metrics.VendiScore()
    metric.update(inputs("x"))
    metric.reset()
    metric.update(np.eye(4))
    assert metric.compute().value == pytest.approx(4.0)


def test_a_buffer_that_is_filled_again_does_no_harm():
    metric, buffer = metrics.VendiScore(), np.eye(3, dtype=np.float32)
    metric.update(buffer)
    buffer[:] = 1
    assert metric.compute().value == pytest.approx(3.0)


def test_one_number_serves_all_rows():
    metric = metrics.BitsPerDim()
    metric.update(nll=np.ones(10), dims=64)
    assert metric.compute() == functional.bits_per_dim(np.ones(10), np.full(10, 64.0))


def test_what_is_missing_is_said():
    metric = metrics.KernelDistance()
    with (
        pytest.warns(UserWarning, match="before the ``update``"),
        pytest.raises(MetricError, match="has seen no generated yet"),
    ):
        metric.compute()
    with pytest.raises(MetricError, match="was given nothing; it takes generated, reference"):
        metric.update()
    with pytest.raises(MetricError, match="generated holds NaN"):
        metric.update(generated=np.full((2, 2), np.nan))
    frechet = metrics.FrechetDistance()
    frechet.update(generated=np.eye(3))
    with pytest.raises(MetricError, match="has seen no reference yet"):
        frechet.compute()
    with pytest.raises(TypeError):
        metric.update(real=np.eye(2))
    with pytest.raises(ValueError, match="subset_sizes"):
        Collected.__init__(metric, subset_sizes=3)


def test_a_score_can_be_had_without_torch():
    script = "import sys; from evalsvc.metrics.score import Score; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", ["FrechetDistance", "Prdc", "Perplexity", "CompressionRatio"])
@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_metric_on_a_device_takes_rows_and_states_of_any(name, kind):
    with PretendedDevice(kind) as device:

        def part(start, stop, on=False):
            for key, rows in arrays(make(name)).items():
                some = rows[len(rows) * start // 4 : len(rows) * stop // 4]
                yield key, device.tensor(np.float32(some)) if on and not isinstance(some, list) else some

        first, second = make(name).to(device.device), make(name)
        first.update(**dict(part(0, 1, on=True)))
        first.update(**dict(part(1, 2)))
        second.update(**dict(part(2, 3, on=True)))
        restored = make(name)
        restored.load_state_dict(first.state_dict())
        second.update(**dict(part(3, 4)))
        for metric in (first, restored):
            metric.merge_state(second)
            assert values(metric.compute()) == pytest.approx(by_function(make(name)), rel=1e-6)
