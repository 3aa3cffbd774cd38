"""Shards: the contiguous ranges into which an evaluation's work is cut. Plain data that needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from evalsvc.inputs.suites import Split

ShardKind = Literal["samples", "likelihood-train", "likelihood-heldout"]


class Shard(BaseModel):
    """A contiguous range of samples, or of reference items whose likelihood is asked for."""

    model_config = ConfigDict(frozen=True)

    kind: ShardKind
    start: int
    stop: int

    @property
    def split(self) -> Split:
        """The half of the reference that a likelihood shard is over."""
        return "train" if self.kind == likelihood_kind("train") else "heldout"

    @property
    def stage(self) -> str:
        """``samples`` or ``likelihood``: what a progress bar shows."""
        return stage_of(self.kind)


def cut(kind: ShardKind, total: int, size: int) -> tuple[Shard, ...]:
    """All of ``total`` in shards of ``size``, the last one as it comes."""
    return tuple(Shard(kind=kind, start=i, stop=min(i + size, total)) for i in range(0, total, size))


def likelihood_kind(split: Split) -> ShardKind:
    """The kind of shard that holds likelihoods of a half."""
    return "likelihood-train" if split == "train" else "likelihood-heldout"


def stage_of(kind: str) -> str:
    """``samples`` or ``likelihood``."""
    return kind.partition("-")[0]
