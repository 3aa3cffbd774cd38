"""Shards: contiguous ranges of an evaluation's work. Plain data, independent of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from evalsvc.inputs.suite_entries import Split

ShardKind = Literal["samples", "likelihood-train", "likelihood-heldout"]


class Shard(BaseModel):
    """A contiguous range of samples, or of reference items for likelihoods."""

    model_config = ConfigDict(frozen=True)

    kind: ShardKind
    start: int
    stop: int

    @property
    def split(self) -> Split:
        """The split of the reference of a likelihood shard."""
        return "train" if self.kind == likelihood_kind("train") else "heldout"

    @property
    def stage(self) -> str:
        """``samples`` or ``likelihood``, the name of the progress bar."""
        return stage_of(self.kind)


def cut(kind: ShardKind, total: int, size: int) -> tuple[Shard, ...]:
    """Ranges of ``size`` that cover ``total``; the last one may be smaller."""
    return tuple(Shard(kind=kind, start=i, stop=min(i + size, total)) for i in range(0, total, size))


def likelihood_kind(split: Split) -> ShardKind:
    """The kind of likelihood shards for a split."""
    return "likelihood-train" if split == "train" else "likelihood-heldout"


def stage_of(kind: str) -> str:
    """``samples`` or ``likelihood``."""
    return kind.partition("-")[0]
