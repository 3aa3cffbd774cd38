import importlib

import numpy as np
import pytest
import torch
import torchmetrics
import torchmetrics.text

from evalsvc.core.errors import InputError
from evalsvc.metrics.registry import METRICS, QUANTITIES, Quantity
from evalsvc.metrics.score import Direction, MetricError
from evalsvc.plugins.metric_adapter import quantities, register_metric
from evalsvc.plugins.registry import Plugin, PluginKind


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


@pytest.mark.parametrize("domain", ["text", "image", "audio", "classification"])
def test_classes_of_torchmetrics_that_read_samples_are_not_metrics_of_arrays(registered, domain):
    package = importlib.import_module(f"torchmetrics.{domain}")
    kinds = [each for each in map(package.__dict__.get, package.__all__) if isinstance(each, type)]
    assert len(kinds) > 3
    for kind in kinds:
        with pytest.raises(
            InputError, match=rf"'mine' of tests is torchmetrics class {kind.__name__}, which .* 'metric: mine'"
        ):
            registered("mine", kind)


def test_options_of_a_suite_are_those_of_the_constructor(registered):
    registered("mine", torchmetrics.MeanSquaredError)
    spec = METRICS["mine"]
    assert (set(spec.inputs), set(spec.choices)) == ({"generated", "reference"}, {"squared", "num_outputs"})
    arrays = {"generated": np.full((9, 1), 3.0), "reference": np.full((9, 1), 1.0)}
    assert spec.function(**arrays, squared=False).value == pytest.approx(2.0)
    with pytest.raises(MetricError, match="metric 'mine' does not take these options: "):
        spec.function(**arrays, squared="much")


class Spread(torchmetrics.text.EditDistance):
    """Reads features."""

    def update(self, x):
        self.num_elements += len(x)


def test_a_class_derived_from_one_of_torchmetrics_is_a_metric(registered):
    registered("own", Spread)
    assert tuple(METRICS["own"].inputs) == ("x",)


class Told(MeanGap):
    """Says what it is."""

    quantity = Quantity("gap", Direction.LOWER, "pixels", 0.0, unbiased_in_n=True, title="Mean gap", title_zh="均值差")


def test_a_class_says_all_of_its_quantity_that_ours_say(registered):
    registered("gap", Told)
    (quantity,) = METRICS["gap"].quantities
    assert quantity is Told.quantity
    assert METRICS["gap"].unbiased_in_n(quantity, {})
    with pytest.raises(InputError, match="set it to a Quantity named 'other'"):
        registered("other", Told)


def test_quantities_of_plugins_are_known_beside_ours_and_one_that_is_broken_is_left_out(registered):
    plugins = [
        Plugin(PluginKind.METRIC, "gap", "tests", "1", lambda: Told),
        Plugin(PluginKind.METRIC, "broken", "tests", "1", object),
        Plugin(PluginKind.METRIC, "recall", "tests", "1", lambda: MeanGap),
        Plugin(PluginKind.JUDGE, "judge", "tests", "1", lambda: pytest.fail("loaded")),
    ]
    known = quantities(plugins)
    assert known["gap"].titled("zh") == "均值差"
    assert known["recall"].titled("en") == "Recall"
    assert known["samples_per_second"].direction is Direction.HIGHER
    assert "broken" not in known


def test_what_is_no_metric_is_refused_by_name(registered):
    with pytest.raises(InputError, match="'mine' of tests is neither"):
        registered("mine", object())


def test_a_class_with_the_name_of_another_quantity_is_refused_by_name(registered):
    with pytest.raises(InputError, match="'recall' is declared twice with different facts: rename the plug-in"):
        registered("recall", MeanGap)
