"""Parts of suites: extractors, scorers, metrics, and their place in the overall index."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import evalsvc.metrics.functional  # noqa: F401  (declares the metrics)
from evalsvc.metrics.aggregates import failed_share
from evalsvc.metrics.inputs import Input, Source
from evalsvc.metrics.registry import METRICS, MetricSpec, Quantity
from evalsvc.metrics.score import Direction

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
Split = Literal["train", "heldout"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ExtractorUse(_Strict):
    """An extractor plug-in and its options."""

    use: str
    """Name of an extractor plug-in (`evalsvc plugins list`)."""
    options: dict[str, Any] = {}
    """Options of the extractor."""


class ScorerQuantity(_Strict):
    """Declaration of a quantity by a scorer plug-in, kept when the suite was read."""

    name: str
    """Name of the quantity."""
    direction: Direction
    """Which way is better."""
    unit: str
    """Its unit."""
    low: float | None = None
    """The least value, if there is one."""
    high: float | None = None
    """The largest value, if there is one."""
    title: str = ""
    """Name for people."""
    title_zh: str = ""
    """Name for people, in Chinese."""
    corpus: str = ""
    """Statistic of the whole corpus that it is also found as."""
    sums: tuple[str, ...] = ()
    """The scorer's quantities from whose sums that statistic is found."""

    @classmethod
    def of(cls, quantity: Quantity) -> ScorerQuantity:
        """The declaration of a plug-in; infinite bounds, which JSON lacks, are left out."""
        bounds = {name: bound for name in ("low", "high") if math.isfinite(bound := getattr(quantity, name))}
        named = ("name", "direction", "unit", "title", "title_zh", "corpus", "sums")
        same = {name: getattr(quantity, name) for name in named}
        return cls(**same, **bounds)

    @property
    def quantity(self) -> Quantity:
        """The same for metrics."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return Quantity(
            self.name,
            self.direction,
            self.unit,
            low,
            high,
            title=self.title,
            title_zh=self.title_zh,
            corpus=self.corpus,
            sums=self.sums,
        )


class ScorerUse(_Strict):
    """A scorer plug-in and its options."""

    use: str
    """Name of a scorer plug-in (`evalsvc plugins list`)."""
    options: dict[str, Any] = {}
    """Options of the scorer."""
    quantities: tuple[ScorerQuantity, ...] = ()
    """Quantities that it returns; filled in when the suite is read."""

    @property
    def reported(self) -> tuple[ScorerQuantity, ...]:
        """The quantities that are not just sums for the statistics of a corpus."""
        sums = {name for each in self.quantities for name in each.sums}
        return tuple(each for each in self.quantities if each.name not in sums)

    def failures(self, label: str) -> MetricUse:
        """The share of samples that have no value because they failed; every scorer has it."""
        return MetricUse(metric=failed_share.__name__, of=f"{label}/{self.quantities[0].name}", label=f"{label}_failed")


class Prompts(_Strict):
    """Prompts for a generator, prompt i for sample i: a file, and the digest of its content when it was read."""

    path: str
    """Path of the file, relative to the suite."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of its content; filled in when the suite is read."""


class MetricUse(_Strict):
    """One metric over one extractor's output, against one split of the reference."""

    metric: str
    """Name of a metric."""
    features: str = ""
    """`extractor/output`: an extractor of the suite and one of its outputs; empty for metrics without features."""
    of: str = ""
    """`scorer/quantity` of an aggregate over items; `scorer` alone if it returns one quantity."""
    by: str = ""
    """`label`, or a tag of the items, whose values slice the score."""
    against: Split = "train"
    """Split of the reference to compare with."""
    label: str = ""
    """Name of the score; `*` stands for the quantity's name. By default that name, with `_heldout` for that split."""
    options: dict[str, Any] = {}
    """Options of the metric."""

    @property
    def spec(self) -> MetricSpec:
        """The registered metric."""
        return METRICS[self.metric]

    @property
    def splits(self) -> set[Split]:
        """Splits of the reference that are required."""
        sources = {Source.REFERENCE, *([Source.LIKELIHOOD] if self.of_documents else ())}
        return {self.half_of(each) for each in self.spec.inputs.values() if each.source in sources}

    @property
    def of_documents(self) -> bool:
        """Whether the metric uses the generator's likelihoods of a split's documents, and no samples."""
        return self.spec.reads(Source.LIKELIHOOD) and not self.features

    def half_of(self, given: Input) -> Split:
        """The split to which an input belongs."""
        return given.split or self.against

    def target_of(self, quantity: Quantity) -> float | Literal["reference"] | None:
        """The right value of a quantity, if it has one: likelihoods of documents, unlike samples', have a direction."""
        return None if self.of_documents and quantity.target == "reference" else quantity.target

    @property
    def reference_facts(self) -> dict[str, Split]:
        """The splits whose digests are facts of a score, by the name of the fact; that of a control may be absent."""
        every = {**self.spec.inputs, **self.spec.controls}
        splits = {name: self.half_of(each) for name, each in every.items() if each.source is Source.REFERENCE}
        return splits | ({"reference": self.against} if self.of_documents else {})

    @property
    def arrays(self) -> set[str]:
        """Required outputs of extractors over the samples, as ``label/output``."""
        if not self.features:
            return set()
        if not self.spec.reads(Source.LIKELIHOOD):
            return {self.features}
        return {f"{self.features}/{name}" for name in self.spec.inputs}

    @property
    def has_control(self) -> bool:
        """Whether the metric compares with held-out samples, if there are any."""
        return bool(self.spec.controls)

    @property
    def tokenizer(self) -> str | None:
        """Name of the tokenizer; without one, a metric that tokenizes texts takes the one that fits them."""
        return self.options.get("tokenizer")

    def label_of(self, quantity: str) -> str:
        """Label under which this use stores a quantity: its name, with ``_heldout`` for the held-out split."""
        if self.label:
            return self.label.replace("*", quantity)
        return f"{quantity}_heldout" if self.against == "heldout" else quantity


class IndexPart(_Strict):
    """Weight of a score in the overall index, and the values that map to 0 and 100."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Weight of the score in the index."""
    worst: Annotated[float, Field(allow_inf_nan=False)]
    """Value that counts 0."""
    best: Annotated[float, Field(allow_inf_nan=False)]
    """Value that counts 100."""
