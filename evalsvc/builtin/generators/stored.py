"""Stored samples: the checkpoint is a folder, zip, array file or JSONL of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from evalsvc.core.digests import walk
from evalsvc.core.errors import InputError
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.reading_options import OPTIONS, ReadingOptions
from evalsvc.inputs.sample_sets import open_samples, read_at
from evalsvc.inputs.text_files import TextList
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import GeneratorInfo, ReadsAhead
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.sample_files import HasFiles
from evalsvc.plugins.samples import SampleRequest, Samples


@versioned("0.1.0")
@open_to_clients("skip", "by", *OPTIONS)
class StoredSamples:
    """Sample i is stored sample number ``indices[i]``, for any seed. ``skip`` names files to exclude, and the fields of
    :class:`~evalsvc.inputs.reading_options.ReadingOptions` say how the others are read.

    With ``by="id"``, sample i is the one that is named after its item, ``ID`` or ``ID-DRAW``: by the name of its file,
    or by ``id`` and ``draw`` in a ``.jsonl``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        skip: Sequence[str] = (),
        by: Literal["position", "id"] = "position",
        **reading: Any,
    ) -> None:
        if by not in ("position", "id"):
            raise InputError(f"option by={by!r} of generator 'samples' is unknown: use 'position' or 'id'")
        self._stored = open_samples(checkpoint.path, skip, ReadingOptions.of(reading, "generator 'samples'"))
        self.finds_items = by == "id"
        names = getattr(self._stored, "names", ()) if self.finds_items else ()
        self._places = {name: i for i, name in enumerate(names)}
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
        if isinstance(self._stored, ReadsAhead) and not self.finds_items:
            self._stored.expect(indices)

    def find(self, item: str, draw: int) -> int:
        """Position of the sample that is named after this item and draw."""
        names = [f"{item}-{draw}", *([item] if draw == 0 else ())]
        if (place := next((self._places[name] for name in names if name in self._places), None)) is None:
            raise InputError(
                f"{self._path} contains no sample named {' or '.join(map(repr, names))}: add it, or omit by=id"
            )
        return place

    def sample(self, request: SampleRequest) -> Samples:
        """Stored samples at ``request.indices``, or of the request's items."""
        return read_at(self._stored, self._positions(request))

    @property
    def keeps_files(self) -> bool:
        """Whether the samples are encoded images, sounds or videos, instead of rows, lines or arrays."""
        return isinstance(self._stored, HasFiles)

    def files(self, request: SampleRequest) -> tuple[Callable[[], bytes], ...]:
        """Readers of the files of the same samples."""
        assert isinstance(self._stored, HasFiles)
        return tuple(partial(self._stored.file, position) for position in self._positions(request))

    def _positions(self, request: SampleRequest) -> list[int]:
        if self.finds_items:
            if request.draws is None:
                raise InputError("option by=id of generator 'samples' needs a suite with items: omit it")
            pairs = zip(request.item_ids, request.draws.tolist(), strict=True)
            return [self.find(item, draw) for item, draw in pairs]
        last = int(request.indices.max())
        if last >= len(self._stored):
            raise InputError(
                f"{self._path} contains {len(self._stored)} samples, but sample {last + 1} is needed{self.note}: "
                "add samples, or use a smaller suite"
            )
        indices: list[int] = request.indices.tolist()
        return indices
