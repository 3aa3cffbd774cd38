"""Metrics on a device: the CPU's numbers wherever inputs are, in full precision, the same each time, with few waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from evalsvc.metrics import arrays, cells, devices, factorizations, frechet_influence, functional, kmeans, mind
from evalsvc.metrics.devices import staged, working_on
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.inputs import Source
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.registry import METRICS
from evalsvc.metrics.score import Score
from tests.pretended_device import PretendedDevice, pretended

N = 60
ON_DEVICES = {Source.SAMPLES, Source.REFERENCE, Source.PROMPTS, Source.LIKELIHOOD, Source.CALLER}
"""Inputs of these sources may be on a device; numbers of scorers and labels of items are arrays of NumPy."""


def _rows(seed: int, n: int = N, d: int = 4, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((n, d)) + shift).astype(np.float32)


X, Y, TRAIN, HELDOUT = _rows(1), _rows(2, 55, scale=1.1, shift=0.2), _rows(3, 58), _rows(4, 50)
FEW, FEW_REFERENCE = _rows(5, 24, 30), _rows(6, 22, 30)
GROUPS = np.arange(N) // 3
COUNTS = np.arange(N) % 5 + 1.0
NATS = np.abs(X[:, 0]).astype(np.float64)

CASES: dict[str, dict[str, Any]] = {
    "authenticity": {"generated": X, "train": TRAIN, "heldout": HELDOUT},
    "bits_per_byte": {"nll": NATS, "bytes": COUNTS},
    "bits_per_dim": {"nll": NATS, "dims": COUNTS},
    "clip_score": {"generated": X, "prompts": X + 0.3},
    "clipped_density_coverage": {"generated": X, "reference": Y},
    "ct_score": {"generated": X, "train": TRAIN, "heldout": HELDOUT, "cells": 2},
    "density_coverage": {"generated": X, "reference": Y},
    "diversity": {"generated": X, "items": GROUPS.astype(np.float64)},
    "feature_likelihood_divergence": {"generated": X, "train": TRAIN, "heldout": HELDOUT},
    "frechet_distance": {"generated": X, "reference": Y},
    "frechet_distance_infinity": {"generated": np.concatenate([X, TRAIN]), "reference": Y},
    "grouped_frechet_distance": {"generated": X, "reference": Y, "groups": GROUPS},
    "inception_score": {"logits": 3 * X, "splits": 2},
    "kernel_audio_distance": {"generated": X, "reference": Y},
    "kernel_distance": {"generated": X, "reference": Y, "subsets": 3, "subset_size": 20},
    "mauve": {"generated": X, "reference": Y, "seeds": 1},
    "mauve_star": {"generated": X, "reference": Y, "seeds": 1},
    "memorization_informed_frechet": {"generated": X, "reference": Y, "train": TRAIN},
    "mind": {"generated": X, "reference": Y, "directions": 9},
    "paired_difference": {"nll_a": NATS, "nll_b": NATS[::-1].copy(), "units": COUNTS},
    "perplexity": {"nll": NATS, "tokens": COUNTS},
    "prdc": {"generated": X, "reference": Y},
    "precision_recall": {"generated": X, "reference": Y},
    "vendi_score": {"x": X},
    "word_perplexity": {"nll": NATS, "words": COUNTS},
}
SPECIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "fewer rows than columns": ("frechet_distance", {"generated": FEW, "reference": FEW_REFERENCE}),
    "few rows against many": ("frechet_distance", {"generated": FEW[:, :26], "reference": _rows(7, 90, 26)}),
    "too few for an error": ("frechet_distance", {"generated": X[:15], "reference": Y}),
    "equal sets": ("frechet_distance", {"generated": X, "reference": X}),
    "a reference of lower rank": ("frechet_distance", {"generated": X, "reference": Y[:, [0, 1, 0, 1]]}),
    "groups": ("frechet_distance", {"generated": X, "reference": Y, "groups": GROUPS}),
    "chunks of few rows": ("frechet_distance_infinity", {"generated": _rows(8, 100, 30), "reference": FEW}),
    "copies": ("memorization_informed_frechet", {"generated": TRAIN + 0.001, "reference": Y, "train": TRAIN}),
    "order 2": ("vendi_score", {"x": X, "q": 2.0}),
    "order 0": ("vendi_score", {"x": X, "q": 0}),
    "order inf": ("vendi_score", {"x": X, "q": float("inf")}),
    "a small Gram matrix": ("vendi_score", {"x": _rows(9, 24, 30, 0.2, 1.0)}),
    "short projections": ("mind", {"generated": X[:15], "reference": Y, "directions": 9}),
    "Euclidean": ("diversity", {"generated": X, "items": GROUPS.astype(np.float64), "distance": "euclidean"}),
    "ten splits": ("inception_score", {"logits": X}),
}


def arrays_of(name: str, inputs: dict[str, Any]) -> list[str]:
    known = {**METRICS[name].inputs, **METRICS[name].controls}
    return [key for key in inputs if key in known and known[key].source in ON_DEVICES]


def call(name: str, inputs: dict[str, Any], device: PretendedDevice | None = None, on: Any = ()) -> Any:
    moved = {key: device.tensor(value) if key in on else value for key, value in inputs.items()}
    return METRICS[name].function(**moved)


def numbers(result: Any) -> dict[Any, np.ndarray]:
    """All that a score says, with its influences; these are arrays of NumPy."""
    found: dict[Any, Any] = {}
    for score in result.values() if isinstance(result, dict) else [result]:
        assert isinstance(score, Score)
        for key in ("value", "stderr", "ci_low", "ci_high", "stderr_reference"):
            found[score.name, key] = getattr(score, key)
        found |= {(score.name, key): value for key, value in score.details.items()}
        for key in ("influence", "reference"):
            influence = getattr(score, key)
            parts = influence.parts if isinstance(influence, Influence) else {}
            assert all(isinstance(part, np.ndarray) for part in parts.values())
            found |= {(score.name, key, part): vector for part, vector in parts.items()}
    return {key: np.asarray(np.nan if value is None else value) for key, value in found.items()}


def same(expected: Any, result: Any, tolerance: float = 1e-9) -> None:
    """Numbers agree to a ``tolerance`` of their size, influences in single precision."""
    expected, found = numbers(expected), numbers(result)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        relative, size = (1e-5, np.abs(value).max(initial=0)) if value.ndim else (tolerance, 0.0)
        np.testing.assert_allclose(found[key], value, relative, max(relative * size, 1e-12), err_msg=str(key))


@contextmanager
def switches_set() -> Iterator[None]:
    """TF32 allowed for all products, as a plug-in may have done it."""
    torch.set_float32_matmul_precision("medium")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def wherever(name: str, inputs: dict[str, Any], tolerance: float = 1e-9) -> None:
    expected = call(name, inputs)
    first, *others = arrays_of(name, inputs)
    with pretended() as device, switches_set():
        for on in ([first, *others], [first], others) if others else ([first],):
            same(expected, call(name, inputs, device, on), tolerance)
        if METRICS[name].plan is None:  # streams of pairs have tests of their own
            with working_on(device.device):
                same(expected, call(name, inputs), tolerance)
        assert not device.nondeterministic


def test_every_metric_whose_inputs_may_be_on_a_device_has_a_case():
    shipped = {name: spec for name, spec in METRICS.items() if spec.function is getattr(functional, name, None)}
    movable = {
        name
        for name, spec in shipped.items()
        if any(each.source in ON_DEVICES and each.form.value != "texts" for each in spec.inputs.values())
    }
    assert set(CASES) == movable


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_metric_is_the_same_wherever_its_inputs_are_under_any_switches(name):
    wherever(name, CASES[name])


@pytest.mark.parametrize("case", SPECIAL)
def test_a_special_case_is_the_same_wherever_its_inputs_are(case):
    # A direction without variance leaves the root of a rounding error, which is 1e-9 of the traces at most in a value.
    wherever(*SPECIAL[case], 1e-7 if case == "a reference of lower rank" else 1e-9)


def test_the_switches_would_be_seen():
    with PretendedDevice() as device, switches_set():
        x = device.tensor(X)
        x @ x.T
    assert device.tf32


@pytest.mark.parametrize("name", ["frechet_distance", "vendi_score", "ct_score", "perplexity", "prdc"])
def test_arrays_on_mps_which_has_no_float64_are_brought_to_the_host(name):
    inputs = {key: np.float32(value) if isinstance(value, np.ndarray) else value for key, value in CASES[name].items()}
    expected = numbers(call(name, inputs))
    with PretendedDevice("mps") as device:
        found = numbers(call(name, inputs, device, arrays_of(name, inputs)))
        moments = Moments(3, device.tensor(X[0]), device.tensor(np.eye(4, dtype=np.float32)))
        assert moments.device.type == "cpu"
    assert all(np.array_equal(found[key], value, equal_nan=True) for key, value in expected.items())


# --- moments ---


def test_moments_of_a_device_meet_those_of_the_host():
    own = Moments.of(Y)
    expected = functional.frechet_distance(X, own)
    with pretended() as device:
        x = device.tensor(X)
        there = Moments.of(device.tensor(Y))
        mixed = Moments(own.n, device.tensor(own.mean), own.covariance)
        for reference in (own, there, mixed):
            same(expected, functional.frechet_distance(x, reference))
            same(expected, functional.frechet_distance(X, reference))
        for generated in (Moments.of(x), Moments.of(X)):
            found = functional.frechet_distance(generated, there)
            assert found.value == pytest.approx(expected.value, rel=1e-9)
        grown = Moments.of(x).merge_state(own)
        assert grown.device == device.device
        torch.testing.assert_close(grown.covariance.cpu(), Moments.of(np.concatenate([X, Y])).covariance)
        assert Moments.of(X).merge_state(there).device.type == "cpu"


def test_a_device_may_be_named_without_its_index(monkeypatch):
    monkeypatch.setattr(factorizations, "measure", lambda device: pytest.fail("measured"))
    with pretended() as device, working_on(torch.device("cuda")):
        moments = Moments.of(device.tensor(X))
        assert moments.there() is moments
        assert Moments.of(X).device == device.device


@pytest.mark.parametrize("name", sorted(name for name in CASES if METRICS[name].precomputed))
def test_a_value_found_once_is_found_on_a_device_and_serves_there(name):
    spec, inputs = METRICS[name], CASES[name]
    expected = call(name, inputs)
    with pretended() as device, switches_set():
        on = arrays_of(name, inputs)
        there = {key: device.tensor(inputs[key]) for key in on}
        for each in spec.precomputed:
            stored = each.find(there, spec.options)
            assert all(isinstance(array, np.ndarray) for array in stored.values())
            found = {each.argument: each.restore(stored, there, spec.options)}
            same(expected, call(name, inputs | found, device, on))
        assert not device.nondeterministic


def test_products_in_double_are_taken_on_the_host_where_that_is_faster():
    expected = Moments.of(X)
    with pretended() as device:
        factorizations.use(device.device, ["product"])
        found = Moments.of(device.tensor(X))
        assert found.device == device.device
        assert not any("moments.py" in where for where in device.wide)
        assert torch.equal(found.scatter.cpu(), expected.scatter)


# --- streams ---


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks even of few rows."""
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 1536)
    monkeypatch.setattr("evalsvc.metrics.moments._ROWS", 8)
    monkeypatch.setattr("evalsvc.metrics.moments._BLOCK_BYTES", 256)
    monkeypatch.setattr(frechet_influence, "_PIECE", 8)
    monkeypatch.setattr(frechet_influence, "_ROWS", 8)
    monkeypatch.setattr(frechet_influence, "_PAIRS", 8)
    monkeypatch.setattr(mind, "_SLAB_BYTES", 8 * N)


MANY = {key: _rows(seed, 240, 32) for seed, key in enumerate(("generated", "reference", "prompts", "x", "logits"))}
STREAMS: dict[str, dict[str, Any]] = {
    "clip_score": {},
    "diversity": {"items": np.arange(240.0) // 4},
    "frechet_distance": {},
    "inception_score": {"splits": 24},
    "mind": {"directions": 3},
    "vendi_score": {},
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_never_holds_a_matrix_on_the_device(name, small_blocks):
    inputs = {key: MANY[key] for key in METRICS[name].inputs if key in MANY} | STREAMS[name]
    expected = call(name, inputs)
    with pretended(largest=MANY["x"].nbytes - 1) as device, working_on(device.device):
        found = call(name, inputs)
        assert device.wide
    same(expected, found)


# --- waits ---


def waits(name: str, inputs: dict[str, Any]) -> int:
    with pretended() as device:
        call(name, inputs, device, arrays_of(name, inputs))
        return device.synchronizations.total()


MOST_WAITS = {
    "frechet_distance": 14,
    "vendi_score": 8,
    "mind": 5,
    "inception_score": 3,
    "clip_score": 6,
    "diversity": 5,
}


@pytest.mark.parametrize("name", MOST_WAITS)
def test_the_host_waits_for_the_device_as_often_for_many_blocks_as_for_one(name, monkeypatch, small_blocks):
    many = waits(name, CASES[name])
    monkeypatch.undo()
    assert many == waits(name, CASES[name])
    assert many <= MOST_WAITS[name]


def test_k_means_waits_a_few_times_for_each_iteration(monkeypatch):
    with pretended() as device:
        x, counts = device.tensor(np.random.default_rng(0).standard_normal((300, 2)).astype(np.float32)), []
        for rounds in (2, 3, 4):
            device.forget()
            monkeypatch.setattr(kmeans, "ITERATIONS", rounds)
            kmeans.kmeans(x, 10, 0)
            counts.append(device.synchronizations.total())
        assert np.diff(counts).tolist() == [4, 4]
        for rounds in (2, 3, 4):
            device.forget()
            monkeypatch.setattr(cells, "_ROUNDS", rounds)
            cells.kmeans(x, 10, 0)
            counts.append(device.synchronizations.total())
        assert np.diff(counts[3:]).tolist() == [3, 3]


def test_an_array_that_is_too_large_for_pinned_memory_is_copied_as_it_is(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda rows: taken.append(rows.nbytes) or rows)
    monkeypatch.setattr(devices, "_PINNED", X.nbytes - 1)
    with pretended() as device:
        found = [staged(torch.from_numpy(each), device.device) for each in (X, FEW[:2])]
        assert all(np.array_equal(a.cpu().numpy(), b) for a, b in zip(found, (X, FEW[:2]), strict=True))
    assert taken == [FEW[:2].nbytes]
