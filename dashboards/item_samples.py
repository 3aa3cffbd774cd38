"""The samples of a checkpoint by one quantity of a scorer: distribution, filtered table, and one of them opened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float64, Int64
from streamlit.delta_generator import DeltaGenerator

from evalsvc.analysis.item_differences import item_differences
from evalsvc.analysis.item_measures import ItemMeasure
from evalsvc.analysis.items import ItemTable, Outcome, open_items
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError, StorageError
from evalsvc.core.settings import Settings
from evalsvc.core.spreadsheets import as_csv
from evalsvc.dashboards import charts, context, item_details
from evalsvc.dashboards.formatting import cut, grid, safe, unique_labels
from evalsvc.dashboards.i18n import language, say
from evalsvc.dashboards.item_listing import (
    LONGEST_CELL,
    confusion,
    distribution,
    linked,
    matching,
    tag_values,
    tags_in_words,
)
from evalsvc.dashboards.url_state import choose, choose_many, not_found, page_number, remember, text
from evalsvc.metrics.score import Direction
from evalsvc.store.dashboard_queries import Point
from evalsvc.store.tables import Evaluation

ROWS = 25
ORDERS = ("worst", "best", "given")
OUTCOMES = ("any", *(each.name.lower() for each in Outcome))
MOST_CLASSES = 50
"""Classes whose confusions are drawn; of more, the most frequent confusions are listed."""
PREDICTED = "predicted_label"
"""Quantity of a scorer: the class that a classifier finds in a sample."""
COLUMNS = ("item", "draw", "prompt", "target", "tags", "outcome", "change")


@dataclass(frozen=True)
class Listing:
    """Rows of the table: samples, or with a baseline the items that both scored with their means over draws.

    ``items`` are rows of the item set of the checkpoint, ``samples`` numbers of its samples (the first draw of an
    item), ``values`` theirs; ``others`` are the values of the baseline and ``other_items`` the rows of its item set.
    """

    items: Int64[np.ndarray, " k"]
    samples: Int64[np.ndarray, " k"]
    values: Float64[np.ndarray, " k"]
    others: Float64[np.ndarray, " k"] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def at(self, places: np.ndarray) -> Listing:
        """The rows at these places, or those that a mask keeps."""
        others = None if self.others is None else self.others[places]
        return Listing(self.items[places], self.samples[places], self.values[places], others)


def show(measures: Mapping[str, ItemMeasure], point: Point, other: Point | None, bar: DeltaGenerator) -> None:
    """Render this part of the page; ``other`` is the checkpoint to compare with, and widgets are added to ``bar``."""
    of = _measure(measures, bar)
    table = _opened(point)
    baseline = None if other is None else _opened(other)
    if table is None or (other is not None and baseline is None):
        return
    try:
        listing = _listing(table, baseline, of)
    except InputError as error:
        st.info(safe(error, 500), icon=":material/block:")
        return
    names = {point.name: table} | ({other.name: baseline} if other is not None and baseline is not None else {})
    _counts(names, of)
    _distribution(names, of)
    kept = _filtered(table, listing, of)
    if not len(kept):
        st.info(say("items.nothing"), icon=":material/filter_alt_off:")
        return
    start = page_number("page", -(-len(kept) // ROWS)) * ROWS
    picked = _table(list(names), table, kept, start, of)
    item_details.show(names, of, _chosen(table, kept, start, picked))
    _confusion(table, of)


def _measure(measures: Mapping[str, ItemMeasure], bar: DeltaGenerator) -> ItemMeasure:
    """Select a quantity of a scorer; a link may also name it by the label of a score."""
    every = {each.key: each for each in measures.values() if not each.failed}
    asked = st.query_params.get("of", "")
    if asked in measures and not measures[asked].failed:
        st.query_params["of"] = measures[asked].key
    titles = {key: f"{each.scorer} · {each.quantity.titled(language())}" for key, each in every.items()}
    return every[choose("of", say("items.of"), list(every), words=titles.__getitem__, where=bar)]


def _opened(point: Point) -> ItemTable | None:
    try:
        return _cached(Settings().database, point.evaluation_id)
    except InputError as error:
        st.info(safe(error, 500), icon=":material/hide_source:")
    except StorageError as error:
        st.warning(safe(error, 500), icon=":material/warning:")
    return None


@st.cache_resource(max_entries=4, show_spinner=False)
def _cached(store: str, evaluation: int) -> ItemTable:
    """A table, cached by evaluation, because the artifacts of an evaluation never change."""
    with context.read_transaction() as session:
        found = open_items(session, context.artifacts(), session.get_one(Evaluation, evaluation))
    assert found.item_set is not None  # read here, so that a missing or damaged file is reported
    return found


def _listing(table: ItemTable, baseline: ItemTable | None, of: ItemMeasure) -> Listing:
    if baseline is None:
        return Listing(table.items, np.arange(len(table)), table.values(of))
    found = item_differences(baseline, table, of.key)
    first = np.full(len(table.item_set), -1)
    first[table.items[::-1]] = np.arange(len(table))[::-1]
    if found.changed or found.unpaired:
        st.caption(say("items.unpaired", unpaired=found.unpaired, changed=found.changed))
    return Listing(found.rows_b, first[found.rows_b], found.values_b, found.values_a)


def _counts(names: Mapping[str, ItemTable], of: ItemMeasure) -> None:
    """How many samples have a value, and how many have none and why, beside the distribution."""
    for name, table in names.items():
        outcomes = table.outcomes(of.scorer)
        counts = {each: int((outcomes == each).sum()) for each in Outcome}
        values = table.values(of)
        there = values[np.isfinite(values)]
        row = st.container(horizontal=True)
        row.metric(safe(name), f"{there.mean():.4g}" if len(there) else "–", help=say("items.mean"), border=True)
        for outcome, count in counts.items():
            row.metric(
                say(f"items.{outcome.name.lower()}"), f"{count:,} · {count / max(1, len(table)):.1%}", border=True
            )


def _distribution(names: Mapping[str, ItemTable], of: ItemMeasure) -> None:
    rows = distribution({name: table.values(of) for name, table in names.items()})
    if rows:
        words = charts.axis_title(of.quantity.titled(language()), of.quantity.unit, str(of.quantity.direction))
        chart = charts.histogram(rows, words, list(names)).properties(height=270)
        charts.show(chart, rows, "items", say("items.distribution"))


def _filtered(table: ItemTable, listing: Listing, of: ItemMeasure) -> Listing:
    """The rows that pass the filters, in the selected order."""
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    orders = ORDERS if listing.others is None else ("changed_worst", "changed_best", *ORDERS)
    kind = "neutral_" if of.quantity.direction is Direction.NEUTRAL else ""
    order = choose("order", say("items.order"), orders, words=lambda each: say(f"items.{kind}{each}"), where=bar)
    outcome = "any"
    with bar.popover(say("leaderboard.filter"), icon=":material/filter_alt:"):
        if listing.others is None:
            outcome = choose("outcome", say("items.outcome"), OUTCOMES, words=lambda each: say(f"items.{each}"))
        known = tag_values(table.item_set)
        tags = (
            choose_many("tag", say("items.tags"), list(known), words=lambda each: "=".join(known[each]))
            if known
            else []
        )
        sought = text("text", say("items.text"))
    listing = listing.at(_places(table, listing, of, order))
    kept = matching(table.item_set, [known[tag] for tag in tags], sought)[listing.items]
    if outcome != "any":
        kept &= (table.outcomes(of.scorer) == Outcome[outcome.upper()])[listing.samples]
    return listing.at(kept)


def _places(table: ItemTable, listing: Listing, of: ItemMeasure, order: str) -> np.ndarray:
    """The places of the rows in an order; differences are listed from the one that got worst."""
    if order == "given":
        return np.argsort(listing.samples, kind="stable")
    if listing.others is None:
        return table.ranked(of, best=order == "best")
    if order.startswith("changed"):
        return np.arange(len(listing))[:: 1 if order == "changed_worst" else -1]
    return np.argsort(listing.values * (of.sign if order == "best" else -of.sign), kind="stable")


def _table(names: Sequence[str], table: ItemTable, kept: Listing, start: int, of: ItemMeasure) -> int | None:
    """Show one page of rows and offer all of them for download; the place of the row that was picked."""
    now = kept.at(np.arange(start, min(start + ROWS, len(kept))))
    key = digest_json([names, of.key, now.samples.tolist()])[:12]  # another page starts without a picked row
    picked = st.dataframe(
        rows_of(names, table, now, of, 200),
        hide_index=True,
        height=min(36 * len(now) + 40, 480),
        key=f"items.{key}",
        on_select="rerun",
        selection_mode="single-row",
        alt=say("items.title"),
    )
    foot = st.container(horizontal=True, vertical_alignment="center")
    foot.download_button(
        "CSV",
        lambda: as_csv(rows_of(names, table, kept, of, LONGEST_CELL)),
        "items.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )
    foot.caption(say("items.rows", first=start + 1, last=start + len(now), count=f"{len(kept):,}"))
    chosen = picked["selection"]["rows"] if picked else []
    return start + chosen[0] if chosen else None


def rows_of(
    names: Sequence[str], table: ItemTable, listing: Listing, of: ItemMeasure, longest: int
) -> list[dict[str, Any]]:
    """Rows of the table and of its CSV; texts from outside are cut and printable."""
    headings = unique_labels({name: cut(name) for name in names}, [say(f"items.{each}") for each in COLUMNS])
    reasons, outcomes = table.reasons.get(of.scorer, {}), table.outcomes(of.scorer)
    found = []
    for place, (row, sample) in enumerate(zip(listing.items.tolist(), listing.samples.tolist(), strict=True)):
        item = table.item(row)
        cells: dict[str, Any] = {say("items.item"): cut(item.id, longest)}
        if listing.others is None:
            cells[say("items.draw")] = int(table.draws[sample])
        value = float(listing.values[place])
        if listing.others is not None:
            cells[headings[names[1]]] = float(listing.others[place])
        cells[headings[names[0]]] = value if math.isfinite(value) else None
        if listing.others is not None:
            cells[say("items.change")] = value - float(listing.others[place])
        else:
            said = reasons.get(str(sample), "") or Outcome(int(outcomes[sample])).name.lower()
            cells[say("items.outcome")] = cut(said, longest) if not math.isfinite(value) else ""
        more = {"prompt": item.prompt, "target": item.target, "tags": tags_in_words(item)}
        cells |= {say(f"items.{name}"): cut(said, longest) for name, said in more.items() if said}
        found.append(cells)
    return found


def _chosen(table: ItemTable, kept: Listing, start: int, picked: int | None) -> int:
    """Number of the sample to open: of the row that was picked now, else of the link, else of the first row."""

    ids, name = table.item_set.ids, None
    if picked is not None:
        sample = int(kept.samples[picked])
        name = f"{table.draws[sample]}/{linked(ids[table.items[sample]])}"
    asked = remember("sample", name)
    if asked is None:
        return int(kept.samples[start])
    draw, _, item = asked.partition("/")
    rows = [row for row, each in enumerate(ids) if linked(each) == item]
    found = np.flatnonzero(np.isin(table.items, rows) & (table.draws.astype(str) == draw))
    if not len(found):
        not_found(say("items.item"), asked)
    return int(found[0])


def _confusion(table: ItemTable, of: ItemMeasure) -> None:
    """Which classes a classifier saw in the samples of each label."""
    predicted = table.arrays.get(f"{of.scorer}/{PREDICTED}")
    if predicted is None or table.item_set.labels is None:
        return
    rows = confusion(table.item_set.labels[table.items], predicted)
    if not rows:
        return
    st.header(say("items.confusion"), anchor=False)
    if len({row["label"] for row in rows}) <= MOST_CLASSES:
        charts.show(charts.heatmap(rows), rows, "confusion", say("items.confusion"))
        return
    wrong = sorted((row for row in rows if row["label"] != row["predicted"]), key=lambda row: -row["count"])
    titles = {name: say(f"items.{name}") for name in ("label", "predicted", "count", "share")}
    grid([{titles[name]: row[name] for name in titles} for row in wrong[:MOST_CLASSES]], alt=say("items.confusion"))
