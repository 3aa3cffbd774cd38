"""Sample requests and batches of samples, by modality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from jaxtyping import Float, Int64, UInt8

from evalsvc.core.errors import ModelError
from evalsvc.metrics.devices import staged, staged_together
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins import rng
from evalsvc.plugins.deferred_checks import refuse
from evalsvc.plugins.items import Prompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SampleRequest:
    """Request for samples: one for each seed, with its conditions if the suite has prompts or items.

    Sample i must depend only on ``seeds[i]`` and its conditions (prompt, label, source), not on its neighbors in the
    batch. Drawing all random numbers through :meth:`normal` and :meth:`uniform` guarantees this. ``indices`` are the
    positions of the samples in their source (stored samples, prompts or items), in any order and possibly with gaps.
    ``labels`` are on the device, ``item_ids`` name the items, and ``draws`` number the samples of one item from 0.
    """

    seeds: Int64[Tensor, " n"]
    indices: Int64[Tensor, " n"]
    device: torch.device
    prompts: tuple[Prompt, ...] = ()
    labels: Int64[Tensor, " n"] | None = None
    sources: Samples | None = None
    item_ids: tuple[str, ...] = ()
    draws: Int64[Tensor, " n"] | None = None

    @classmethod
    def of(
        cls, seed: int, start: int, stop: int, device: torch.device | str = "cpu", prompts: Sequence[str] = ()
    ) -> SampleRequest:
        """Request samples ``start`` to ``stop`` of the run with this seed; ``prompts`` are those of all samples."""
        return cls.at(seed, torch.arange(start, stop), device, prompts)

    @classmethod
    def at(
        cls, seed: int, indices: Int64[Tensor, " n"], device: torch.device | str = "cpu", prompts: Sequence[str] = ()
    ) -> SampleRequest:
        """Request the samples at these indices of the run with this seed; ``prompts`` are those of all samples."""
        device = torch.device(device)
        chosen = tuple(prompts[i] for i in indices.tolist()) if prompts else ()
        return cls(staged(rng.seeds_at(seed, indices), device), staged(indices, device), device, chosen)

    def __len__(self) -> int:
        return len(self.seeds)

    def take(self, chosen: Sequence[int]) -> SampleRequest:
        """The chosen rows, in this order; rows may repeat."""
        places = list(chosen)
        return SampleRequest(
            seeds=self.seeds[places],
            indices=self.indices[places],
            device=self.device,
            prompts=tuple(self.prompts[i] for i in places) if self.prompts else (),
            labels=None if self.labels is None else self.labels[places],
            sources=None if self.sources is None else rows(self.sources, places),
            item_ids=tuple(self.item_ids[i] for i in places) if self.item_ids else (),
            draws=None if self.draws is None else self.draws[places],
        )

    def with_float64(self) -> SampleRequest:
        """The request on its device, or on the CPU in place of a device of a kind that lacks float64."""
        device = rng.with_float64(self.device)
        seeds, indices = self.seeds.to(device), self.indices.to(device)
        labels, draws = (None if each is None else each.to(device) for each in (self.labels, self.draws))
        return replace(self, device=device, seeds=seeds, indices=indices, labels=labels, draws=draws)

    def normal(self, *shape: int, stream: int = 0) -> Float[Tensor, "n ..."]:
        """Standard normals (n, *shape), float32 on the device; each ``stream`` is independent of the others."""
        return rng.normal(self.seeds, *shape, stream=stream)

    def normals(self, *shape: int, streams: range) -> Float[Tensor, "s n ..."]:
        """The normals of several streams, as for all steps of a sampler: in fewer operators than stream by stream."""
        return rng.normals(self.seeds, *shape, streams=streams)

    def uniform(self, *shape: int, stream: int = 0) -> Float[Tensor, "n ..."]:
        """Uniforms in (0, 1) of shape (n, *shape), float32 on the device."""
        return rng.uniform(self.seeds, *shape, stream=stream)


@dataclass(frozen=True)
class Images:
    """Batch of images of one size: uint8, one (gray) or three (RGB) channels."""

    pixels: UInt8[Tensor, "n c h w"]

    @classmethod
    def from_signed(cls, x: Float[Tensor, "n c h w"]) -> Images:
        """From floats in [-1, 1]; values outside are clipped, NaN raises."""
        return cls(_finite(x).mul(127.5).add(128).clamp(0, 255).to(torch.uint8))

    @classmethod
    def from_unit(cls, x: Float[Tensor, "n c h w"]) -> Images:
        """From floats in [0, 1]; values outside are clipped, NaN raises."""
        return cls(_finite(x).mul(255).round().clamp(0, 255).to(torch.uint8))

    @property
    def items(self) -> tuple[UInt8[Tensor, "c h w"], ...]:
        """The images as separate tensors."""
        return tuple(self.pixels)

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class MixedImages:
    """Batch of images of several sizes: uint8, each with one (gray) or three (RGB) channels."""

    items: tuple[UInt8[Tensor, "c h w"], ...]

    def __len__(self) -> int:
        return len(self.items)

    def by_size(self) -> Iterator[tuple[Int64[Tensor, " k"], Images]]:
        """The images grouped by size, with their positions in the batch."""
        shapes = [item.shape for item in self.items]
        for shape in dict.fromkeys(shapes):
            where = [i for i, other in enumerate(shapes) if other == shape]
            yield torch.tensor(where), Images(torch.stack([self.items[i] for i in where]).contiguous())


@dataclass(frozen=True)
class Texts:
    """Batch of documents."""

    items: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Audio:
    """Batch of mono audio clips of any lengths: float32 in [-1, 1], ``rate`` samples per second."""

    waves: tuple[Float[Tensor, " t"], ...]
    rate: int

    def __len__(self) -> int:
        return len(self.waves)


@dataclass(frozen=True)
class Videos:
    """Batch of video clips of one size and length: uint8, one (gray) or three (RGB) channels."""

    pixels: UInt8[Tensor, "n t c h w"]

    def __len__(self) -> int:
        return len(self.pixels)


Samples: TypeAlias = Images | MixedImages | Texts | Audio | Videos


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Concatenate batches of one modality, in order; at least one batch. Images of one size are stacked."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Images | MixedImages):
        items = tuple(item for part in parts if isinstance(part, Images | MixedImages) for item in part.items)
        alike = len({item.shape for item in items}) == 1
        return Images(torch.stack(items).contiguous()) if alike else MixedImages(items)
    if isinstance(first, Videos):
        return Videos(torch.cat([part.pixels for part in parts if isinstance(part, Videos)]))
    if isinstance(first, Audio):
        return Audio(tuple(wave for part in parts if isinstance(part, Audio) for wave in part.waves), first.rate)
    return Texts(tuple(text for part in parts if isinstance(part, Texts) for text in part.items))


def on_host(samples: Samples) -> Samples:
    """The samples on the host; those of a device come in one copy."""
    host = torch.device("cpu")
    if isinstance(samples, Images | Videos):
        return type(samples)(samples.pixels.cpu())
    if isinstance(samples, Audio):
        return Audio(tuple(staged_together(samples.waves, host)), samples.rate)
    return MixedImages(tuple(staged_together(samples.items, host))) if isinstance(samples, MixedImages) else samples


def rows(samples: Samples, chosen: Sequence[int]) -> Samples:
    """The chosen samples, in the given order."""
    if isinstance(samples, Images | Videos):
        return type(samples)(samples.pixels[list(chosen)])
    if isinstance(samples, Audio):
        return Audio(tuple(samples.waves[i] for i in chosen), samples.rate)
    if isinstance(samples, Texts):
        return Texts(tuple(samples.items[i] for i in chosen))
    return MixedImages(tuple(samples.items[i] for i in chosen))


def _finite(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise ModelError(f"the generator returned images of dtype {x.dtype}: return floats or uint8")
    n, bad = len(x), ~torch.isfinite(x)
    count = (bad.flatten(1).any(1) if x.ndim > 1 else bad).sum()
    refuse(count, lambda count: f"the generator returned {count} of {n} samples with NaN or infinite values")
    return x.float()
