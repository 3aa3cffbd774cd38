"""Samples that someone already made: the checkpoint is the folder, zip, array file or JSONL itself."""

from __future__ import annotations

import torch

from evalsvc.checkpoints import Checkpoint
from evalsvc.errors import InputError
from evalsvc.plugins import GeneratorInfo
from evalsvc.sample_sets import open_samples
from evalsvc.samples import Images, SampleRequest, Samples


class StoredSamples:
    """Sample i is the i-th stored sample, whatever the seed."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self._stored = open_samples(checkpoint.path)
        self._path = checkpoint.path
        first = self._stored.read(0, 1)
        shape = tuple(first.pixels.shape[1:]) if isinstance(first, Images) else ()
        self.info = GeneratorInfo("samples", self._stored.modality, shape)

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
