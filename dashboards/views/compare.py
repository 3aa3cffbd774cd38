"""Page "Compare": checkpoints against a baseline, with intervals, and the facts that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from evalsvc.analysis.leaderboard import Difference, Side, unknown_references, unpaired
from evalsvc.analysis.leaderboard import compare as differences_of
from evalsvc.analysis.runs import runs_beside
from evalsvc.core.errors import InputError
from evalsvc.core.number_format import with_both_errors
from evalsvc.core.spreadsheets import as_csv
from evalsvc.dashboards import charts, context, widgets
from evalsvc.dashboards.formatting import ARROWS, grid, heading, number, safe
from evalsvc.dashboards.i18n import metric_name, metric_names, say
from evalsvc.dashboards.url_state import choose, switch
from evalsvc.store import queries
from evalsvc.store.dashboard_queries import Point
from evalsvc.store.queries import ScoreRow
from evalsvc.store.tables import Evaluation

MOST = 6
MARKS = {
    "better": "▲",
    "worse": "▼",
    "unsure": "≈",
    "differs": "≠",
    "better on this reference": "△",
    "worse on this reference": "▽",
    "differs on this reference": "≠",
}


def page() -> None:
    """Render the page."""
    heading(say("compare.title"), say("compare.note"))
    suite = context.suite()
    chosen = widgets.many_checkpoints(suite, say("compare.choose"), MOST)
    if len(chosen) < 2:
        st.info(say("compare.two"), icon=":material/touch_app:")
        return
    with context.read_transaction() as session:
        scores = {point.name: queries.scores(session, evaluation=point.evaluation_id) for point in chosen}
        runs = {point.name: session.get_one(Evaluation, point.evaluation_id) for point in chosen}
        artifacts = context.artifacts()
        sides = {
            point.name: Side(scores[point.name], runs_beside(session, artifacts, scores[point.name]))
            for point in chosen
        }
    baseline, *others = chosen
    found: dict[str, list[Difference]] = {}
    for other in others:
        try:
            found[other.name] = differences_of(sides[baseline.name], sides[other.name])
        except InputError as error:
            st.warning(safe(f"{other.name}: {error}", 500), icon=":material/block:")
    st.caption(say("compare.marks"))
    _table(scores, baseline, found)
    for reason, labels in unpaired(each for differences in found.values() for each in differences).items():
        names = ", ".join(metric_name(label) for label in labels)
        st.caption(say("compare.unpaired", labels=safe(names, 500), reason=safe(reason, 500)))
    for reason, labels in unknown_references(each for every in found.values() for each in every).items():
        names = ", ".join(metric_name(label) for label in labels)
        st.caption(say("compare.unknown_reference", labels=safe(names, 500), reason=safe(reason, 500)))
    if found:
        selected = next(iter(found))
        if len(found) > 1:
            selected = choose("against", say("compare.drawn"), list(found), style="segments")
        _show_chart(found[selected], baseline.name, selected)
    _parallel(chosen, scores)
    _provenance(runs)


def _table(scores: dict[str, list[ScoreRow]], baseline: Point, found: dict[str, list[Difference]]) -> None:
    labels = list(dict.fromkeys(row.label for rows in scores.values() for row in rows))
    titles = metric_names(labels)
    own = {row.label: row for row in scores[baseline.name]}
    rows = []
    for label in labels:
        row: dict[str, str] = {say("common.metric"): titles[label]}
        any_row = next(r for rows_ in scores.values() for r in rows_ if r.label == label)
        row[say("common.metric")] += f" {ARROWS[any_row.direction]}"
        row[f"{baseline.name} · {say('compare.baseline')}"] = (
            with_both_errors(own[label].value, own[label].stderr, None, own[label].target) if label in own else "–"
        )
        for name, differences in found.items():
            row[name] = cell(next((d for d in differences if d.label == label), None))
        rows.append(row)
    grid(rows, height=min(36 * len(rows) + 40, 640), alt=say("compare.title"))
    st.download_button("CSV", as_csv(rows), "compare.csv", "text/csv", icon=":material/download:", on_click="ignore")


def cell(difference: Difference | None) -> str:
    """A difference as the text of a cell: a symbol, the value and its interval, or the reason why it is missing."""
    if difference is None:
        return "–"
    if difference.value is None or difference.b is None:
        return say("compare.not_comparable", reason=difference.reason)
    ends = difference.interval_sampled or difference.interval
    bounds = f" [{ends[0]:+.3g}, {ends[1]:+.3g}]" if ends else ""
    value = with_both_errors(difference.b.value, difference.b.stderr, None, difference.b.target)
    return f"{MARKS[difference.verdict]} {value}  ({difference.value:+.4g}{bounds})"


def improvements(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Differences in percent of the baseline, positive if better; differences without such a number are omitted."""
    rows = []
    titles = metric_names(each.label for each in differences)
    for each in differences:
        if (
            each.value is None
            or each.interval is None
            or each.a is None
            or not each.a.value
            or each.a.direction == "neutral"
        ):
            continue
        sign = (-100 if each.a.direction == "lower" else 100) / abs(each.a.value)
        low, high = sorted(sign * end for end in each.interval_sampled or each.interval)
        rows.append(
            {
                "name": titles[each.label],
                "value": sign * each.value,
                "low": low,
                "high": high,
                "group": each.verdict,
            }
        )
    return rows


def _show_chart(differences: Sequence[Difference], baseline: str, other: str) -> None:
    rows = improvements(differences)
    if rows:
        st.header(say("compare.improvement", baseline=safe(baseline), other=safe(other)), anchor=False)
        chart = charts.forest(rows, say("compare.percent"), rules=[0.0], colors=charts.VERDICT)
        charts.show(chart, rows, "compare", say("compare.improvement", baseline=baseline, other=other))


def _parallel(chosen: Sequence[Point], scores: dict[str, list[ScoreRow]]) -> None:
    """Each score scaled from the worst (0) to the best (1) of the selected checkpoints."""
    shared = [row for row in scores[chosen[0].name] if row.direction != "neutral"]
    values = {name: {(r.label, r.protocol): r.value for r in rows} for name, rows in scores.items()}
    rows = []
    titles = metric_names(row.label for row in shared)
    for row in shared:
        key = row.label, row.protocol
        here = {name: found[key] for name, found in values.items() if key in found}
        low, high = min(here.values()), max(here.values())
        if len(here) < 2 or low == high:
            continue
        for name, value in here.items():
            share = (value - low) / (high - low)
            rows.append(
                {
                    "metric": titles[row.label],
                    "name": name,
                    "share": 1 - share if row.direction == "lower" else share,
                    "value": number(value),
                }
            )
    if rows:
        st.header(say("compare.profile"), anchor=False)
        charts.show(
            charts.parallel(rows, [point.name for point in chosen], say("compare.share")),
            rows,
            "profile",
            say("compare.profile"),
        )


def _provenance(runs: dict[str, Evaluation]) -> None:
    st.header(say("compare.provenance"), anchor=False)
    every = switch("all_facts", say("compare.all_facts"))
    found = {name: _facts(run) for name, run in runs.items()}
    keys = list(dict.fromkeys(key for each in found.values() for key in each))
    rows = [
        {say("compare.fact"): key} | {name: each.get(key, "–") for name, each in found.items()}
        for key in keys
        if every or len({each.get(key, "–") for each in found.values()}) > 1
    ]
    grid(rows, alt=say("compare.provenance"))


def _facts(run: Evaluation) -> dict[str, str]:
    checkpoint, found = run.checkpoint, run.provenance
    flat = {"digest": checkpoint.digest[:12], "generator": checkpoint.generator, "path": checkpoint.path}
    flat |= {f"option {key}": str(value) for key, value in checkpoint.options.items()}
    for key, value in found.items():
        if isinstance(value, dict):
            flat |= {f"{key} {inner}": number(v) if isinstance(v, float) else str(v) for inner, v in value.items()}
        else:
            flat[key] = number(value) if isinstance(value, float) else str(value)
    return flat


page()
