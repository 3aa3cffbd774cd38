"""Resources of evaluations, opened once and reused: database, files, plug-ins, a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from evalsvc.core.batching import Batches
from evalsvc.core.cards import Card
from evalsvc.core.cost import Meter
from evalsvc.core.errors import InputError, first_line
from evalsvc.core.forks import keep_garbage_in_forks
from evalsvc.core.settings import Settings
from evalsvc.inputs.content_watch import ContentWatch
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.references import OpenReference
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Extractor, Generator, Modality
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.scorers import Scorer, ScoresLikelihoods
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database

if TYPE_CHECKING:
    from evalsvc.evaluation.shard_process import ShardProcess

CLIPS = 16
"""Largest number of videos in a batch."""

Advance = Callable[[int], None]
Progress = Callable[[str, int], Advance]
"""Takes a stage's name and its total; returns the function to call after every step."""


def silent(_stage: str, _total: int) -> Advance:
    """Progress without output."""
    return lambda _done: None


class EvaluationContext:
    """Open resources, and caches of the objects that :mod:`evalsvc.evaluation.opening` has opened with them.

    Plug-ins are cached after their first use; only the last generator is cached, since it may fill the device.
    """

    def __init__(
        self,
        settings: Settings,
        plugins: Plugins,
        device: str | Card = "auto",
        batch_size: int = 250,
        progress: Progress = silent,
    ) -> None:
        keep_garbage_in_forks()
        self.database = Database(settings.database)
        self.artifacts = open_artifacts(settings)
        self.kept_bytes = int(settings.kept_samples)
        self.plugins = plugins
        self.card = Card(name=device, device=device) if isinstance(device, str) else device
        self.device = take_device(self.card)
        self.batches = Batches(batch_size)
        self._clip_batches = Batches(min(batch_size, CLIPS))
        self.progress = progress
        self.helpers: Sequence[ShardProcess] = ()
        """Processes on other devices that compute shards of the evaluations of this process."""
        self.content = ContentWatch()
        self.extractors: dict[str, Extractor] = {}
        """By the digest of a suite's entry."""
        self.scorers: dict[str, Scorer | ScoresLikelihoods] = {}
        """By the digest of a suite's entry."""
        self.references: dict[str, OpenReference] = {}
        """By name."""
        self.prompts: dict[str, tuple[str, ...]] = {}
        """By digest."""
        self.items: dict[str, ItemSet] = {}
        """By digest and order."""
        self.generator: tuple[str, Generator] | None = None
        """The last generator, with the digest of its inputs."""

    @property
    def device_name(self) -> str:
        """The device for people: a process that sees one card calls it ``cuda:0``, but its user does not."""
        return self.card.name if self.card.variables else str(self.device)

    def meter(self) -> Meter:
        """A new meter of this device."""
        return Meter(self.device, shared=self.card.processes > 1)

    def batches_of(self, modality: Modality) -> Batches:
        """Batches of samples of this modality: a video is as large as many images."""
        return self._clip_batches if modality == "video" else self.batches


def take_device(card: Card) -> torch.device:
    """Take the device of a card; ``auto`` is the first CUDA device, else Apple's GPU, else the CPU.

    Processes that were started together on the CPU share its threads.
    """
    name = card.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        tried = torch.empty(0, device=name)
        tried.cpu()  # 'meta' tensors cannot be read
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {card.name!r} cannot be used here ({first_line(error)}): pass another device, or 'auto'"
        ) from None
    if tried.device.type == "cpu" and card.processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // card.processes))
    return tried.device
