import ast
import copy
import doctest
import importlib
import math
import pickle
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import evalsvc.metrics
from evalsvc.metrics import Direction, MetricError, Score, functional, registry
from evalsvc.metrics.inputs import INPUTS, Form, Input, Source
from evalsvc.metrics.moments import REFERENCE_MOMENTS
from evalsvc.metrics.registry import METRICS, QUANTITIES, Quantity, metric, score

MODULES = sorted(module.name for module in pkgutil.iter_modules(evalsvc.metrics.__path__))


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module):
    names = {"np": np, "math": math}
    assert doctest.testmod(importlib.import_module(f"evalsvc.metrics.{module}"), extraglobs=names).failed == 0


def test_every_metric_is_in_functional_and_takes_inputs_by_the_common_names():
    assert "frechet_distance" in METRICS
    for name, spec in METRICS.items():
        if spec.function.__module__.startswith("evalsvc.metrics."):
            assert getattr(functional, name) is spec.function
            assert set(spec.inputs) <= set(INPUTS)
            assert spec.version >= 1


def shipped():
    return {
        quantity.name: (spec, quantity)
        for spec in METRICS.values()
        if spec.function.__module__.startswith(functional.__name__.rpartition(".")[0])
        for quantity in spec.quantities
    }


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_quantity_says_all_that_others_ask_of_it(name):
    spec, quantity = shipped()[name]
    assert quantity.unit
    assert (quantity.direction is Direction.NEUTRAL) == isinstance(quantity.target, float)
    assert quantity.low < quantity.high
    assert quantity.titled("en") == quantity.title != ""
    assert quantity.titled("zh") == quantity.title_zh != ""
    assert set(quantity.beside) <= {*shipped(), "samples_per_second"} - {name}
    assert quantity.order is None or quantity.name.endswith(f"_{quantity.order}")
    assert isinstance(spec.unbiased_in_n(quantity, {}), bool)
    assert {each.source for each in spec.inputs.values()} - {Source.CALLER} or name.endswith("_difference")


def test_no_two_quantities_have_one_name_in_a_language():
    for language in ("en", "zh"):
        titles = [quantity.titled(language) for _, quantity in shipped().values()]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("spec", METRICS.values(), ids=METRICS)
def test_what_is_found_once_of_a_reference_is_an_argument_and_needs_inputs_that_there_are(spec):
    known = {**spec.inputs, **spec.controls}
    for each in spec.precomputed:
        assert each.argument in {**spec.inputs, **spec.options}
        assert all(known[name].source is Source.REFERENCE for name in each.of)
        assert each.of[0] in spec.inputs


def test_a_metric_returns_the_quantity_of_the_order_asked_for_and_offers_what_is_a_choice():
    spec = METRICS["distinct_n"]
    assert [each.name for each in spec.returned({})] == ["distinct_2"]
    assert [each.name for each in spec.returned({"n": 3})] == ["distinct_3"]
    assert set(spec.choices) == {"n", "tokenizer"}
    assert set(METRICS["authenticity"].choices) == set()
    assert set(METRICS["precision_recall"].choices) == {"k"}
    assert set(METRICS["authenticity"].controls) == {"heldout"}


KNOWN_BY_NAME = {
    "evalsvc/api/schemas/common.py": "an example",
    "evalsvc/api/schemas/scores.py": "an example",
    "evalsvc/cli/score.py": "what to type after the demo",
    "dashboards/views/memorization.py": "the page of these two",
}


def test_what_is_known_of_a_metric_stands_on_it_and_nobody_else_lists_them_by_name():
    ours = {*METRICS, *shipped()} - {"precision", "mean", "corpus"}  # which are common words too
    root = Path(__file__).parents[2]
    rooms = [room for room in (root / "evalsvc").iterdir() if room.is_dir() and not room.is_symlink()]
    texts = {file: file.read_text() for room in (*rooms, root / "dashboards") for file in room.rglob("*.py")}
    assert len(texts) > 200
    found = {
        str(file.relative_to(root))
        for file, text in texts.items()
        if any(name in text for name in ours)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in ours
    }
    assert found == set(KNOWN_BY_NAME)


def test_a_metric_from_outside_says_as_much_as_ours(monkeypatch):
    for table in (METRICS, QUANTITIES):
        monkeypatch.setattr(
            "evalsvc.metrics.registry." + ("METRICS" if table is METRICS else "QUANTITIES"), dict(table)
        )
    quantity = Quantity(
        "tidiness",
        Direction.NEUTRAL,
        "points",
        0.0,
        unbiased_in_n=True,
        target=1.0,
        title="Tidiness",
        title_zh="整洁度",
    )

    @metric(quantity, version=3, inputs=(Input("depth", Form.MATRIX),), precomputed=(REFERENCE_MOMENTS,))
    def tidiness(depth, reference, strict=False): ...

    spec = registry.METRICS["tidiness"]
    assert spec.inputs == {"depth": Input("depth", Form.MATRIX), "reference": INPUTS["reference"]}
    assert (spec.quantities, spec.precomputed) == ((quantity,), (REFERENCE_MOMENTS,))
    assert set(spec.choices) == {"strict"}


@pytest.mark.parametrize(
    ("before", "now"), [("nearest_neighbours", "nearest_neighbors"), ("neighbour_radii", "neighbor_radii")]
)
def test_a_function_by_its_former_name_is_the_same_and_warns(before, now):
    with pytest.warns(DeprecationWarning, match=f"use {now}"):
        assert getattr(functional, before) is getattr(functional, now)


def test_directions_come_from_the_registry():
    assert QUANTITIES["frechet_distance"].direction is Direction.LOWER
    assert QUANTITIES["inception_score"].direction is Direction.HIGHER
    assert functional.vendi_score(np.eye(3)).direction is Direction.HIGHER


def test_inputs_are_required_and_options_are_not():
    assert tuple(METRICS["kernel_distance"].inputs) == ("generated", "reference")
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
