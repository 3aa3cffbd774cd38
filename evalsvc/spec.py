"""The frozen description of one evaluation: everything that can change a number, and nothing else that counts."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from evalsvc.digests import digest_json
from evalsvc.language.decoding import OPTIONS, Decoding
from evalsvc.suites import Half, Suite

PIPELINE_VERSION = 1
"""Rises when the same spec may give other numbers because this code changed."""

ShardKind = Literal["samples", "likelihood-train", "likelihood-heldout"]


class Shard(BaseModel):
    """A contiguous range of samples, or of reference items whose likelihood is asked for."""

    model_config = ConfigDict(frozen=True)

    kind: ShardKind
    start: int
    stop: int

    @property
    def half(self) -> Half:
        """The half of the reference that a likelihood shard is over."""
        return "train" if self.kind == likelihood_kind("train") else "heldout"

    @property
    def stage(self) -> str:
        """``samples`` or ``likelihood``: what a progress bar shows."""
        return self.kind.partition("-")[0]


class EvaluationSpec(BaseModel):
    """One checkpoint under one suite with one seed. Plain data: it travels through queues as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    step: int
    path: str
    checkpoint: str
    generator: str
    generator_version: str
    options: dict[str, Any]
    suite: Suite
    seed: int
    reference: dict[Half, str]
    reference_counts: dict[Half, int]
    extractors: dict[str, str]
    likelihood: bool
    family: str = ""
    decoding: Decoding | None = None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over all that can change a score; names and places are left out."""
        left_out = {"model", "step", "path", "suite", "family"} | (set() if self.decoding else {"decoding"})
        facts = self.model_dump(exclude=left_out)
        versions = {use.metric: use.spec.version for use in self.suite.metrics}
        return digest_json([PIPELINE_VERSION, facts, self.suite.digest, versions])

    @cached_property
    def samples_key(self) -> str:
        """Names the sample shards: what they hold depends on these facts, not on metrics or on how many are drawn."""
        facts = [*self._model_facts, self.extractors, self.suite.gallery]
        if self.decoding:
            facts.append(self.decoding.model_dump())
        return f"samples/{digest_json([PIPELINE_VERSION, facts])[:32]}"

    def likelihood_key(self, half: Half) -> str:
        """Names the likelihood shards over one half of the reference."""
        facts = [*self._model_facts, self.reference[half]]
        return f"likelihood/{digest_json([PIPELINE_VERSION, facts])[:32]}"

    def shard_key(self, shard: Shard) -> str:
        """Where a shard's arrays are kept."""
        folder = self.samples_key if shard.kind == "samples" else self.likelihood_key(shard.half)
        return f"{folder}/{shard.start}-{shard.stop}.safetensors"

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """All shards of the evaluation, in order."""
        return self.shards_of("samples") + tuple(
            shard for half in self.likelihood_halves for shard in self.shards_of(likelihood_kind(half))
        )

    def shards_of(self, kind: ShardKind) -> tuple[Shard, ...]:
        """Shards of one kind, in order."""
        totals: dict[ShardKind, int] = {"samples": self.suite.samples}
        totals |= {likelihood_kind(half): self.reference_counts[half] for half in self.likelihood_halves}
        size, total = self.suite.shard, totals[kind]
        return tuple(Shard(kind=kind, start=i, stop=min(i + size, total)) for i in range(0, total, size))

    @property
    def work(self) -> dict[str, int]:
        """Samples, or items of the reference, that each stage has to do."""
        totals: dict[str, int] = {}
        for shard in self.shards:
            totals[shard.stage] = totals.get(shard.stage, 0) + shard.stop - shard.start
        return totals

    @cached_property
    def likelihood_halves(self) -> tuple[Half, ...]:
        """Halves of the reference whose likelihood a metric reads, where the generator can give it."""
        if not self.likelihood:
            return ()
        uses = [use for use in self.suite.metrics if "nll" in use.spec.inputs and not use.features]
        return tuple(sorted({use.against for use in uses}))

    @property
    def _model_facts(self) -> list[Any]:
        return [self.checkpoint, self.generator, self.generator_version, self.model_options, self.seed]

    @property
    def model_options(self) -> dict[str, Any]:
        """Options of the generator without those that say how texts are written."""
        return {k: v for k, v in self.options.items() if not (self.decoding and k in OPTIONS)}


def likelihood_kind(half: Half) -> ShardKind:
    """The kind of shard that holds likelihoods of a half."""
    return "likelihood-train" if half == "train" else "likelihood-heldout"
