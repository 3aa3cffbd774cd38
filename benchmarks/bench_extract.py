"""Inception features against a float64 forward, and whole jobs: from two folders of PNG to FID, KID, IS, P/R."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from bench_frechet import value_alone
from bench_inception import pictures
from features import WIDTH, features
from PIL import Image
from race import Contenders
from random_inception import save

IMAGES, SIDE, SUBSET = 96, 64, 50
SUITE = """
name: whole-job
version: 1
modality: image
reference: real
samples: {samples}
shard: 64
gallery: 0
extractors:
  inception: {{use: inception-v3, options: {{weights: {weights}}}}}
metrics:
  - {{metric: frechet_distance, features: inception/pool3}}
  - {{metric: kernel_distance, features: inception/pool3, options: {{subset_size: {subset}}}}}
  - {{metric: inception_score, features: inception/logits}}
  - {{metric: precision_recall, features: inception/pool3}}
"""


@cache
def _place() -> Path:
    """Two folders of PNG, the weights and the suite, made once."""
    place = Path(tempfile.mkdtemp())
    weights = save(place / "random.pth")
    for seed, folder in enumerate(("made_1", "real")):
        (place / folder).mkdir()
        random = np.random.default_rng(seed)
        for i, image in enumerate(pictures(IMAGES, SIDE)):
            noisy = image.permute(1, 2, 0).numpy() + random.integers(0, 8 + 8 * seed, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(noisy).save(place / folder / f"{i:05}.png")
    (place / "job.yaml").write_text(SUITE.format(samples=IMAGES, weights=weights, subset=SUBSET))
    return place


def _evalsvc() -> float:
    """``evalsvc reference add`` and ``evalsvc score`` in this process; the choice of the backend is remembered."""
    from evalsvc.core.settings import Settings
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.planning import plan
    from evalsvc.evaluation.runner import evaluate
    from evalsvc.inputs.checkpoints import Checkpoint
    from evalsvc.inputs.references import add_reference
    from evalsvc.inputs.suites import load_suite
    from evalsvc.plugins.registry import Plugins
    from evalsvc.store import queries

    place, home = _place(), Path(tempfile.mkdtemp())
    memory = place / "backends"
    if memory.exists():
        shutil.copytree(memory, home / "artifacts" / "backends")
    os.environ["EVALSVC_HOME"] = str(home)
    context = EvaluationContext(Settings(home=home), Plugins(), "cpu")
    add_reference(context.database, context.plugins, "real", place / "real", None)
    checkpoint = Checkpoint.open(place / "made_1", "made", 1)
    evaluation = evaluate(plan(context, checkpoint, "samples", {}, load_suite(str(place / "job.yaml"))), context)
    with context.database.read() as session:
        scores = {row.label: row.value for row in queries.scores(session, evaluation=evaluation)}
    shutil.copytree(home / "artifacts" / "backends", memory, dirs_exist_ok=True)
    shutil.rmtree(home)
    return scores["frechet_distance"]


def _torch_fidelity() -> float:
    from torch_fidelity import calculate_metrics

    place = _place()
    found = calculate_metrics(
        input1=str(place / "made_1"),
        input2=str(place / "real"),
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_layer_prc="2048",
        feature_extractor_weights_path=str(place / "random.pth"),
        kid_subset_size=SUBSET,
        cuda=False,
        cache=False,
        verbose=False,
    )
    return float(found["frechet_inception_distance"])


def whole_job() -> Contenders:
    return {"evalsvc": _evalsvc, "torch-fidelity": _torch_fidelity}


def stages() -> dict[str, float]:
    """Seconds of each stage of our whole job; what runs beside another counts for both."""
    from evalsvc.evaluation import scoring
    from evalsvc.inputs.images.files import ImageFiles
    from evalsvc.plugins import validation
    from evalsvc.store import artifacts

    seconds: dict[str, float] = {}
    started = time.perf_counter()
    with ExitStack() as stack:
        for owner, name, stage in (
            (ImageFiles, "read", "reading and decoding"),
            (validation, "extract", "resize and forward"),
            (artifacts.Artifacts, "write_bytes", "writing"),
            (artifacts.MatrixWriter, "append", "writing"),
            (scoring, "_measure", "FID, KID, IS, P/R"),
        ):
            stack.enter_context(_timed(owner, name, stage, seconds))
        _evalsvc()
    whole = time.perf_counter() - started
    return seconds | {"the rest (plug-ins, weights, database)": whole - sum(seconds.values()), "all": whole}


@contextmanager
def _timed(owner: Any, name: str, stage: str, into: dict[str, float]) -> Iterator[None]:
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        before = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            into[stage] = into.get(stage, 0.0) + time.perf_counter() - before

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, function)


def after_the_forward(n: int = 3_000) -> Contenders:
    """Everything that follows the network, from features to FID, KID, IS and P/R.

    A known reference is that of every evaluation but the first: both sides keep its moments, ours its balls too.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    from evalsvc.metrics import Moments, pairs
    from evalsvc.metrics.balls import neighbor_radii
    from evalsvc.metrics.functional import frechet_distance, inception_score, kernel_distance, precision_recall

    x, y = (torch.from_numpy(features(n, seed)) for seed in (0, 1))
    logits = 3 * torch.randn(n, 1_008, generator=torch.Generator().manual_seed(2))
    radii, moments, statistics = neighbor_radii(y, 3), Moments.of(y), fid_features_to_statistics(y)

    def ours(known: bool, error: bool) -> float:
        balls = precision_recall.plan(x, y, reference_radii=radii if known else None)
        pairs.measure([kernel_distance.plan(x, y), balls])
        inception_score(logits)
        kept = Moments.of_sums(n, moments.mean, moments.scatter) if known and n >= WIDTH else None
        return frechet_distance(x, y, reference_moments=kept).value if error else value_alone(x, kept or y)

    def theirs(known: bool) -> float:
        options = {"kid_subset_size": 1_000, "kid_subsets": 100, "verbose": False}
        kid_features_to_metric(x, y, **options)
        isc_features_to_metric(logits)
        prc_features_to_metric(x, y, verbose=False)
        reference = statistics if known else fid_features_to_statistics(y)
        found = fid_statistics_to_metric(fid_features_to_statistics(x), reference, False)
        return float(found["frechet_inception_distance"])

    return {
        "evalsvc": lambda: ours(True, True),
        "evalsvc, no standard error of the distance": lambda: ours(True, False),
        "torch-fidelity": lambda: theirs(True),
        "evalsvc, new reference": lambda: ours(False, True),
        "evalsvc, new reference, no standard error of the distance": lambda: ours(False, False),
        "torch-fidelity, new reference": lambda: theirs(False),
    }


def after_1000() -> Contenders:
    return after_the_forward(1_000)


def after_10000() -> Contenders:
    return after_the_forward(10_000)


def drift(networks: int = 5) -> Contenders:
    """The value is the centred relative error of pool3 beside a forward pass in float64, the mean over networks."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from evalsvc.builtin.extractors.backend_choice import centered_error
    from evalsvc.builtin.extractors.inception import InceptionV3
    from evalsvc.builtin.extractors.inception_network import Inception
    from evalsvc.builtin.extractors.preprocess import INCEPTION
    from evalsvc.inputs.checkpoints import Checkpoint, load_into

    os.environ["EVALSVC_HOME"] = tempfile.mkdtemp()
    place = Path(tempfile.mkdtemp())
    weights = [save(place / f"{seed}.pth", seed) for seed in range(networks)]
    x = pictures(16, 64)

    @torch.inference_mode()
    def exact(path: Path) -> torch.Tensor:
        network = Inception(("pool3",)).eval()
        load_into(network, Checkpoint.open(path, "inception-v3", 0))
        return network.double()(INCEPTION["tf1"].apply(x).double())[0]

    @torch.inference_mode()
    def error(extractors: list[Callable[[torch.Tensor], torch.Tensor]]) -> float:
        return fmean(centered_error(extract(x), truth) for extract, truth in zip(extractors, truths, strict=True))

    def ours(path: Path, backend: str) -> Callable[[torch.Tensor], torch.Tensor]:
        extractor = InceptionV3(path, outputs=("pool3",), backend=backend)
        return lambda x: extractor.extract(x)["pool3"]

    def theirs(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        extractor = FeatureExtractorInceptionV3("peer", ["2048"], str(path))
        return lambda x: extractor(x)[0]

    truths = [exact(path) for path in weights]
    sides = {
        f"evalsvc, {name}": [ours(path, name) for path in weights] for name in ("torch", "openvino", "onnxruntime")
    }
    sides["torch-fidelity"] = [theirs(path) for path in weights]
    return {name: partial(error, extractors) for name, extractors in sides.items()}
