"""Suites: versioned YAML that defines sampling, feature extraction and metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.files.bounded_yaml import load_yaml
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.items.schema import Items
from evalsvc.inputs.prompts import digest_prompts, read_prompts
from evalsvc.inputs.slice_labels import escaped, parts
from evalsvc.inputs.suite_checks import check_suite
from evalsvc.inputs.suite_entries import (
    ExtractorUse,
    IndexPart,
    MetricUse,
    Name,
    Prompts,
    ScorerQuantity,
    ScorerUse,
)
from evalsvc.inputs.torchmetrics_uses import with_torchmetrics
from evalsvc.metrics.registry import METRICS, Quantity
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.metric_adapter import register_metric
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.scorers import declared_quantities

SHIPPED = Path(__file__).parent / "suite_files"
GIVEN = "*"
"""Placeholder for the reference of a suite that does not fix one."""


class Suite(BaseModel):
    """Definition of an evaluation. A change of any field except ``index`` requires a new version."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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
        """The metrics of the suite, and after those of each scorer the share of samples that failed."""
        last = {use.of.partition("/")[0]: place for place, use in enumerate(self.metrics)}
        failures = [
            (last.get(label, len(self.metrics)), scorer.failures(label)) for label, scorer in self.scorers.items()
        ]
        ranked = sorted([*enumerate(self.metrics), *failures], key=lambda each: each[0])  # a stable order
        return tuple(use for _, use in ranked)

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
        reported = [each.name for each in self.scorers[label].reported]
        if not name and len(reported) == 1:
            return quantities[reported[0]]
        if name not in quantities:
            known = ", ".join(f"{label}/{each}" for each in reported)
            raise ValueError(f"'of: {of}' does not name a quantity of the scorer: use one of {known}")
        return quantities[name]

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        check_suite(self)
        return self


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
    _register_plugin_metrics(data := with_torchmetrics(data, what, plugins), plugins)
    data = _with_quantities(_with_items(data, what, None), what, plugins)
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
    data = _with_items(data, f"suite {path}", path.parent)
    for use in _scorers(data).values():
        use.pop("quantities", None)  # the declaration of the plug-in counts
    return parse_suite(data, f"suite {path}", plugins)


def _with_items(data: dict[str, Any], what: str, folder: Path | None) -> dict[str, Any]:
    """The keys of a suite with the number and digests of its items, of classes or read from a file in ``folder``."""
    if not isinstance(said := data.get("items"), dict) or (folder is None and not said.get("labels")):
        return data
    from evalsvc.inputs.items.reading import complete  # with readers of media, which other suites can spare

    try:
        items = complete(Items.model_validate(said).found_in(folder or Path()))
    except ValidationError as error:
        raise _invalid(error, what, "items") from None
    return {"samples": items.count * items.draws, **data, "items": items.model_dump()}


def _scorers(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    uses = data.get("scorers")
    return {label: use for label, use in uses.items() if isinstance(use, dict)} if isinstance(uses, dict) else {}


def _with_quantities(data: dict[str, Any], what: str, plugins: Plugins | None) -> dict[str, Any]:
    """The same with the quantities of each scorer, as its plug-in declares them; those that are there are kept."""
    if not (due := {label: use for label, use in _scorers(data).items() if not use.get("quantities")}):
        return data
    plugins, declared = plugins or Plugins(), {}
    for label, use in due.items():
        try:
            plugin = plugins.get(PluginKind.SCORER, str(use.get("use", "")))
            quantities = declared_quantities(plugin, use.get("options") or {})
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
