"""Resolve the candidate, the baselines and the gated scores of a policy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError
from sqlalchemy.orm import Session

from evalsvc.core.errors import InputError
from evalsvc.gates.evidence import Absent
from evalsvc.gates.policy import AliasName, CheckpointName, MedianOf, MetricPolicy, Policy
from evalsvc.gates.strictness import at_least_as_strict
from evalsvc.inputs.slice_labels import is_worst, whole_of
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.store import names, queries
from evalsvc.store.tables import Alias, Checkpoint, Gate


@dataclass(frozen=True)
class Unscored(Absent):
    """A named candidate without stored scores."""

    model: str = ""
    step: int | None = None
    digest: str = ""


Wanted = str | int | Unscored
"""A candidate by name, by the id of its row, or the reason for its absence."""


@dataclass(frozen=True)
class Sides:
    """The candidate and its baselines; several baselines are represented by their median. ``titles`` maps row ids to
    names.
    """

    candidate: Checkpoint | Absent
    baselines: tuple[Checkpoint, ...] | Absent | None
    titles: Mapping[int, str] = field(default_factory=dict)

    def title(self, row: Checkpoint) -> str:
        """The unambiguous name of a side when the gate was decided."""
        return self.titles.get(row.id, f"{row.model.name}@{row.step}")


def quantities_of(suite: Suite) -> dict[str, Quantity]:
    """The quantity that each label of a suite measures."""
    return {label: quantity for label, (_, quantity) in suite.measured.items()}


def quantity_at(suite: Suite, label: str) -> Quantity:
    """The quantity that a gated label of a suite measures, which may be a slice."""
    found = suite.measures(label)
    assert found
    return found[1]


def unbiased_in_n(suite: Suite, labels: Iterable[str]) -> set[str]:
    """Those of the labels whose expectation does not depend on the number of samples.

    The worst slice is the worse the fewer samples there are.
    """
    found = {label: suite.measures(label) for label in labels}
    return {
        label
        for label, each in found.items()
        if each and each[0].spec.unbiased_in_n(each[1], each[0].options) and not is_worst(label)
    }


def over_documents(suite: Suite) -> set[str]:
    """Labels whose samples are the documents of the reference, the same for every checkpoint and seed."""
    return {label for label, (use, _) in suite.measured.items() if use.of_documents}


def has_right_value(suite: Suite, label: str) -> bool:
    """Whether a score has a right value: a constant, or that of real samples; slices have only constants."""
    use, quantity = suite.measures(label) or (None, None)
    target = use.target_of(quantity) if use and quantity else None
    return target is not None and (target != "reference" or (suite.reference is not None and label in suite.measured))


def labels_of(policy: Policy, suite: Suite) -> dict[str, str]:
    """Map every gated metric to a label of the suite, and check its limits.

    A name is a label; the suffix ``_score`` may be omitted, as in ``vendi`` for ``vendi_score``.

    Raises:
        InputError: the suite does not measure a name, or a limit is on the better side or outside the range of the
            score.
    """
    quantities = quantities_of(suite)
    found: dict[str, str] = {}
    for name, limits in policy.metrics.items():
        label = next((each for each in (name, f"{name}_score") if suite.measures(each)), None)
        if label is None:
            begins = [each for each in quantities if each.startswith(name)]
            near = begins or difflib.get_close_matches(name, quantities, n=3, cutoff=0.3) or sorted(quantities)
            if whole_of(name) in quantities:
                raise InputError(
                    f"suite {suite.id} has no slices {name!r}: add 'by: TAG' to the metric, or correct the tag"
                )
            raise InputError(f"suite {suite.id} has no score {name!r}: use one of {', '.join(near)}")
        if label in found.values():
            raise InputError(f"metrics.{name} gates {label}, which another entry already gates: merge the two entries")
        found[name] = label
        _check_limits(name, limits, quantity_at(suite, label))
        if limits.max_distance_from_reference is not None and not has_right_value(suite, label):
            raise InputError(f"metrics.{name} has no right value to be near to: use min, max or max_worsening")
    return found


def _check_limits(name: str, limits: MetricPolicy, quantity: Quantity) -> None:
    wrong = {Direction.LOWER: ("min", "max"), Direction.HIGHER: ("max", "min")}.get(quantity.direction)
    if wrong and wrong[0] in limits.limits:
        raise InputError(
            f"metrics.{name}: {quantity.direction} is better, so {wrong[0]} would reject good values: use {wrong[1]}"
        )
    if quantity.direction is Direction.NEUTRAL and any(kind.startswith("max_worsening") for kind in limits.limits):
        raise InputError(f"metrics.{name} has no better direction, so it cannot worsen: use min and max")
    if "max_worsening_rel" in limits.limits and quantity.low < 0:
        raise InputError(f"metrics.{name} can be negative, so a relative worsening is undefined: use max_worsening")
    for kind, limit in limits.limits.items():
        low, high = (0.0, quantity.high - quantity.low) if kind.startswith("max_") else (quantity.low, quantity.high)
        if not low <= limit <= high:
            share = ": write 60 % as 0.6" if quantity.high == 1 else ""
            raise InputError(f"metrics.{name}: {kind} {limit:g} is outside its range of {low:g} to {high:g}{share}")


def find_sides(session: Session, policy: Policy, suite: Suite, candidate: str | int | Absent | None) -> Sides:
    """Find the checkpoints that the policy names; ``candidate`` (a name, a row id, or the reason for its absence)
    overrides the policy's candidate.

    Raises:
        InputError: there is no candidate, a name is ambiguous, or the baseline is an alias that was never set.
    """
    side = find_candidate(session, policy, candidate)
    found = None if policy.baseline is None else _baselines(session, policy, suite, side)
    rows = [*([side] if isinstance(side, Checkpoint) else ()), *(found if isinstance(found, tuple) else ())]
    titles = names.titles(session, rows)
    if isinstance(side, Checkpoint) and isinstance(found, tuple) and not policy.allow_same:
        same = [row for row in found if (row.digest, row.configuration) == (side.digest, side.configuration)]
        if same:
            name = titles[same[0].id]
            reason = (
                f"the candidate is its own baseline ({policy.baseline} is {name}): set allow_same: true to permit it"
            )
            return Sides(side, Absent("missing", reason), titles)
    return Sides(side, found, titles)


def find_candidate(session: Session, policy: Policy, candidate: str | int | Absent | None) -> Checkpoint | Absent:
    """Find the checkpoint that ``candidate`` names, or the policy's candidate if it is ``None``.

    Raises:
        InputError: neither names a checkpoint, or the name is ambiguous.
    """
    if isinstance(candidate, Absent):
        return candidate
    if isinstance(candidate, int):
        return session.get_one(Checkpoint, candidate)
    hint = "score it, or pass its file and --generator"
    if candidate is None:
        if policy.candidate is None:
            raise InputError("the policy does not name a candidate: pass --candidate")
        wanted = policy.candidate
        found = _of_policy(session, wanted, "missing", hint)
        return found if isinstance(found, Checkpoint) else Unscored(found.kind, found.reason, wanted.model, wanted.step)
    if session.get(Alias, candidate) is None and not names.matching(session, candidate):
        return Unscored("missing", f"there is no checkpoint {candidate!r}: {hint}", *names.label_of(candidate))
    return names.find(session, candidate)


def _of_policy(
    session: Session, wanted: CheckpointName, kind: Literal["missing", "none"], hint: str
) -> Checkpoint | Absent:
    """The checkpoint that a name in a policy refers to.

    Raises:
        InputError: the name is ambiguous.
    """
    if found := names.matching(session, wanted.name, wanted.options):
        return names.only(session, repr(str(wanted)), found)
    others = names.matching(session, wanted.name) if wanted.options else ()
    there = f"; these exist: {names.dated(session, others)}" if others else ""
    return Absent(kind, f"there is no checkpoint {str(wanted)!r}{there}: {hint}")


def _baselines(
    session: Session, policy: Policy, suite: Suite, candidate: Checkpoint | Absent
) -> tuple[Checkpoint, ...] | Absent:
    wanted = policy.baseline
    if isinstance(wanted, AliasName):
        alias = session.get(Alias, wanted.alias)
        if alias is not None:
            return (alias.checkpoint,)
        if any(each.ended_at is None for each in queries.protections(session, wanted.alias)):
            return Absent("none", f"alias {wanted.alias!r} is protected and was never set")
        raise InputError(_never_set(session, wanted.alias))
    if isinstance(wanted, CheckpointName):
        named = _of_policy(session, wanted, "none", "score it, or choose another baseline")
        return named if isinstance(named, Absent) else (named,)
    if isinstance(candidate, Absent):
        return Absent("none", "the baseline depends on the candidate, which is missing")
    model = candidate.model.name
    if isinstance(wanted, MedianOf):
        before = queries.scored_before(session, candidate, suite.id)[: wanted.median_of]
        if len(before) < wanted.median_of:
            return Absent(
                "none",
                f"the median needs {wanted.median_of} scored checkpoints of {model} before the candidate, and "
                f"there are {len(before)}",
            )
        return tuple(before)
    for passed, gate in queries.passed_gates(session, candidate, suite.id):
        if _counts(gate, policy, suite):
            return (passed,)
    return Absent(
        "none",
        f"no other checkpoint of {model} has passed a gate under {suite.id} without waivers and "
        "with limits at least as strict",
    )


def _counts(gate: Gate, policy: Policy, suite: Suite) -> bool:
    """Whether a passed gate satisfies this policy: without a waiver, under limits at least as strict, and under the
    current content of the suite (old decisions recorded no suite digest).
    """
    if gate.evidence.get("suite_digest", suite.digest) != suite.digest:
        return False
    if any(metric["waiver"] for metric in gate.verdict.get("metrics", ())):
        return False
    try:
        earlier = Policy.model_validate(gate.policy)
        return at_least_as_strict(earlier, policy, labels_of(earlier, suite), labels_of(policy, suite))
    except (ValidationError, InputError):  # a policy of an earlier version, which is invalid today
        return False


def _never_set(session: Session, alias: str) -> str:
    known = [row.name for row in queries.aliases(session)]
    near = difflib.get_close_matches(alias, known, n=3, cutoff=0.5) or known[:3]
    hint = f"the nearest are {', '.join(near)}" if near else "no alias is set in this database"
    return f"alias {alias!r} was never set; {hint}: 'evalsvc alias set {alias} CHECKPOINT' sets it"
