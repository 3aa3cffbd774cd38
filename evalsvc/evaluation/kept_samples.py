"""Samples that are kept for scorers and for people, within a budget of bytes; beyond it, digests identify them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, UInt8

from evalsvc.core.errors import DamagedError
from evalsvc.core.files.verification import report
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.items import Column, Drawn, Usage
from evalsvc.plugins.samples import Audio, Images, MixedImages, Samples, Texts, Videos, concatenate, rows
from evalsvc.store.artifacts import Artifacts

Arrays = dict[str, np.ndarray]
DIGEST_BYTES = 16
IMAGE, WAVE = "image", "wave"


def digests_of(samples: Samples) -> UInt8[np.ndarray, "n 16"]:
    """The first 16 bytes of the sha256 of each sample's shape and content."""
    found = [hashlib.sha256(_content(each)).digest()[:DIGEST_BYTES] for each in _single(samples)]
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST_BYTES)


@dataclass(frozen=True)
class Identity:
    """Digests of the samples of a shard with their failures, and of their costs."""

    drawn: str
    used: str

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Identity:
        """The identity in the metadata of a shard or of a file of kept samples.

        Raises:
            KeyError: the file is of another version.
        """
        return cls(metadata["drawn"], metadata["used"])

    def for_scorer(self, reads: Collection[Column]) -> str:
        """The part of which a scorer's values depend."""
        return f"{self.drawn} {self.used}" if "usage" in reads else self.drawn


@dataclass
class DrawnRows:
    """The samples of one shard as they are drawn: digests, failures and costs of all, and as many as may be kept.

    ``room`` is the number of bytes for samples that are kept; ``None`` if nothing but failures is asked for.
    """

    room: int | None
    _digests: list[np.ndarray] = field(default_factory=list)
    _usage: list[np.ndarray] = field(default_factory=list)
    _kept: list[Samples] = field(default_factory=list)
    _full: bool = False
    _count: int = 0
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, drawn: Drawn) -> None:
        """Add the next batch, whose usage is known."""
        self.failures |= {self._count + row: why for row, why in drawn.failures.items()}
        self._count += len(drawn.samples)
        if self.room is None:
            return
        assert drawn.usage
        self._digests.append(digests_of(drawn.samples))
        self._usage.append(_columns(drawn.usage))
        if count := self._fitting(drawn.samples, self.room):
            self._kept.append(rows(drawn.samples, range(count)))

    @property
    def identity(self) -> Identity:
        """Identity of the samples."""
        failures = json.dumps(sorted(self.failures.items()))
        digests, usage = self.arrays["digests"], self.arrays["usage"]
        return Identity(_sha256(digests.tobytes() + failures.encode()), _sha256(usage.tobytes()))

    @property
    def arrays(self) -> Arrays:
        """Arrays of the sample shard."""
        return {"digests": np.concatenate(self._digests), "usage": np.concatenate(self._usage)}

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of the sample shard."""
        return {"drawn": self.identity.drawn, "used": self.identity.used, "failures": json.dumps(self.failures)}

    def file(self) -> tuple[Arrays, dict[str, str]]:
        """Arrays and metadata of the file of kept samples."""
        kept = concatenate(self._kept) if self._kept else None
        count = {"kept": str(len(kept) if kept is not None else 0)}
        return (encode(kept) if kept is not None else {}) | self.arrays, self.metadata | count

    def _fitting(self, samples: Samples, room: int) -> int:
        """How many of these samples still fit; after the first that does not, none does."""
        if self._full:
            return 0
        for place, each in enumerate(_single(samples)):
            if _size(each) > room:
                self._full = True
                return place
            self.room = room = room - _size(each)
        return len(samples)


@dataclass(frozen=True)
class Kept:
    """Kept samples of a shard: the first of them or all, with the digests, failures and costs of all."""

    samples: Samples | None
    digests: UInt8[np.ndarray, "n 16"]
    usage: Float64[np.ndarray, "n 3"]
    failures: Mapping[int, str]
    identity: Identity

    @property
    def whole(self) -> bool:
        """Whether all samples of the shard were kept."""
        return self.samples is not None and len(self.samples) == len(self.digests)

    def at(self, start: int, stop: int) -> Drawn:
        """Samples ``start`` to ``stop``, counted from the first of the shard."""
        assert self.samples is not None
        failures = {row - start: why for row, why in self.failures.items() if start <= row < stop}
        return Drawn(rows(self.samples, range(start, stop)), failures, usage_of(self.usage[start:stop]))


def kept_key(spec: EvaluationSpec, shard: Shard) -> str:
    """Key of a shard's kept samples."""
    return f"{spec.draws_key}/{shard.start}-{shard.stop}.safetensors"


def share_of(budget: int, spec: EvaluationSpec, shard: Shard) -> int:
    """The bytes of a shard in the budget of its evaluation; equal for every evaluation of as many samples."""
    return budget * (shard.stop - shard.start) // spec.suite.samples


def read_kept(artifacts: Artifacts, key: str) -> Kept | None:
    """The kept samples of a shard; ``None`` if there are none, or if they are damaged."""
    if not artifacts.exists(key):
        return None
    try:
        arrays, metadata = artifacts.read_arrays(key), artifacts.read_metadata(key)
        failures = {int(row): str(why) for row, why in json.loads(metadata["failures"]).items()}
        return Kept(decode(arrays), arrays["digests"], arrays["usage"], failures, Identity.of(metadata))
    except DamagedError as error:
        report(error)
    except (KeyError, ValueError, TypeError):  # of another version
        pass
    return None


def encode(samples: Samples) -> Arrays:
    """Samples of any modality as arrays of a file: an array each, so that one can be read alone; texts are one JSON."""
    if isinstance(samples, Texts):
        return {"texts": np.frombuffer(json.dumps(samples.items).encode(), np.uint8)}
    kind = WAVE if isinstance(samples, Audio) else IMAGE
    arrays = {f"{kind}/{place}": each.cpu().numpy() for place, each in enumerate(_tensors(samples))}
    return arrays | ({"rate": np.array([samples.rate])} if isinstance(samples, Audio) else {})


def decode(arrays: Mapping[str, np.ndarray]) -> Samples | None:
    """The samples of :func:`encode`; ``None`` if there are none."""
    if "texts" in arrays:
        return Texts(tuple(json.loads(arrays["texts"].tobytes())))
    if waves := _numbered(arrays, WAVE):
        return Audio(waves, int(arrays["rate"][0]))
    images = _numbered(arrays, IMAGE)
    if images and images[0].ndim == 4:
        return Videos(torch.stack(images))
    if len({each.shape for each in images}) == 1:
        return Images(torch.stack(images))
    return MixedImages(images) if images else None


def _numbered(arrays: Mapping[str, np.ndarray], kind: str) -> tuple[torch.Tensor, ...]:
    count = sum(name.startswith(f"{kind}/") for name in arrays)
    return tuple(torch.from_numpy(arrays[f"{kind}/{place}"].copy()) for place in range(count))


def usage_of(columns: Float64[np.ndarray, "n 3"]) -> Usage:
    """The costs of samples, from their stored columns."""
    return Usage(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns.T))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _single(samples: Samples) -> Sequence[str | torch.Tensor]:
    return samples.items if isinstance(samples, Texts) else _tensors(samples)


def _columns(usage: Usage) -> Float64[np.ndarray, "n 3"]:
    return np.stack([each.cpu().double().numpy() for each in (usage.seconds, usage.tokens, usage.price)], axis=1)


def _tensors(samples: Images | MixedImages | Videos | Audio) -> Sequence[torch.Tensor]:
    if isinstance(samples, Audio):
        return samples.waves
    return samples.items if isinstance(samples, MixedImages) else tuple(samples.pixels)


def _size(sample: str | torch.Tensor) -> int:
    return len(sample) if isinstance(sample, str) else sample.nbytes


def _content(sample: str | torch.Tensor) -> bytes:
    if isinstance(sample, str):
        return sample.encode("utf-8", "surrogatepass")
    return repr(tuple(sample.shape)).encode() + sample.cpu().contiguous().numpy().tobytes()
