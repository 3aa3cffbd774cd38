"""Arrays that extractors make of references: extracted once, stored by the digest of the split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack

import numpy as np

from evalsvc.core.batching import Batches
from evalsvc.core.files.verification import Verified
from evalsvc.inputs.published_statistics import StatisticsFile
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import Extractor, ExtractorInfo, SampleSet
from evalsvc.store.artifacts import Artifacts

FOLDER = "reference"
"""Folder of the arrays of references."""


def array_key(digest: str, info: ExtractorInfo, output: str) -> str:
    """Key of the array of one output for one split; engines with different rounding do not share it."""
    return f"{_folder(digest, info)}/{output}.npy"


def key_beside(array: str, name: str) -> str:
    """Key of a value computed from the array at this key, which is removed with the array."""
    return f"{array.removesuffix('.npy')}.{name}.safetensors"


def lock_of(artifacts: Artifacts, digest: str) -> AbstractContextManager[None]:
    """Lock for extracting or removing arrays of a split."""
    return artifacts.lock(f"{FOLDER}/{digest}/.lock")


def _folder(digest: str, info: ExtractorInfo) -> str:
    return f"{FOLDER}/{digest}/{info.protocol}-{info.backend}"


def extract_reference(
    artifacts: Artifacts,
    samples: SampleSet,
    digest: str,
    extractors: Iterable[Extractor],
    batches: Batches,
    progress: Callable[[int], None],
    require_unchanged: Callable[[], None] = lambda: None,
) -> None:
    """Extract all missing or damaged arrays of these extractors for a split, in one pass over the samples.

    A file lock lets a second process wait for the first and use its arrays. Published statistics need no extraction.
    Arrays are discarded if the samples change meanwhile, in which case ``require_unchanged`` raises.
    """
    if isinstance(samples, StatisticsFile):
        progress(len(samples))
        return
    with lock_of(artifacts, digest), ExitStack() as stack:
        missing = {_folder(digest, e.info): e for e in extractors if not _complete(artifacts, samples, digest, e.info)}
        if not missing:
            progress(len(samples))
            return
        writers = {
            key: stack.enter_context(artifacts.matrix_writer(key, len(samples)))
            for extractor in missing.values()
            for key in (array_key(digest, extractor.info, output) for output in extractor.info.outputs)
        }

        def extract(start: int, stop: int) -> dict[str, np.ndarray]:
            batch = samples.read(start, stop)
            return {
                array_key(digest, extractor.info, output): array
                for extractor in missing.values()
                for output, array in validation.extract(extractor, batch).items()
            }

        widths: dict[str, int] = {}
        for arrays in batches.over(0, len(samples), extract):
            for key, array in arrays.items():
                validation.same_width(key, widths.setdefault(key, array.shape[1]), array)
                writers[key].append(array)
            progress(len(array))
        require_unchanged()


def read_reference(
    artifacts: Artifacts, digest: str, info: ExtractorInfo, output: str, maps: list[Verified] | None = None
) -> np.ndarray:
    """The memory-mapped array of one output for one split, as written by :func:`extract_reference`."""
    return artifacts.read_matrix(array_key(digest, info, output), maps)


def _complete(artifacts: Artifacts, samples: SampleSet, digest: str, info: ExtractorInfo) -> bool:
    return all(artifacts.is_sound(array_key(digest, info, output), len(samples)) for output in info.outputs)
