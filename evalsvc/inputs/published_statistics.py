"""References given by mean and covariance: the ``.npz`` files that projects publish with their papers.

A published file states neither its number of images nor their preprocessing, so it is converted once to a file that
does. The converted file can then be used like any other reference, for the Frechet distance only.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError, first_line
from evalsvc.core.files.atomic_files import atomic_write, put
from evalsvc.inputs import published_weights
from evalsvc.inputs.array_files import IMAGES
from evalsvc.inputs.suite_entries import Split
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.moments import REFERENCE_MOMENTS, Moments
from evalsvc.metrics.registry import METRICS
from evalsvc.metrics.score import MetricError
from evalsvc.plugins.interfaces import ExtractorInfo, Modality
from evalsvc.plugins.samples import Samples

MEMBER = "evalsvc"
"""Metrics that need only the moments of their reference."""
ROUNDING = 1e-5
"""Tolerance for negative eigenvalues relative to the norm of the matrix, as float32 rounding causes them."""
_ARRAYS = {"pool3": ("mu", "sigma"), "sfid": ("mu_s", "sigma_s")}


class Facts(BaseModel):
    """Facts that a published file leaves out. ``ddof`` is that of the source; stored covariances always have ddof 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=2)
    ddof: Literal[0, 1]
    ddof_known_by: Literal["the caller", "the file", "the convention of pytorch-fid, clean-fid, EDM and ADM"]
    preprocess: Literal["tf1", "pytorch-fid", "clean", "torchmetrics"]
    extractor: str = "inception-v3"
    weights: str
    source: str


@dataclass(frozen=True)
class StatisticsFile:
    """A converted file in the place of a sample set: it has moments, but no samples."""

    path: Path
    facts: Facts
    modality: Modality = "image"

    def __len__(self) -> int:
        return self.facts.count

    def digest(self) -> str:
        """sha256 of the current content of the file."""
        return digest_path(self.path)

    def read(self, start: int, stop: int) -> Samples:
        """Raise an error: there are no samples."""
        raise InputError(
            f"{self.path} contains a mean and a covariance, not images, and supports only {_served()}: add "
            "the images themselves as a reference for other metrics"
        )

    def check(self, suite: Suite, split: Split, extractors: Mapping[str, ExtractorInfo]) -> None:
        """Raise an error if the suite needs more of this split than moments."""
        for use in suite.metrics:
            if split in use.splits and REFERENCE_MOMENTS not in use.spec.precomputed:
                raise InputError(
                    f"suite {suite.id}: {use.metric} needs the images of reference {suite.reference!r}, but "
                    f"{self.path} contains statistics, which support only {_served()}"
                )
            if split in use.splits:
                label, _, output = use.features.partition("/")
                self.moments(extractors[label], output)
        if split == "train" and suite.neighbours:
            raise InputError(f"suite {suite.id} searches for nearest neighbors, but {self.path} contains no images")

    def moments(self, info: ExtractorInfo, output: str) -> Moments:
        """The moments of one output of an extractor; another network, preprocessing or precision raises."""
        facts = self.facts
        same = info.name == facts.extractor and info.weights == facts.weights
        if not same or not info.preprocessing.startswith(f"{facts.preprocess}:") or "float32" not in info.preprocessing:
            raise InputError(
                f"{self.path} contains statistics of {facts.extractor} with preprocessing {facts.preprocess!r} "
                f"and weights {facts.weights[:12]}..., which are not comparable with features of {info.name} "
                f"({info.preprocessing}; weights {info.weights[:12]}...)"
            )
        return _moments(self.path, output, facts.count)


def _served() -> str:
    """Names of the metrics that need only the moments of the reference."""
    return " and ".join(spec.name for spec in METRICS.values() if REFERENCE_MOMENTS in spec.precomputed)


def open_statistics(path: Path) -> StatisticsFile | None:
    """Open the statistics at ``path``; ``None`` for other files, an error for statistics that are not converted yet."""
    _refuse_pickle(path)
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    names = _members(path)
    if MEMBER in names:
        try:
            return StatisticsFile(path, Facts.model_validate_json(_read(path, MEMBER).tobytes()))
        except ValidationError as error:
            raise InputError(f"{path} was not written by this version ({error.errors()[0]['msg']})") from None
    if {"mu", "sigma"} <= names and not names & set(IMAGES):
        raise InputError(
            f"{path} contains a mean and a covariance without the number of images and their preprocessing: "
            f"run 'evalsvc reference statistics {path} OUT.npz --count N --preprocess tf1' and add OUT.npz"
        )
    return None


def beside_images(path: Path) -> bool:
    """Whether a file of images also contains a mean and a covariance, as ADM's do; they are then ignored."""
    names = _members(path) if path.suffix.lower() == ".npz" else set()
    return {"mu", "sigma"} <= names and MEMBER not in names


def convert(
    source: Path,
    target: Path,
    *,
    count: int,
    preprocess: str,
    ddof: int | None = None,
    network: str = published_weights.WEIGHTS["inception-2015"].sha256,
) -> Facts:
    """Write the statistics of a published ``.npz`` with the missing facts, and with ddof 1.

    ``count`` is the number of images, ``preprocess`` one of the modes of inception-v3. ``ddof`` defaults to the file's
    own entry, else to 1, as pytorch-fid, clean-fid, EDM and ADM write it (StyleGAN and cd-fvd: 0).
    """
    _refuse_pickle(source)
    names = _members(source)
    if target.exists() and target.samefile(source):
        raise InputError(f"{target} is the published file itself: choose another name for the converted file")
    if MEMBER in names or not {"mu", "sigma"} <= names:
        held = ", ".join(sorted(names)) or "nothing"
        raise InputError(f"{source} contains no published statistics (an .npz with mu and sigma); it contains {held}")
    known_by = "the caller"
    if ddof is None and "ddof" in names:
        ddof, known_by = _read(source, "ddof").tolist(), "the file"
    elif ddof is None:
        ddof, known_by = 1, "the convention of pytorch-fid, clean-fid, EDM and ADM"
    try:
        facts = Facts.model_validate(
            {
                "count": count,
                "ddof": ddof,
                "ddof_known_by": known_by,
                "preprocess": preprocess,
                "weights": network,
                "source": digest_path(source),
            }
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise InputError(f"{source}: {wrong['loc'][0]} {wrong['input']!r}: {wrong['msg']}") from None
    arrays: dict[str, Any] = {MEMBER: np.frombuffer(facts.model_dump_json().encode(), np.uint8)}
    for output, (mean, covariance) in _ARRAYS.items():
        if {mean, covariance} <= names:
            mu, sigma = _numbers(source, mean), _numbers(source, covariance)
            _check(source, output, mu, sigma)
            arrays |= {mean: mu, covariance: sigma * (count / (count - 1) if ddof == 0 else 1.0)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with atomic_write(target.resolve(), ours=False) as temporary:
        temporary.write_bytes(buffer.getvalue())
        put(temporary, target.resolve())
    return facts


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise InputError(
            f"{path} is a pickle, which can execute code and is never opened: load it where it was written, "
            "save its arrays with numpy.savez('statistics.npz', mu=..., sigma=...), and pass that file to "
            "'evalsvc reference statistics'"
        )


def _check(path: Path, output: str, mu: np.ndarray, sigma: np.ndarray) -> None:
    width = {"pool3": 2048, "sfid": 2023}[output]
    if mu.shape != (width,) or sigma.shape != (width, width):
        raise InputError(
            f"{path}: {output} has a mean of shape {mu.shape} and a covariance of shape {sigma.shape}, "
            f"expected width {width}"
        )
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise InputError(f"{path}: the statistics of {output} contain NaN or infinity")
    if np.abs(sigma - sigma.T).max() > 1e-6 * np.abs(sigma).max() or sigma.diagonal().min() < 0:
        raise InputError(f"{path}: the covariance of {output} is not symmetric with a non-negative diagonal")
    try:
        np.linalg.cholesky(sigma + np.eye(width) * ROUNDING * (np.linalg.norm(sigma) or 1.0))
    except np.linalg.LinAlgError:
        raise InputError(f"{path}: the covariance of {output} has negative eigenvalues") from None


@lru_cache(maxsize=4)
def _moments(path: Path, output: str, count: int) -> Moments:
    mean, covariance = _ARRAYS.get(output, ("", ""))
    if not {mean, covariance} <= _members(path):
        raise InputError(f"{path} contains no statistics of {output!r}")
    try:
        return Moments(count, _read(path, mean), _read(path, covariance))
    except MetricError as error:
        raise InputError(f"{path}: {error}") from None


def _members(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    except Exception as error:  # readers of archives raise errors of many types for damaged files
        raise InputError(f"{path} is not a readable .npz ({first_line(error)})") from None


def _numbers(path: Path, name: str) -> np.ndarray:
    array = _read(path, name)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: array {name!r} has dtype {array.dtype.name}, expected real numbers")
    if array.dtype == np.float16:
        raise InputError(
            f"{path}: array {name!r} is in half precision, which changes a distance by tenths: use float32 or float64"
        )
    return array.astype(np.float64)


def _read(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except Exception as error:  # of the archive, of the compressed data, or of the array's header
        raise InputError(f"{path}: cannot read array {name!r} ({first_line(error)})") from None
