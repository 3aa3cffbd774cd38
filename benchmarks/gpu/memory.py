"""What does not fit: with the device's memory capped, results are those of a device that has enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.gpu import networks
from benchmarks.gpu.command import is_card
from benchmarks.gpu.evaluations import SUITE, near, scores
from benchmarks.gpu.lines import DiffersError, Lines, NotHereError
from benchmarks.gpu.plugins import FEATURES, error_of
from evalsvc.builtin.extractors.inception import InceptionV3
from evalsvc.plugins import validation
from evalsvc.plugins.samples import Images


def check(lines: Lines, device: torch.device, folder: Path) -> None:
    """Write the lines of this part."""
    (folder / "suite.yaml").write_text(SUITE)
    lines.check("memory", "Inception in smaller pieces", lambda: _pieces(device, folder))
    lines.check("memory", "an evaluation on a full device", lambda: _evaluation(device, folder))


@contextmanager
def capped(device: torch.device, spare: int) -> Iterator[None]:
    """Leave ``spare`` bytes to this process beside what it holds."""
    if not is_card(device):
        raise NotHereError("only CUDA's memory can be capped")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + spare) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _pieces(device: torch.device, folder: Path) -> str:
    random = torch.Generator().manual_seed(3)
    images = Images(torch.randint(0, 256, (128, 3, 64, 64), dtype=torch.uint8, generator=random))
    extractor = InceptionV3(networks.inception(folder), device=device)
    with capped(device, 2**28):
        found = validation.extract(extractor, images)["pool3"]
    expected = validation.extract(InceptionV3(networks.inception(folder), device=device), images)["pool3"]
    error = error_of(found, expected)
    if not error <= FEATURES:
        raise DiffersError(f"relative error {error:.1e} (allowed {FEATURES:.0e})")
    return f"relative error {error:.0e} with 256 MiB beside the weights"


def _evaluation(device: torch.device, folder: Path) -> str:
    suite = folder / "suite.yaml"
    with capped(device, 2**24):
        found = scores(device, folder / "full", suite)
    return near(scores(device, folder / "roomy", suite), found) + " with 16 MiB of the device"
