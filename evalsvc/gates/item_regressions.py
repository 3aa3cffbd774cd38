"""The items that got worse most between baseline and candidate, for the reports of a gate; not part of the decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from evalsvc.analysis.item_listings import ItemComparison, item_comparison
from evalsvc.analysis.items import ItemTable, open_items
from evalsvc.analysis.kept_samples import KeptSamples
from evalsvc.core.errors import DamagedError, InputError, StorageError
from evalsvc.core.files.verification import report
from evalsvc.evaluation.gallery import as_gallery
from evalsvc.metrics.score import Direction
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation

SHOWN = 5
"""Number of items that are shown of each scorer."""
Found = tuple[ItemTable, ItemTable, ItemComparison]


@dataclass(frozen=True)
class ItemRegressions:
    """For each gated scorer its regressions as JSON types, and the images of both sides by caption."""

    tables: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


def item_regressions(document: Mapping[str, Any], database: Database, artifacts: Artifacts) -> ItemRegressions:
    """Compare the items of the first run of each side of a decision, for every gated score that aggregates a scorer.

    Scores without stored items of both sides, or without an item that got worse, are left out.
    """
    found = ItemRegressions()
    with database.read() as session:
        for a, b, comparison in _compared(document, session, artifacts):
            found.tables.append(_plain(comparison))
            kept = KeptSamples(a), KeptSamples(b)
            for each in comparison.regressions:
                sides = [samples[of.sample].pixels for samples, of in zip(kept, (each.a, each.b), strict=True)]
                images = [pixels for pixels in sides if pixels is not None and pixels.ndim == 3]
                if len(images) == 2:
                    caption = f"{comparison.of} {each.difference:+.4g}: {each.b.item.id}, {a.name} and {b.name}"
                    found.pictures[caption] = as_gallery(images)
    return found


def _compared(document: Mapping[str, Any], session: Session, artifacts: Artifacts) -> Iterator[Found]:
    opened: dict[int, ItemTable] = {}
    seen = set()
    for name, metric in document["evidence"]["metrics"].items():
        runs = [_run(metric[side]) for side in ("baseline", "candidate")]
        if None in runs or runs[0] == runs[1]:
            continue
        try:
            for run in runs:
                if run not in opened:
                    opened[run] = open_items(session, artifacts, session.get_one(Evaluation, run))
            a, b = (opened[run] for run in runs)
            of = b.measure(name.removeprefix(f"{b.suite}/"))
            if of.quantity.direction is Direction.NEUTRAL or (*runs, of) in seen:
                continue
            seen.add((*runs, of))
            found = item_comparison(a, b, name.removeprefix(f"{b.suite}/"), SHOWN)
            if found.regressions:
                yield a, b, found
        except DamagedError as error:
            report(error)
        except (InputError, StorageError):  # a metric of a set, or items that are not comparable
            continue


def _run(side: Mapping[str, Any] | None) -> Any:
    """The first stored evaluation of a side of the evidence."""
    return next((run for run in (side or {}).get("runs", ()) if run), None)


def _plain(comparison: ItemComparison) -> dict[str, Any]:
    facts = asdict(comparison)
    rows = [
        {
            "difference": each.difference,
            "baseline": each.value_a,
            "candidate": each.value_b,
            "item": each.b.item.id,
            "prompt": each.b.item.prompt or each.b.item.source,
            "target": each.b.item.target,
            "baseline_answer": each.a.answer or each.a.absent,
            "candidate_answer": each.b.answer or each.b.absent,
        }
        for each in comparison.regressions
    ]
    return {key: facts[key] for key in ("suite", "of", "direction", "unit", "paired", "worse", "better")} | {
        "regressions": rows
    }
