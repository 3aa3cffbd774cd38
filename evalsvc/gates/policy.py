"""The schema of a gate policy, ``evalsvc-gate.yaml``. Directions are not part of it: the metric registry
defines them.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.files.bounded_yaml import load_yaml
from evalsvc.core.files.yaml12 import PolicyLoader
from evalsvc.metrics.score import Reference

Tier = Literal["critical", "supporting", "advisory"]
LimitKind = Literal["max", "min", "max_worsening", "max_worsening_rel", "max_distance_from_reference"]
# Strict: 'true' must not become 1.0, nor '"40"' a number.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Margin = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Whole = Annotated[int, Field(strict=True, ge=1)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Words = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]


def _iso_date(value: Any) -> Any:
    """Parse an ISO calendar date; reject ``20301231``, ``01/15/2027`` and values with a time of day."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("write dates as YYYY-MM-DD, such as 2027-01-15")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


class CheckpointName(_Strict):
    """A checkpoint by model and step; if several match, ``digest`` (its first 8 or more digits) and ``options`` (some
    of its configuration's options) disambiguate.
    """

    model: Text
    """Model."""
    step: Annotated[int, Field(strict=True, ge=0, lt=2**63)]
    """Step."""
    digest: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None = None
    """At least 8 digits of the digest, if the label has several contents."""
    options: Annotated[dict[str, JsonValue], Field(min_length=1)] | None = None
    """Options that choose a configuration, if the checkpoint was scored in several."""

    @property
    def name(self) -> str:
        """``model@step``, followed by the digest if one is given."""
        return f"{self.model}@{self.step}" + (f"#{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        options = ", ".join(f"{key}={json.dumps(value)}" for key, value in (self.options or {}).items())
        return self.name + (f" with {options}" if options else "")

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Policies written before these keys existed keep their digests.
        return {key: value for key, value in dump(self).items() if value is not None}


class AliasName(_Strict):
    """The checkpoint that an alias points to."""

    alias: Text
    """Name of the alias."""

    def __str__(self) -> str:
        return f"alias {self.alias}"


class MedianOf(_Strict):
    """The median, metric by metric, of the model's last checkpoints before the candidate."""

    median_of: Annotated[int, Field(strict=True, ge=1, le=99, alias="median-of")]
    """Number of the model's last scored checkpoints before the candidate."""

    def __str__(self) -> str:
        return f"median of {self.median_of}"


Baseline = AliasName | CheckpointName | MedianOf | Literal["last-passing"]


class OnInconclusive(_Strict):
    """Spend up to ``more_samples`` times the suite's samples before an undecided limit is treated as ``then`` says."""

    more_samples: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """Largest multiple of the suite's samples that a gate may draw while in doubt."""
    then: Literal["fail", "warn"] = "fail"
    """Whether an inconclusive gate then fails, or passes with a warning."""


class Defaults(_Strict):
    """Defaults of all limits. ``confidence`` is two-sided, fewer than ``min_samples`` samples never pass, and ``holm``
    corrects for the number of limits.
    """

    confidence: Annotated[float, Field(strict=True, gt=0.5, lt=1)] = 0.95
    """Two-sided confidence of every decision."""
    min_samples: Whole = 1000
    """Fewest samples with which a candidate can pass."""
    correction: Literal["holm", "none"] = "holm"
    """Correction of failing for the number of limits."""


class MetricPolicy(_Strict):
    """Limits of one score. ``max_worsening_rel: 0.05`` allows 5 % of the baseline's value."""

    max: Number | None = None
    """Largest value."""
    min: Number | None = None
    """Smallest value."""
    max_worsening: Margin | None = None
    """Largest worsening against the baseline, in the score's unit."""
    max_worsening_rel: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = None
    """Largest worsening as a share of the baseline's value."""
    max_distance_from_reference: Margin | None = None
    """Largest distance from the right value: that of as many real samples, or a constant such as 0 of C_T."""
    tier: Tier = "critical"
    """`critical` must surely hold, `supporting` must not surely fail, `advisory` is only reported."""

    @property
    def limits(self) -> dict[LimitKind, float]:
        """The limits that are set, in order."""
        named: dict[LimitKind, float | None] = {
            "max": self.max,
            "min": self.min,
            "max_worsening": self.max_worsening,
            "max_worsening_rel": self.max_worsening_rel,
            "max_distance_from_reference": self.max_distance_from_reference,
        }
        return {kind: value for kind, value in named.items() if value is not None}

    @model_serializer(mode="wrap")
    def _without_later_limits(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Policies written before this limit existed keep their digests.
        return {
            key: value for key, value in dump(self).items() if (key, value) != ("max_distance_from_reference", None)
        }


class Waiver(_Strict):
    """An exemption for a metric that does not meet its limits, granted by a named person until the end of
    a day (UTC).
    """

    metric: Text
    """Label of the score."""
    reason: Words
    """Reason."""
    by: Words
    """Person who answers for it."""
    expires: Annotated[date, BeforeValidator(_iso_date)]
    """Last day (UTC) of the waiver."""


class AnotherSuite(_Strict):
    """Limits under a further suite."""

    suite: Text
    """Suite."""
    metrics: Annotated[dict[Text, MetricPolicy], Field(min_length=1)]
    """Limits by label of the score."""


class PartOf(_Strict):
    """Identifies one part of a policy of several suites: the digest of the policy, the number of suites, the index of
    this suite, and the number of limits that are tested together.
    """

    digest: str
    """Digest of the whole policy."""
    suites: int
    """Number of its suites."""
    place: int
    """Place of this suite."""
    limits: int
    """Number of limits that can fail the whole."""


LATER_KEYS = ("allow_same", "max_waiver_days", "also", "part_of", "prompts", "reference")
"""Keys added to the format later; at their default values they leave the digest unchanged."""


class Policy(_Strict):
    """The limits that a release must meet.

    ``allow_same`` permits a candidate to be compared with itself, which shows nothing. ``prompts`` selects the
    population that a decision generalizes to: prompts like those of the suite (``sampled``), or exactly these prompts
    (``fixed``), so that only the draws of each prompt vary. ``reference`` does so for the reference: data like it
    (``sampled``), so that its rows count as a sample too, or exactly this file. No waiver may end more than
    ``max_waiver_days`` after the day on which it is used. ``also`` sets limits under further suites: each is a gate of
    its own, and all share one verdict. ``part_of`` is set only in such a part.
    """

    version: Literal[1]
    """Version of this format."""
    suite: Text
    """Suite under which both sides are scored: its name, or a `.yaml` file beside the policy."""
    candidate: CheckpointName | None = None
    """Checkpoint to judge; `--candidate` overrides it."""
    baseline: Baseline | None = None
    """Baseline of comparisons: an alias, a checkpoint, `last-passing`, or a median."""
    allow_same: Annotated[bool, Field(strict=True)] = False
    """Whether a candidate may be compared with itself."""
    on_missing_baseline: Literal["fail", "absolute-only", "inconclusive"] = "fail"
    """Without a baseline: the gate is MISSING, only absolute limits decide, or it is inconclusive."""
    on_inconclusive: OnInconclusive = OnInconclusive()
    """How far a gate goes while in doubt."""
    defaults: Defaults = Defaults()
    """Confidence, fewest samples and correction of all limits."""
    metrics: Annotated[dict[Text, MetricPolicy], Field(min_length=1)]
    """Limits by label of the score."""
    waivers: tuple[Waiver, ...] = ()
    """Failures that do not block until a date."""
    max_waiver_days: Whole = 90
    """How many days ahead a waiver may end."""
    also: tuple[AnotherSuite, ...] = ()
    """Limits under further suites; all share one verdict."""
    part_of: PartOf | None = None
    """Only in a part of a policy of several suites, filled in by the gate."""
    prompts: Literal["sampled", "fixed"] = "sampled"
    """Whether the decision generalizes to other prompts (`sampled`), or is about these prompts (`fixed`)."""
    reference: Reference = "fixed"
    """Whether the decision generalizes to other references like it (`sampled`), or is about this file (`fixed`)."""

    @cached_property
    def digest(self) -> str:
        """sha256 of the policy's content."""
        body = self.model_dump(mode="json", by_alias=True)
        for key in LATER_KEYS:
            if getattr(self, key) == type(self).model_fields[key].default:
                del body[key]
        return digest_json(body)

    @cached_property
    def parts(self) -> tuple[Policy, ...]:
        """One policy per suite, in order; the policy itself if it has one suite."""
        if not self.also:
            return (self,)
        shared = {key: getattr(self, key) for key in type(self).model_fields if key not in ("also", "part_of")}
        found = []
        for place, (suite, metrics) in enumerate(self._suites):
            own = [each for each in self.waivers if each.metric in self._names(place)]
            waivers = [each.model_copy(update={"metric": self._names(place)[each.metric]}) for each in own]
            part_of = PartOf(digest=self.digest, suites=len(self._suites), place=place, limits=self.family)
            found.append(
                Policy(**shared | {"suite": suite, "metrics": metrics, "waivers": waivers, "part_of": part_of})
            )
        return tuple(found)

    @property
    def family(self) -> int:
        """Number of limits that are tested together, over all suites."""
        if self.part_of:
            return self.part_of.limits
        limited = [metric for _, metrics in self._suites for metric in metrics.values() if metric.tier != "advisory"]
        return sum(len(metric.limits) for metric in limited)

    @property
    def compares(self) -> bool:
        """Whether any limit needs a baseline."""
        every = [metric for _, metrics in self._suites for metric in metrics.values()]
        return any(kind.startswith("max_worsening") for metric in every for kind in metric.limits)

    @property
    def _suites(self) -> list[tuple[str, dict[str, MetricPolicy]]]:
        return [(self.suite, self.metrics), *((each.suite, each.metrics) for each in self.also)]

    def _names(self, place: int) -> dict[str, str]:
        """Names of a suite's scores within the whole policy, mapped to their own names."""
        suite, metrics = self._suites[place]
        return {name_in(suite, name, place): name for name in metrics}

    def valid_waivers(self, today: date) -> list[Waiver]:
        """Waivers that have not expired and end within the allowed time."""
        return [waiver for waiver in self.waivers if today <= waiver.expires and not self._too_long(waiver, today)]

    def check_waivers(self, today: date) -> None:
        """Reject waivers that end later than the policy allows.

        Raises:
            InputError: a waiver ends too late; the message names the metric and the date.
        """
        for waiver in self.waivers:
            if self._too_long(waiver, today):
                raise InputError(
                    f"the waiver for {waiver.metric} ends on {waiver.expires}, more than {self.max_waiver_days} days "
                    "from today: choose an earlier date, or raise max_waiver_days"
                )

    def _too_long(self, waiver: Waiver, today: date) -> bool:
        return (waiver.expires - today).days > self.max_waiver_days

    @model_validator(mode="after")
    def _decides_something(self) -> Policy:
        for suite, metrics in self._suites:
            if all(metric.tier != "critical" for metric in metrics.values()):
                under = f" under {suite}" if self.also else ""
                raise ValueError(f"no metric{under} is critical: remove 'tier' from at least one")
        if len({suite for suite, _ in self._suites}) < len(self._suites):
            raise ValueError("also: a suite is listed twice: put all its metrics under one entry")
        if self.also and self.baseline == "last-passing":
            raise ValueError("also: last-passing supports only one suite: use an alias or a checkpoint as the baseline")
        for name, metric in [item for _, metrics in self._suites for item in metrics.items()]:
            if not metric.limits and metric.tier != "advisory":
                raise ValueError(
                    f"metrics.{name} sets no limit: set min, max, max_worsening or max_distance_from_reference, or "
                    "'tier: advisory'"
                )
            if metric.min is not None and metric.max is not None and metric.min > metric.max:
                raise ValueError(f"metrics.{name}: min {metric.min} is greater than max {metric.max}")
        if self.compares and self.baseline is None:
            raise ValueError("max_worsening requires a baseline: set 'baseline'")
        for waiver in self.waivers:
            if all(waiver.metric not in self._names(place) for place in range(len(self._suites))):
                raise ValueError(
                    f"a waiver names {waiver.metric!r}, which the policy does not gate: remove it, or correct the name"
                )
        return self


def name_in(suite: str, metric: str, place: int) -> str:
    """Name of a score in a policy of several suites: unchanged for the first suite, ``SUITE/SCORE`` for the others."""
    return metric if place == 0 else f"{suite}/{metric}"


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        InputError: the file is unreadable or invalid; the message names the file, the key and the fault.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"policy {path} cannot be read ({reason})") from None
    return parse_policy(text, str(path))


def parse_policy(text: str, source: str = "policy") -> Policy:
    """Parse a policy from YAML; ``source`` names it in error messages."""
    try:
        data = load_yaml(text, PolicyLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: too large, or an impossible date such as 30 February
        raise InputError(f"policy {source} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"policy {source} is not a YAML mapping")
    if data.get("part_of") is not None:
        raise InputError(f"policy {source}: unknown key part_of")
    if isinstance(data.get("on_inconclusive"), str):
        data["on_inconclusive"] = {"then": data["on_inconclusive"]}
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise InputError(f"policy {source}: {_sentence(error)}") from None


def json_schema() -> dict[str, Any]:
    """JSON Schema of the policy, for editors."""
    schema = Policy.model_json_schema(by_alias=True)
    schema["properties"]["on_inconclusive"] = {
        "anyOf": [{"enum": ["fail", "warn"]}, {"$ref": "#/$defs/OnInconclusive"}],
        "default": schema["properties"]["on_inconclusive"].get("default", {}),
    }
    del schema["properties"]["part_of"], schema["$defs"]["PartOf"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "evalsvc gate policy"}


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["baseline"]:
        return "baseline must be one of {alias: NAME}, {model: NAME, step: N}, last-passing, {median-of: N}"
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}"
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "string_pattern_mismatch" and not str(first["input"]).strip():
        return f"{where} is blank"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}" if where else reason
