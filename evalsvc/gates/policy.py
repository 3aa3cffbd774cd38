"""The gate policy: what ``evalsvc-gate.yaml`` may say. Directions are not among it: the metric registry knows them."""

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

Tier = Literal["critical", "supporting", "advisory"]
LimitKind = Literal["max", "min", "max_worsening", "max_worsening_rel"]
# Strict: 'true' is no 1.0 and '"40"' no number.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Margin = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Whole = Annotated[int, Field(strict=True, ge=1)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Words = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]


def _iso_date(value: Any) -> Any:
    """A calendar date, which ``20301231``, ``01/15/2027`` and a time of day are not."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("write a date as in 2027-01-15")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class CheckpointName(_Strict):
    """A checkpoint by model and step; where these name several, ``digest`` (its first 8 digits or more) and ``options``
    (some of its configuration's) choose.
    """

    model: Text
    step: Annotated[int, Field(strict=True, ge=0, lt=2**63)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None = None
    options: Annotated[dict[str, JsonValue], Field(min_length=1)] | None = None

    @property
    def name(self) -> str:
        """``model@step``, with the digest where one is given."""
        return f"{self.model}@{self.step}" + (f"#{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        options = ", ".join(f"{key}={json.dumps(value)}" for key, value in (self.options or {}).items())
        return self.name + (f" with {options}" if options else "")

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Policies of before these keys keep their digests.
        return {key: value for key, value in dump(self).items() if value is not None}


class AliasName(_Strict):
    """The checkpoint that an alias points at."""

    alias: Text

    def __str__(self) -> str:
        return f"alias {self.alias}"


class MedianOf(_Strict):
    """The median, metric by metric, of the model's last checkpoints before the candidate."""

    median_of: Annotated[int, Field(strict=True, ge=1, le=99, alias="median-of")]

    def __str__(self) -> str:
        return f"median of {self.median_of}"


Baseline = AliasName | CheckpointName | MedianOf | Literal["last-passing"]


class OnInconclusive(_Strict):
    """Up to ``more_samples`` times the suite's samples are spent before an open question counts as ``then`` says."""

    more_samples: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    then: Literal["fail", "warn"] = "fail"


class Defaults(_Strict):
    """``confidence`` is two-sided; fewer than ``min_samples`` never pass; ``holm`` counts how much is tested."""

    confidence: Annotated[float, Field(strict=True, gt=0.5, lt=1)] = 0.95
    min_samples: Whole = 1000
    correction: Literal["holm", "none"] = "holm"


class MetricPolicy(_Strict):
    """Limits of one score. ``max_worsening_rel: 0.05`` allows 5 % of the baseline's value."""

    max: Number | None = None
    min: Number | None = None
    max_worsening: Margin | None = None
    max_worsening_rel: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = None
    tier: Tier = "critical"

    @property
    def limits(self) -> dict[LimitKind, float]:
        """The limits that are set, in order."""
        named: dict[LimitKind, float | None] = {
            "max": self.max,
            "min": self.min,
            "max_worsening": self.max_worsening,
            "max_worsening_rel": self.max_worsening_rel,
        }
        return {kind: value for kind, value in named.items() if value is not None}


class Waiver(_Strict):
    """Somebody's answer for a metric that does not hold its limits, until the end of a day (UTC)."""

    metric: Text
    reason: Words
    by: Words
    expires: Annotated[date, BeforeValidator(_iso_date)]


class AnotherSuite(_Strict):
    """Limits under a further suite."""

    suite: Text
    metrics: Annotated[dict[Text, MetricPolicy], Field(min_length=1)]


class PartOf(_Strict):
    """Of which policy of several suites this is the part of one: its digest, the number of its suites and the place of
    this one, and how many limits can fail it together.
    """

    digest: str
    suites: int
    place: int
    limits: int


LATER_KEYS = ("allow_same", "max_waiver_days", "also", "part_of", "prompts")
"""Keys that policies did not always have: at their defaults they leave the digest as it was."""


class Policy(_Strict):
    """What a release must hold. ``allow_same`` lets a candidate be compared with itself, which shows nothing.

    ``prompts`` says what a decision speaks of: other prompts like the suite's (``sampled``), or these very ones
    (``fixed``), so that only the draws of each prompt differ. No waiver may end later than ``max_waiver_days`` from the
    day on which it is used. ``also`` holds limits under further suites: each is a gate of its own, and all have one
    verdict. ``part_of`` stands in such a part alone.
    """

    version: Literal[1]
    suite: Text
    candidate: CheckpointName | None = None
    baseline: Baseline | None = None
    allow_same: Annotated[bool, Field(strict=True)] = False
    on_missing_baseline: Literal["fail", "absolute-only", "inconclusive"] = "fail"
    on_inconclusive: OnInconclusive = OnInconclusive()
    defaults: Defaults = Defaults()
    metrics: Annotated[dict[Text, MetricPolicy], Field(min_length=1)]
    waivers: tuple[Waiver, ...] = ()
    max_waiver_days: Whole = 90
    also: tuple[AnotherSuite, ...] = ()
    part_of: PartOf | None = None
    prompts: Literal["sampled", "fixed"] = "sampled"

    @cached_property
    def digest(self) -> str:
        """sha256 of all that the policy says."""
        body = self.model_dump(mode="json", by_alias=True)
        for key in LATER_KEYS:
            if getattr(self, key) == type(self).model_fields[key].default:
                del body[key]
        return digest_json(body)

    @cached_property
    def parts(self) -> tuple[Policy, ...]:
        """One policy a suite, in order; the policy itself where it holds one."""
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
        """How many limits can fail the gate together, under all suites."""
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
        """What the scores of a suite are called in the whole policy, with their own names."""
        suite, metrics = self._suites[place]
        return {name_in(suite, name, place): name for name in metrics}

    def valid_waivers(self, today: date) -> list[Waiver]:
        """Waivers that have not expired, and end soon enough."""
        return [waiver for waiver in self.waivers if today <= waiver.expires and not self._too_long(waiver, today)]

    def check_waivers(self, today: date) -> None:
        """Refuse waivers that end later than the policy allows.

        Raises:
            InputError: one that names the metric, its end and the way out.
        """
        for waiver in self.waivers:
            if self._too_long(waiver, today):
                raise InputError(
                    f"the waiver for {waiver.metric} ends on {waiver.expires}, more than {self.max_waiver_days} days "
                    "from today: choose an earlier end, or raise max_waiver_days"
                )

    def _too_long(self, waiver: Waiver, today: date) -> bool:
        return (waiver.expires - today).days > self.max_waiver_days

    @model_validator(mode="after")
    def _decides_something(self) -> Policy:
        for suite, metrics in self._suites:
            if all(metric.tier != "critical" for metric in metrics.values()):
                under = f" under {suite}" if self.also else ""
                raise ValueError(
                    f"no metric{under} is critical, so nothing would have to hold: leave 'tier' out of one"
                )
        if len({suite for suite, _ in self._suites}) < len(self._suites):
            raise ValueError("also: a suite is named twice: put all of its metrics under one")
        if self.also and self.baseline == "last-passing":
            raise ValueError("also: last-passing is the baseline of one suite: name an alias or a checkpoint")
        for name, metric in [item for _, metrics in self._suites for item in metrics.items()]:
            if not metric.limits and metric.tier != "advisory":
                raise ValueError(
                    f"metrics.{name} sets no limit: give it min, max or max_worsening, or 'tier: advisory'"
                )
            if metric.min is not None and metric.max is not None and metric.min > metric.max:
                raise ValueError(f"metrics.{name}: min {metric.min} lies above max {metric.max}")
        if self.compares and self.baseline is None:
            raise ValueError("a max_worsening needs something to compare with: name a 'baseline'")
        for waiver in self.waivers:
            if all(waiver.metric not in self._names(place) for place in range(len(self._suites))):
                raise ValueError(f"a waiver is for {waiver.metric!r}, which the policy does not gate")
        return self


def name_in(suite: str, metric: str, place: int) -> str:
    """What a score is called in a policy of several suites: the first suite's as it is, others after their suite."""
    return metric if place == 0 else f"{suite}/{metric}"


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        InputError: one sentence that names the file, the key and what is wrong with it.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"policy {path} cannot be read ({reason})") from None
    return parse_policy(text, str(path))


def parse_policy(text: str, source: str = "policy") -> Policy:
    """A policy from YAML; ``source`` names it in errors."""
    try:
        data = load_yaml(text, PolicyLoader)
    except (yaml.YAMLError, ValueError) as error:  # the latter: too large, or 30 February
        raise InputError(f"policy {source} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"policy {source} is no YAML mapping")
    if data.get("part_of") is not None:
        raise InputError(f"policy {source}: part_of is not a key that a policy knows")
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
        return "baseline is none of {alias: NAME}, {model: NAME, step: N}, last-passing, {median-of: N}"
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        return f"{where} is not a key that a policy knows"
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "string_pattern_mismatch" and not str(first["input"]).strip():
        return f"{where} is blank"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}" if where else reason
