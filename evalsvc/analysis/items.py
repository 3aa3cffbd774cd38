"""Samples of one evaluation with the values of its scorers: the table behind every look at items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64
from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.analysis.item_measures import ItemMeasure, measure_of
from evalsvc.analysis.item_rows import ItemRow, item_row
from evalsvc.core.errors import InputError
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.storage import load_items
from evalsvc.inputs.slice_labels import WORST, is_worst, slice_label, whole_of
from evalsvc.store import names, queries
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.tables import Artifact, Checkpoint, Evaluation, Score

KIND = "items"
"""Kind of the artifact that holds the values of an evaluation's samples."""


class Outcome(IntEnum):
    """Result kind of a scorer for a sample; only ``SCORED`` ones have a value."""

    SCORED = 0
    NOT_APPLICABLE = 1
    FAILED = 2

    @property
    def words(self) -> str:
        """The outcome for people."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class ItemSample:
    """One sample as a row of a listing: its number, its item and draw, and what a measure says of it."""

    sample: int
    item: ItemRow
    draw: int
    value: float | None
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class ItemTable:
    """Values, outcomes and items of every sample of one evaluation.

    ``arrays`` hold, for each of the n samples in order: values ``scorer/quantity`` (float64, NaN if missing), outcomes
    ``scorer.outcomes`` (int8), the row ``item`` of the item set (int32) and the ``draw`` (int32). ``spec`` is that of
    the evaluation, and ``worst`` has the label of the worst slice of each score that has slices. 40,000 samples with 5
    scorers are 2 MB; items and samples are read when they are asked for.
    """

    evaluation: int
    name: str
    suite: str
    spec: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, str]
    artifacts: Artifacts = field(repr=False)
    worst: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def items(self) -> Int32[np.ndarray, " n"]:
        """The row of the item set that each sample is for."""
        return self.arrays["item"]

    @property
    def draws(self) -> Int32[np.ndarray, " n"]:
        """Which sample of its item each sample is, from 0."""
        return self.arrays["draw"]

    @cached_property
    def item_set(self) -> ItemSet:
        """The items, in the order of their file."""
        return load_items(self.artifacts, self.facts["items"])

    @property
    def ids(self) -> Sequence[str]:
        """Names of the items, in the order of the item set."""
        return self.item_set.ids

    @cached_property
    def rows(self) -> Sequence[ItemRow]:
        """All items, in the order of the item set."""
        return [self.item(row) for row in range(len(self.item_set))]

    def item(self, row: int) -> ItemRow:
        """The item at a row of the item set."""
        return item_row(self.item_set, row)

    def measure(self, name: str | None) -> ItemMeasure:
        """The measure that a label of a score, ``scorer/quantity`` or a scorer names; by default the suite's first.

        Raises:
            InputError: the suite has no such measure; the message lists those that it has.
        """
        if name and is_worst(name):
            if (whole := whole_of(name)) not in self.worst:
                raise InputError(f"{whole} has no slices in {self.suite}: use 'by' in a suite, or name a slice")
            name = self.worst[whole]
        found = measure_of(self.spec["suite"], name, self.suite)
        if not found.tag:
            return found
        label = str(name)
        for value in dict.fromkeys(self.tag(found.tag)):
            if value == found.value or slice_label(whole_of(label), found.tag, value) == label:
                return replace(found, value=value)
        raise InputError(f"{self.suite} has no items with {found.tag}={found.value!r}: use another slice")

    def values(self, of: ItemMeasure) -> Float64[np.ndarray, " n"]:
        """Values of all samples, NaN where there is none or the sample is not in the slice."""
        found: Float64[np.ndarray, " n"]
        if of.failed:
            found = (self.outcomes(of.scorer) == Outcome.FAILED).astype(np.float64)
        else:
            found = self.arrays[of.key]
        return np.where(self.in_slice(of), found, np.nan) if of.tag else found

    def outcomes(self, scorer: str) -> Int8[np.ndarray, " n"]:
        """An :class:`Outcome` of each sample for a scorer."""
        return self.arrays[f"{scorer}.outcomes"]

    @cached_property
    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        """Why samples have no value: by scorer, then by the sample's number as a text."""
        found: dict[str, dict[str, str]] = json.loads(self.arrays["reasons"].tobytes())
        return found

    def ranked(self, of: ItemMeasure, *, best: bool = False) -> Int64[np.ndarray, " k"]:
        """Numbers of the samples (of the slice) from the worst value, or the best; then those that failed, then others.

        Equal values keep the order of the samples. Of a quantity without a direction, the largest is "worst".
        """
        signed = self.values(of) * (of.sign if best else -of.sign)
        failed = self.outcomes(of.scorer) == Outcome.FAILED
        unscored = np.where(np.isfinite(signed), 0, np.where(failed, 1, 2))
        order = np.lexsort((np.nan_to_num(signed), unscored))
        return order[self.in_slice(of)[order]] if of.tag else order

    def means(self, of: ItemMeasure) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
        """The items that have a value, ascending, and the mean over the draws of each."""
        values = self.values(of)
        there = np.isfinite(values)
        counts = np.bincount(self.items[there], minlength=1)
        sums = np.bincount(self.items[there], values[there], minlength=1)
        rows = np.flatnonzero(counts)
        return rows, sums[rows] / counts[rows]

    def listed(self, samples: Sequence[int] | Int64[np.ndarray, " k"], of: ItemMeasure) -> Iterator[ItemSample]:
        """The samples with these numbers as rows of a listing."""
        values, outcomes, reasons = self.values(of), self.outcomes(of.scorer), self.reasons.get(of.scorer, {})
        for number in map(int, samples):
            value = float(values[number])
            yield ItemSample(
                number,
                self.item(int(self.items[number])),
                int(self.draws[number]),
                value if np.isfinite(value) else None,
                Outcome(int(outcomes[number])),
                reasons.get(str(number), ""),
            )

    def in_slice(self, of: ItemMeasure) -> Bool[np.ndarray, " n"]:
        """Which samples the measure covers: all, unless it is that of a slice."""
        if not of.tag:
            return np.ones(len(self), bool)
        found: Bool[np.ndarray, " n"] = (self.tag(of.tag) == of.value)[self.items]
        return found

    def tag(self, name: str) -> np.ndarray:
        """The value of a tag of each item as text; of ``label``, its class label.

        Raises:
            InputError: the items have no such tag.
        """
        known = dict(self.item_set.tags)
        if self.item_set.labels is not None:
            known["label"] = tuple(map(str, self.item_set.labels.tolist()))
        if name not in known:
            way_out = f"use one of {', '.join(known)}" if known else "choose a suite whose items have tags"
            raise InputError(f"the items of {self.suite} have no tag {name!r}: {way_out}")
        return np.array(known[name], object)


def open_items(session: Session, artifacts: Artifacts, evaluation: Evaluation) -> ItemTable:
    """The table of a finished evaluation.

    Raises:
        InputError: it has no items, because its suite has no scorers.
        DamagedError: its file is missing or damaged.
    """
    suite = f"{evaluation.suite.name}@{evaluation.suite.version}"
    name = names.title_of(session, evaluation.checkpoint)
    key = session.scalar(select(Artifact.path).where(Artifact.evaluation_id == evaluation.id, Artifact.kind == KIND))
    if key is None:
        raise InputError(f"{name} has no scores of items under {suite}: choose a suite that has scorers")
    arrays, facts = artifacts.read_arrays(key), artifacts.read_metadata(key)
    slices = select(Score.slice_of, Score.details["slice"].as_string()).where(
        Score.evaluation_id == evaluation.id, Score.label == Score.slice_of + f"[{WORST}]"
    )
    worst = {str(whole): each for whole, each in session.execute(slices)}
    return ItemTable(evaluation.id, name, suite, evaluation.spec, arrays, facts, artifacts, worst)


def items_of_checkpoints(
    session: Session, artifacts: Artifacts, checkpoints: Sequence[Checkpoint], suite: str | None
) -> list[ItemTable]:
    """The tables of the current evaluations of checkpoints under a suite, by default the most recently used one.

    Raises:
        InputError: one has no scores, or none of items.
    """
    chosen = queries.pick_suite(session, suite)
    runs = [queries.side(session, each, chosen)[1][0].evaluation_id for each in checkpoints]
    return [open_items(session, artifacts, session.get_one(Evaluation, run)) for run in runs]
