import copy
import doctest
import importlib
import math
import pickle
import pkgutil

import numpy as np
import pytest

import metrics
from metrics import Direction, MetricError, Score, functional
from metrics.registry import METRICS, QUANTITIES, Quantity, metric, score

VOCABULARY = {"generated", "reference", "train", "heldout", "logits", "x", "texts", "nll", "tokens", "words", "bytes"}
VOCABULARY |= {"prompts", "dims", "nll_a", "nll_b", "train_texts", "units"}
MODULES = sorted(module.name for module in pkgutil.iter_modules(metrics.__path__))


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module):
    names = {"np": np, "math": math}
    assert doctest.testmod(importlib.import_module(f"metrics.{module}"), extraglobs=names).failed == 0


def test_every_metric_is_in_functional_and_takes_inputs_by_the_common_names():
    assert "frechet_distance" in METRICS
    for name, spec in METRICS.items():
        if spec.function.__module__.startswith("metrics."):
            assert getattr(functional, name) is spec.function
            assert set(spec.inputs) <= VOCABULARY
            assert spec.version >= 1


def test_directions_come_from_the_registry():
    assert QUANTITIES["frechet_distance"].direction is Direction.LOWER
    assert QUANTITIES["inception_score"].direction is Direction.HIGHER
    assert functional.vendi_score(np.eye(3)).direction is Direction.HIGHER


def test_inputs_are_required_and_options_are_not():
    assert METRICS["kernel_distance"].inputs == ("generated", "reference")
    assert METRICS["kernel_distance"].options["subset_size"] == 1000


def test_a_quantity_has_one_meaning():
    with pytest.raises(ValueError, match="declared twice"):
        metric(Quantity("frechet_distance", Direction.HIGHER, unit="nothing"), version=1)(lambda x: x)


def test_an_interval_stays_within_the_range_of_its_quantity():
    found = score("frechet_distance", 1.0, 10.0, n=5, method="by hand")
    assert (found.ci_low, found.value, found.stderr) == (0.0, 1.0, 10.0)
    assert found.ci_high == pytest.approx(20.6, abs=0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_no_score(value):
    with pytest.raises(MetricError, match="not a score"):
        score("frechet_distance", value, None, n=5, method="none")


def test_scores_are_frozen_and_survive_pickling_and_copying():
    found = score("frechet_distance", 1.0, 0.5, n=5, method="by hand", details={"a": 2.0})
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert again == found
        assert isinstance(again, Score)
        with pytest.raises(TypeError):
            again.details["a"] = 3.0
    with pytest.raises(AttributeError):
        found.value = 2.0
    assert float(found) == 1.0
