import numpy as np
import pytest
import torch
import torchmetrics

from evalsvc.errors import InputError
from evalsvc.metric_plugins import register_metric
from evalsvc.plugins import Plugin, PluginKind
from metrics.registry import METRICS, QUANTITIES


class MeanGap(torchmetrics.Metric):
    """Fed as FID is."""

    higher_is_better = False

    def __init__(self):
        super().__init__()
        self.add_state("sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features, real):
        self.sums[int(real)] += features.sum() / 3000

    def compute(self):
        return (self.sums[1] - self.sums[0]).abs()


@pytest.fixture
def registered():
    before = dict(METRICS), dict(QUANTITIES)
    yield lambda name, target: register_metric(Plugin(PluginKind.METRIC, name, "tests", "1", lambda: target))
    for table, kept in zip((METRICS, QUANTITIES), before, strict=True):
        table.clear()
        table.update(kept)


@pytest.mark.parametrize(
    ("kind", "inputs", "value", "direction"),
    [
        (torchmetrics.MeanSquaredError, ("generated", "reference"), 4.0, "lower"),
        (torchmetrics.MeanMetric, ("x",), 3.0, "neutral"),
        (MeanGap, ("generated", "reference"), 2.0, "lower"),
    ],
)
def test_any_torchmetrics_class_is_a_metric_in_batches(registered, kind, inputs, value, direction):
    registered("mine", kind)
    arrays = {"generated": np.full((3000, 1), 3.0), "reference": np.full((3000, 1), 1.0), "x": np.full((3000, 1), 3.0)}
    spec = METRICS["mine"]
    assert tuple(spec.inputs) == inputs
    score = spec.function(**{name: arrays[name] for name in inputs})
    assert score.value == pytest.approx(value)
    assert score.direction == direction
    assert score.stderr is None
    assert score.stderr_method.startswith("none")


def test_what_is_no_metric_is_refused_by_name(registered):
    with pytest.raises(InputError, match="'mine' of tests is neither"):
        registered("mine", object())
