"""Specification of one evaluation: everything that can change its scores, frozen."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict

from evalsvc.core.digests import by_content, digest_configuration, digest_json
from evalsvc.evaluation.shards import Shard, ShardKind, cut, likelihood_kind
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.inputs.sample_order import SampleOrder
from evalsvc.inputs.suite_entries import Split
from evalsvc.inputs.suites import Suite

PIPELINE_VERSION = 1
"""Raise it if a change of this code may give other values for the same spec."""


class EvaluationSpec(BaseModel):
    """One checkpoint under one suite with one seed. Plain data, sent through queues as JSON."""

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
    reference: dict[Split, str]
    reference_counts: dict[Split, int]
    extractors: dict[str, str]
    scorers: dict[str, str] = {}
    draws: bool = True
    likelihood: bool
    family: str = ""
    decoding: Decoding | None = None
    weights: str = ""
    order: SampleOrder | None = None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over everything that can change a score or its error; names and paths are excluded."""
        left_out = {"model", "step", "path", "suite", "family", "weights"}
        left_out |= {name for name in ("decoding", "order") if getattr(self, name) is None}
        left_out |= set() if self.scorers else {"scorers"}
        left_out |= {"draws"} if self.draws else set()
        facts = self.model_dump(exclude=left_out) | {"options": by_content(self.options)}
        metrics = {use.metric: use.spec for use in self.suite.uses}
        versions = {name: metric.version for name, metric in metrics.items()}
        # Left out where it never rose, so that old fingerprints stay. Protocols have none: values stay comparable.
        of_errors = {name: metric.error_version for name, metric in metrics.items() if metric.error_version > 1}
        body = [PIPELINE_VERSION, facts, self.suite.digest, versions]
        return digest_json([*body, of_errors] if of_errors else body)

    @property
    def configuration(self) -> str:
        """Digest of the configuration that the checkpoint is scored with."""
        return digest_configuration(self.generator, self.generator_version, self.options)

    @cached_property
    def samples_key(self) -> str:
        """Key of the sample shards; it depends on these facts, not on metrics or on the number of samples."""
        facts = [*self._model_facts, self.extractors, self.suite.gallery, *self._request_facts]
        return f"samples/{digest_json([PIPELINE_VERSION, facts])[:32]}"

    @cached_property
    def draws_key(self) -> str:
        """Key of the samples that are kept; it depends neither on extractors nor on scorers."""
        return f"draws/{digest_json([PIPELINE_VERSION, self._model_facts, self._request_facts])[:32]}"

    def values_key(self, scorer: str) -> str:
        """Key of the values of a scorer, by its label; it depends on the samples, on the items and on the scorer."""
        facts = [self.draws_key, self.suite.items and self.suite.items.facts, self.scorers[scorer]]
        return f"values/{digest_json([PIPELINE_VERSION, facts])[:32]}"

    @property
    def keeps_samples(self) -> bool:
        """Whether samples are kept for scorers and for people."""
        return self.draws and bool(self.suite.scorers or self.suite.items)

    @property
    def _request_facts(self) -> list[Any]:
        """Facts on which requests for samples depend, besides the model."""
        suite = self.suite
        facts: list[Any] = [self.decoding.model_dump()] if self.decoding else []
        if suite.prompts:
            facts.append(suite.prompts.sha256)
        if items := suite.items:
            counts = self.reference["train"] if items.follows_reference else None
            facts.append({"items": items.conditions, "draws": items.draws, "seed": suite.seed, "counts": counts})
        if self.order:
            facts.append(self.order.model_dump())
        return facts if self.draws else [*facts, "no samples"]

    def indices(self, start: int, stop: int) -> Int64[np.ndarray, " n"]:
        """Positions in the source of samples ``start`` to ``stop``; their own numbers without an order."""
        return self.order.indices(start, stop) if self.order else np.arange(start, stop)

    @property
    def features_key(self) -> str:
        """Key of the matrices joined from the sample shards, one per output."""
        return f"{self.samples_key}/features-{self.suite.samples}"

    def likelihood_key(self, split: Split) -> str:
        """Key of the likelihood shards for one split of the reference."""
        facts = [*self._model_facts, self.reference[split]]
        return f"likelihood/{digest_json([PIPELINE_VERSION, facts])[:32]}"

    def shard_key(self, shard: Shard) -> str:
        """Key of a shard's arrays."""
        folder = self.samples_key if shard.kind == "samples" else self.likelihood_key(shard.split)
        return f"{folder}/{shard.start}-{shard.stop}.safetensors"

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """All shards of the evaluation, in order."""
        return tuple(shard for kind in self.work for shard in self.shards_of(kind))

    def shards_of(self, kind: ShardKind) -> tuple[Shard, ...]:
        """Shards of one kind, in order."""
        return cut(kind, self.work[kind], self.suite.shard)

    @property
    def work(self) -> dict[ShardKind, int]:
        """Number of samples, or items of the reference, for each kind of shard."""
        likelihoods = {likelihood_kind(split): self.reference_counts[split] for split in self.likelihood_splits}
        return {"samples": self.suite.samples, **likelihoods}

    @cached_property
    def likelihood_splits(self) -> tuple[Split, ...]:
        """Splits of the reference for which a metric reads likelihoods, if the generator provides them."""
        if not self.likelihood:
            return ()
        uses = [use for use in self.suite.metrics if use.of_documents]
        return tuple(sorted({use.against for use in uses}))

    @property
    def _model_facts(self) -> list[Any]:
        return [self.checkpoint, self.generator, self.generator_version, self.model_options, self.seed]

    @property
    def model_options(self) -> dict[str, Any]:
        """Options of the generator without decoding options, by content."""
        return {k: v for k, v in by_content(self.options).items() if not (self.decoding and k in OPTIONS)}
