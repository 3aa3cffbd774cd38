"""Samples that someone already made: the checkpoint is the folder, zip, array file or JSONL itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evalsvc.checkpoints import Checkpoint
from evalsvc.errors import InputError
from evalsvc.plugins import GeneratorInfo
from evalsvc.sample_sets import open_samples
from evalsvc.samples import SampleRequest, Samples


class StoredSamples:
    """Sample i is the i-th stored sample, whatever the seed. ``skip`` names files to leave out."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, skip: Sequence[str] = ()) -> None:
        self._stored = open_samples(checkpoint.path, skip)
        self._path = checkpoint.path
        self._stored.read(0, 1)
        self.info = GeneratorInfo("samples", self._stored.modality)

    def __len__(self) -> int:
        return len(self._stored)

    def sample(self, request: SampleRequest) -> Samples:
        """Stored samples at ``request.indices``, which are contiguous."""
        start, stop = int(request.indices[0]), int(request.indices[-1]) + 1
        if stop > len(self._stored):
            raise InputError(
                f"{self._path} holds {len(self._stored)} samples and sample {stop} is needed: "
                "add samples, or use a suite that asks for fewer"
            )
        return self._stored.read(start, stop)
