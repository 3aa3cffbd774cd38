"""Suites: versioned YAML that defines sampling, feature extraction and metrics."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.errors import PydanticUserError

import evalsvc.metrics.functional  # noqa: F401  (declares the metrics)
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.files.bounded_yaml import load_yaml
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.items.schema import PROMPT, Items
from evalsvc.inputs.prompts import digest_prompts, read_prompts
from evalsvc.inputs.slice_labels import LONGEST as LONGEST_LABEL
from evalsvc.inputs.slice_labels import escaped, fits, parts
from evalsvc.metrics.aggregates import failed_share
from evalsvc.metrics.inputs import Form, Input, Source
from evalsvc.metrics.registry import ITEMS, METRICS, MetricSpec, Quantity
from evalsvc.metrics.score import Direction
from evalsvc.metrics.tokenizers import TOKENIZERS
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.metric_adapter import register_metric
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.scorers import declared_quantities

SHIPPED = Path(__file__).parent / "suite_files"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
Split = Literal["train", "heldout"]
LABEL = "label"
"""Value of ``by`` for the class label of items."""

GIVEN = "*"
"""Placeholder for the reference of a suite that does not fix one."""


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
    def arguments(self) -> dict[str, Any]:
        """The options as arguments of the metric's function, with the tokenizer by name."""
        if "tokenizer" not in self.spec.options:
            return self.options
        return {**self.options, "tokenizer": TOKENIZERS[self.tokenizer]}

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer, if the metric tokenizes texts."""
        name: str = self.options.get("tokenizer", "whitespace")
        return name

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


class Suite(_Strict):
    """Definition of an evaluation. A change of any field except ``index`` requires a new version."""

    name: Name
    """Name: lowercase letters, digits, `.`, `_` and `-`."""
    version: Annotated[int, Field(ge=1)]
    """Version; raise it when any key except `index` changes."""
    description: str = ""
    """Description in one sentence."""
    modality: Modality
    """Modality of the samples."""
    reference: str | None = None
    """Name of the real samples (`evalsvc reference list`); `*` leaves it to `--reference`."""
    samples: Annotated[int, Field(ge=1)]
    """Number of samples of each evaluation; by default all draws of all items."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 2026
    """Seed of all noise, and of the choice among stored samples."""
    shard: Annotated[int, Field(ge=1)] = 500
    """Samples that are computed and stored as one; about 30 s of work is a good size."""
    gallery: Annotated[int, Field(ge=0)] = 64
    """Number of samples kept for people to look at."""
    neighbours: str = ""
    """`extractor/output` in which nearest training samples are searched for the pages; empty for none."""
    prompts: Prompts | None = None
    """File with one prompt a line, or `.jsonl`, relative to the suite's file."""
    items: Items | None = None
    """Items that the samples are for: a file with prompts, labels, sources, targets, or class labels."""
    decoding: Decoding | None = None
    """Decoding options of language models."""
    extractors: dict[Name, ExtractorUse] = {}
    """Extractors by a name of your choice."""
    scorers: dict[Name, ScorerUse] = {}
    """Scorers of single samples, by a name of your choice."""
    metrics: Annotated[tuple[MetricUse, ...], Field(min_length=1)]
    """Metrics to compute."""
    index: dict[str, IndexPart] = {}
    """How scores are combined into one index, by label."""

    @property
    def id(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def on(self, reference: str) -> Suite:
        """This suite with a reference, if it has none: ``fid50k@1`` becomes ``fid50k-NAME@1``."""
        if self.reference == GIVEN and not reference:
            raise InputError(f"suite {self.id} has no reference: name one ('evalsvc reference list')")
        if self.reference != GIVEN and reference not in ("", self.reference):
            raise InputError(
                f"suite {self.id} has its own reference ({self.reference}), not {reference!r}: omit the reference"
            )
        if self.reference != GIVEN:
            return self
        try:
            return Suite.model_validate(
                self.model_dump() | {"name": f"{self.name}-{reference.lower()}", "reference": reference}
            )
        except ValidationError:
            raise InputError(
                f"reference {reference!r} cannot be part of a suite's name (a-z, digits, '.', '_' and '-'): add "
                "it under another name"
            ) from None

    @cached_property
    def digest(self) -> str:
        """sha256 of everything that can change a score; the index is excluded."""
        body = self.model_dump(exclude={"index", "items", "scorers"})
        # Suites from before these keys existed keep the digest that databases store.
        body = {key: value for key, value in body.items() if value is not None or key not in ("decoding", "prompts")}
        body["metrics"] = [
            {key: value for key, value in use.items() if value or key not in ("of", "by")} for use in body["metrics"]
        ]
        if self.prompts:
            body["prompts"] = self.prompts.sha256  # independent of the file's location
        if self.items:
            body["items"] = self.items.facts
        if self.scorers:
            body["scorers"] = {label: [use.use, use.options] for label, use in self.scorers.items()}
        return digest_json(body)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all scores that this suite can produce, in order, without those of slices."""
        return tuple(label for label, _, _ in self._measured)

    @cached_property
    def measured(self) -> dict[str, tuple[MetricUse, Quantity]]:
        """The metric and the quantity of each label, in order."""
        return {label: (use, quantity) for label, use, quantity in self._measured}

    def measures(self, label: str) -> tuple[MetricUse, Quantity] | None:
        """The metric and the quantity of a label, or of the score that it is a slice of; ``None`` without one."""
        cut = None if label in self.measured else parts(label)
        if cut is None:
            return self.measured.get(label)
        whole, by, _ = cut
        found = self.measured.get(whole)
        return found if found and found[0].by and by in ("", escaped(found[0].by)) else None

    @property
    def _measured(self) -> list[tuple[str, MetricUse, Quantity]]:
        return [(use.label_of(each.name), use, each) for use in self.uses for each in self.quantities_of(use)]

    @property
    def uses(self) -> tuple[MetricUse, ...]:
        """The metrics of the suite, and for each scorer the share of samples that failed."""
        return (*self.metrics, *(scorer.failures(label) for label, scorer in self.scorers.items()))

    def quantities_of(self, use: MetricUse) -> tuple[Quantity, ...]:
        """Quantities that a metric of the suite returns; for a metric with orders, that of the selected order."""
        if use.spec.derive is None:
            return use.spec.returned(use.options)
        return use.spec.derive(self.scored(use.of), {**use.spec.options, **use.options})

    def scored(self, of: str) -> Quantity:
        """The quantity of a scorer that ``scorer/quantity`` names; `scorer` alone if it returns one besides sums.

        Raises:
            ValueError: there is no such scorer or quantity.
        """
        label, _, name = of.partition("/")
        if label not in self.scorers:
            known = ", ".join(self.scorers) or "none"
            raise ValueError(f"'of: {of}' does not name a scorer of the suite: use one of 'scorers' ({known})")
        quantities = {each.name: each.quantity for each in self.scorers[label].quantities}
        sums = {part for each in quantities.values() for part in each.sums}
        shown = [each for each in quantities if each not in sums]
        if not name and len(shown) == 1:
            return quantities[shown[0]]
        if name not in quantities:
            known = ", ".join(f"{label}/{each}" for each in shown)
            raise ValueError(f"'of: {of}' does not name a quantity of the scorer: use one of {known}")
        return quantities[name]

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        for label, scorer in self.scorers.items():
            if not scorer.quantities:
                raise ValueError(f"scorer {label!r} declares no quantities: read the suite with its plug-ins")
        for use in self.metrics:
            self._check(use)
        twice = [label for label, count in Counter(self.labels).items() if count > 1]
        if twice:
            raise ValueError(f"two metrics have the label {twice[0]!r}: set 'label: other_*' on one of them")
        if long := [label for label in self.labels if len(label) > LONGEST_LABEL]:
            raise ValueError(f"the label {long[0][:20]}... has more than {LONGEST_LABEL} characters: shorten it")
        if self.neighbours:
            self._check_features("neighbours", self.neighbours)
        if self.items:
            self._check_items(self.items)
        if self.decoding and self.modality != "text":
            raise ValueError(f"'decoding' applies to texts, but the suite scores {self.modality} samples: remove it")
        for label, part in self.index.items():
            if label not in self.labels:
                raise ValueError(f"the index includes {label!r}, which the suite does not measure: remove it")
            if part.best == part.worst:
                raise ValueError(f"the index of {label} has equal values for best and worst: set different values")
        return self

    def _check_items(self, items: Items) -> None:
        if self.prompts:
            raise ValueError(
                "'prompts' and 'items' exclude each other: name the file in 'items', with 'prompt: COLUMN'"
            )
        if not (items.count and items.conditions and items.sha256):
            raise ValueError("the items have not been read: read the suite from its file")
        if items.follows_reference and self.reference is None:
            raise ValueError("labels 'as: reference' need a reference: name one in the suite")
        if self.samples > (every := items.count * items.draws) and not (items.repeat or items.labels):
            raise ValueError(
                f"{self.samples} samples are more than {items.count} items x {items.draws} draws = {every}: leave "
                f"'samples' out, set 'draws: {-(-self.samples // items.count)}', or 'repeat: true'"
            )

    def _check(self, use: MetricUse) -> None:
        if use.metric not in METRICS:
            raise ValueError(f"there is no metric {use.metric!r}; available are {', '.join(sorted(METRICS))}")
        unknown = set(use.options) - set(use.spec.choices)
        if unknown:
            allowed = ", ".join(use.spec.choices) or "none"
            raise ValueError(f"{use.metric} has no option {sorted(unknown)[0]!r}; it has {allowed}")
        for option, value in use.options.items():
            if option != "tokenizer":  # named here, passed to the function as an object
                _check_option(use, option, value)
        if use.tokenizer not in TOKENIZERS:
            raise ValueError(f"{use.metric} has no tokenizer {use.tokenizer!r}; available are {', '.join(TOKENIZERS)}")
        if (use.spec.derive is None) is bool(use.of):
            ways = "remove 'of'" if use.of else "add 'of: scorer/quantity'"
            raise ValueError(f"{use.metric} {'does not aggregate' if use.of else 'aggregates'} a scorer: {ways}")
        if use.of:
            self.scored(use.of)
        if use.by:
            self._check_slices(use)
        if self.items and ITEMS in use.spec.inputs and use.options.get("k", 1) > self.items.draws:
            raise ValueError(f"{use.metric} needs {use.options['k']} draws of each item: raise 'draws' of the items")
        missing = sorted(name for name, each in use.spec.inputs.items() if each.source is Source.CALLER)
        if missing:
            raise ValueError(f"{use.metric} needs {', '.join(missing)}, which evaluations do not provide")
        if use.spec.reads(Source.PROMPTS) and not (self.prompts or (self.items and self.items.prompt)):
            raise ValueError(f"{use.metric} needs prompts: add 'items:' with 'file: FILE' and 'prompt: COLUMN'")
        if use.spec.reads(Source.ITEMS) and not use.of and not self.items:
            raise ValueError(f"{use.metric} needs several draws of each item: add 'items:' with 'draws: N'")
        if use.splits and self.reference is None:
            raise ValueError(f"{use.metric} needs a reference: name one in the suite")
        if use.spec.reads(Source.SAMPLES, Form.MATRIX):
            self._check_features(use.metric, use.features)
        elif use.spec.reads(Source.LIKELIHOOD) and use.features:
            if use.features not in self.extractors:
                raise ValueError(f"{use.metric} needs nll, but 'extractors' has no {use.features!r}")
        elif use.features:
            raise ValueError(f"{use.metric} does not use features: remove 'features'")

    def _check_slices(self, use: MetricUse) -> None:
        items = self.items
        known = [*([LABEL] if items and (items.labels or items.label) else ()), *(items.tags if items else ())]
        if use.by not in known:
            raise ValueError(f"{use.metric}: no items have {use.by!r}: use one of {', '.join(known) or 'none'} as 'by'")
        if use.of_documents:
            raise ValueError(f"{use.metric} measures documents of the reference instead of items: remove 'by'")
        if long := [label for each in self.quantities_of(use) if not fits(label := use.label_of(each.name), use.by)]:
            raise ValueError(f"the label {long[0][:20]}... is too long to be sliced by {use.by[:20]!r}: shorten it")

    def _check_features(self, what: str, features: str) -> None:
        label, _, output = features.partition("/")
        if label not in self.extractors or not output:
            known = ", ".join(f"{name}/<output>" for name in self.extractors) or "no extractor"
            raise ValueError(f"{what} needs 'features: extractor/output' with an extractor of the suite ({known})")


def _check_option(use: MetricUse, option: str, value: Any) -> None:
    """Validate the value of an option before any samples are drawn."""
    try:
        kind: TypeAdapter[Any] = TypeAdapter(_type_of(use.spec.function, option))
    except (AttributeError, NameError, TypeError, PydanticUserError):  # types of a plug-in
        return
    try:
        kind.validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(f"{use.metric}: option {option}: {value!r}: {error.errors()[0]['msg']}") from None


def _type_of(function: Callable[..., Any], option: str) -> Any:
    """The type of one parameter; types of the others may need torch, which reading a suite does not import."""
    alone = SimpleNamespace(__annotations__={option: function.__annotations__.get(option, Any)})
    return get_type_hints(alone, inspect.unwrap(function).__globals__)[option]


def load_suite(name: str, plugins: Plugins | None = None) -> Suite:
    """Load a suite by ``name@version``, by name (the newest shipped version), or from a YAML file.

    Metrics of ``plugins`` are registered if the suite needs them.
    """
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name), plugins)
    if file := _shipped_file(name):
        return _read(file, plugins)
    raise InputError(
        f"there is no suite {name!r}: shipped are {', '.join(shipped_suites())}; pass a path that ends in "
        ".yaml for a file"
    )


def is_shipped(name: str) -> bool:
    """Whether a suite of this ``name@version``, or any version of this name, is in the package."""
    return _shipped_file(name) is not None


def shipped_suites() -> list[str]:
    """``name@version`` of every suite in the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def parse_suite(data: dict[str, Any], what: str, plugins: Plugins | None = None) -> Suite:
    """Build a suite from its keys and values; ``what`` names it in errors.

    Raises:
        InputError: a key is unknown or a value is invalid.
    """
    _register_plugin_metrics(data, plugins)
    items = data.get("items")
    if isinstance(items, dict) and items.get("labels") and not items.get("file"):
        data = _with_items(data, what, Path())
    data = _with_quantities(data, what, plugins)
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        raise _invalid(error, what) from None


def _invalid(error: ValidationError, what: str, *above: str) -> InputError:
    first = error.errors()[0]
    where = ".".join(map(str, (*above, *first["loc"]))) or "the suite"
    extra = first["type"] == "extra_forbidden"
    reason = "is not a key of suites" if extra else first["msg"].removeprefix("Value error, ")
    return InputError(f"{what}: {where}: {reason}")


def _shipped_file(name: str) -> Path | None:
    exact = SHIPPED / f"{name}.yaml"
    if not re.fullmatch(r"[a-z0-9._@-]+", name):
        return None
    if exact.is_file():
        return exact
    versions = [path for path in SHIPPED.glob(f"{name}@*.yaml") if path.stem.partition("@")[2].isdigit()]
    return max(versions, key=lambda path: int(path.stem.partition("@")[2]), default=None)


def _read(path: Path, plugins: Plugins | None) -> Suite:
    try:
        data = load_yaml(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"cannot read suite {path}: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"suite {path} is not a YAML mapping")
    if isinstance(data.get("prompts"), str):
        file = (path.parent / data["prompts"]).resolve()
        data["prompts"] = {"path": str(file), "sha256": digest_prompts(read_prompts(file))}
    if isinstance(data.get("items"), dict):
        data = _with_items(data, f"suite {path}", path.parent)
    for use in _scorers(data).values():
        use.pop("quantities", None)  # the declaration of the plug-in counts
    return parse_suite(data, f"suite {path}", plugins)


def _with_items(data: dict[str, Any], what: str, folder: Path) -> dict[str, Any]:
    """The keys of a suite with the number and the digests of its items, read from their file in ``folder``."""
    from evalsvc.inputs.items.reading import read_items  # with readers of media, which other suites can spare

    try:
        items = Items.model_validate(data["items"])
    except ValidationError as error:
        raise _invalid(error, what, "items") from None
    items = items.found_in(folder)
    read = read_items(items).items
    items = items.model_copy(
        update={"count": len(read), "conditions": read.conditions, "sha256": read.sha256}
        | ({"prompt": items.prompt or PROMPT} if read.prompts else {})
    )
    return {"samples": items.count * items.draws, **data, "items": items.model_dump()}


def _scorers(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    uses = data.get("scorers")
    return {label: use for label, use in uses.items() if isinstance(use, dict)} if isinstance(uses, dict) else {}


def _with_quantities(data: dict[str, Any], what: str, plugins: Plugins | None) -> dict[str, Any]:
    """The same with the quantities of each scorer, as its plug-in declares them; those that are there are kept."""
    due = {label: use for label, use in _scorers(data).items() if not use.get("quantities")}
    if not due:
        return data
    plugins, declared = plugins or Plugins(), {}
    for label, use in due.items():
        name, options = str(use.get("use", "")), use.get("options") or {}
        try:
            quantities = declared_quantities(plugins.get(PluginKind.SCORER, name), options)
        except InputError as error:
            raise InputError(f"{what}: scorers.{label}: {error}") from None
        declared[label] = {**use, "quantities": [ScorerQuantity.of(each) for each in quantities]}
    return {**data, "scorers": {**data["scorers"], **declared}}


def _register_plugin_metrics(data: dict[str, Any], plugins: Plugins | None) -> None:
    uses = data.get("metrics")
    named = {use.get("metric") for use in uses if isinstance(use, dict)} if isinstance(uses, list) else set()
    for plugin in plugins or ():
        if plugin.kind is PluginKind.METRIC and plugin.name in named - set(METRICS):
            register_metric(plugin)
