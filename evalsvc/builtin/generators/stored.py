"""Stored samples: the checkpoint is a folder, zip, array file or JSONL of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from evalsvc.core.digests import walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.images.files import ImageFiles
from evalsvc.inputs.sample_sets import open_samples, read_at
from evalsvc.inputs.text_files import TextList
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest, Samples


@versioned("0.1.0")
@open_to_clients("skip")
class StoredSamples:
    """Sample i is stored sample number ``indices[i]``, for any seed. ``skip`` names files to exclude."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, skip: Sequence[str] = ()) -> None:
        self._stored = open_samples(checkpoint.path, skip)
        self._path = checkpoint.path
        self._stored.read(0, 1)
        self.info = GeneratorInfo("samples", self._stored.modality, takes=frozenset({"prompt", "label", "source"}))

    @staticmethod
    def checkpoint_files(folder: Path) -> Iterator[str]:
        """All files except hidden and system files, since any may be a sample."""
        return walk(folder, exclude_files=is_system_file)

    @property
    def note(self) -> str:
        """How the stored file was read, for errors about the number of samples."""
        return self._stored.note if isinstance(self._stored, TextList) else ""

    @property
    def held(self) -> int:
        """Number of stored samples."""
        return len(self._stored)

    def expect(self, indices: Int64[np.ndarray, " n"]) -> None:
        """Announce the next indices, in order, so that images are decoded ahead."""
        if isinstance(self._stored, ImageFiles):
            self._stored.expect(indices)

    def sample(self, request: SampleRequest) -> Samples:
        """Stored samples at ``request.indices``."""
        last = int(request.indices.max())
        if last >= len(self._stored):
            raise InputError(
                f"{self._path} contains {len(self._stored)} samples, but sample {last + 1} is needed{self.note}: "
                "add samples, or use a smaller suite"
            )
        return read_at(self._stored, request.indices.tolist())
