"""Scores, leaderboards and differences as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from evalsvc.analysis.leaderboard import Board, Difference, unknown_references, unpaired
from evalsvc.cli.backends import Answer
from evalsvc.cli.console import ARROWS, duration, energy, number, out, styled, table, with_error
from evalsvc.cli.documents import board_document, difference_document
from evalsvc.core.columns import ScoreColumns
from evalsvc.core.number_format import with_both_errors
from evalsvc.store import names, queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation

SHOWN_SLICES = 10
"""Maximum number of slices printed under a score."""
BLOCKS = "▁▂▃▄▅▆▇█"


def board_tables(board: Board, width: int) -> list[Table]:
    """One board, with its columns split into as many tables as the width requires; each table repeats the names."""
    cells = {}
    for column in board.columns:
        found = [entry.scores.get((column.label, column.protocol)) for entry in board.entries]
        values = [_value(score, both=column == board.ranked_by) if score else "–" for score in found]
        cells[f"{column.title} {ARROWS[column.direction]}".strip()] = values
    who = {
        "rank": [str(entry.rank) for entry in board.entries],
        "model": [entry.model for entry in board.entries],
        "step": [f"{entry.step}{entry.mark}" for entry in board.entries],
    }
    room = width - 1 - sum(_width(heading, values) for heading, values in who.items())
    parts: list[dict[str, list[str]]] = [{}]
    for heading, values in cells.items():
        if parts[-1] and sum(_width(*item) for item in parts[-1].items()) + _width(heading, values) > room:
            parts.append({})
        parts[-1][heading] = values
    tables: list[Table] = []
    for part in parts:
        title = "" if tables else f"{board.suite}, ranked by {board.ranked_by.title}"
        columns = who | part
        tables.append(table(title, *columns, right=("rank", "step", *part)))
        for row in zip(*columns.values(), strict=True):
            tables[-1].add_row(*row)
    return tables


def _value(score: ScoreColumns, *, both: bool) -> str:
    """The value with its error, and also that of the reference's rows."""
    return with_both_errors(score.value, score.stderr, score.stderr_reference if both else None, score.target)


def _width(heading: str, values: list[str]) -> int:
    return max(map(len, [heading, *values])) + 3


def show_trends(database: Database, suite: str) -> None:
    """The suite's first score over training steps, one row per model, with heights on a logarithmic scale."""
    from math import log

    with database.read() as session:
        rows, series = queries.scores(session, suite=suite), names.series(session)
    first = min(rows, key=lambda row: row.position).label
    rows = [row for row in rows if row.label == first]
    heights = [log(max(row.value, 1e-12)) for row in rows]
    low, span = min(heights), max(max(heights) - min(heights), 1e-12)
    made = table(f"{suite}: {first} {ARROWS[rows[0].direction]} over training", "model", "trend", "step: value")
    for model, configuration in dict.fromkeys((row.model, row.configuration) for row in rows):
        own = [row for row in rows if (row.model, row.configuration) == (model, configuration)]
        levels = [round((log(max(row.value, 1e-12)) - low) / span * (len(BLOCKS) - 1)) for row in own]
        steps = "  ".join(f"{row.step}: {with_error(row.value, row.stderr)}" for row in own)
        made.add_row(model + series[model, configuration], "".join(BLOCKS[level] for level in levels), steps)
    out.print(made)


def boards_answer(boards: Sequence[Board]) -> Answer:
    """Print the output of ``leaderboard``."""
    shown = [made for board in boards for made in board_tables(board, out.width)]
    return Answer(
        [board_document(board) for board in boards], shown, list(dict.fromkeys(b.holds for b in boards if b.holds))
    )


def comparison_answer(suite: str, a: str, b: str, differences: Sequence[Difference]) -> Answer:
    """Print the output of ``compare``."""
    # Nothing is added where no score has a reference whose rows are a sample too.
    sampled = any(each.stderr_reference for each in differences)
    both = ["95 %, other references"] if sampled else []
    made = table(f"{suite}: {b} against {a}", "score", a, b, "difference", "95 %", *both, "")
    for difference in differences:
        made.add_row(*_difference_cells(difference, sampled=sampled))
    document = {"suite": suite, "a": a, "b": b, "differences": list(map(difference_document, differences))}
    independent = [
        f"compared as independent: {', '.join(labels)} ({reason})" for reason, labels in unpaired(differences).items()
    ]
    unknown = [
        f"on this reference file: {', '.join(labels)} ({reason})"
        for reason, labels in unknown_references(differences).items()
    ]
    return Answer(document, [made], independent + unknown)


def _difference_cells(difference: Difference, *, sampled: bool) -> list[str | Text]:
    row = difference.a or difference.b
    arrow = ARROWS[row.direction] if row else ""
    sides = [_value(side, both=False) if side else "–" for side in (difference.a, difference.b)]
    if difference.value is None:
        return [f"{difference.label} {arrow}", *sides, "not comparable", "", *([""] * sampled), difference.reason]
    found = difference.deciding[: 1 + sampled]
    bounds = [f"[{number(each[0])}, {number(each[1])}]" if each else "unknown" for each in found]
    style = {"better": "green", "worse": "red"}.get(difference.verdict, "dim")
    verdict = styled(difference.verdict, style)
    return [f"{difference.label} {arrow}", *sides, difference.in_words, *bounds, verdict]


def print_scores(
    rows: Sequence[ScoreColumns],
    provenance: Mapping[str, Any],
    slices: Mapping[str, Sequence[ScoreColumns]] = MappingProxyType({}),
) -> None:
    """Print the scores of one evaluation as a table, each with its worst slices, and the number of samples used."""
    first = rows[0]
    made = table(
        f"{first.name} under {first.suite}",
        "score",
        "value",
        "95 % interval",
        "unit",
        "n",
        "error from",
        "protocol",
        right=("value", "n"),
    )
    for row in [each for whole in rows for each in (whole, *slices.get(whole.label, ())[:SHOWN_SLICES])]:
        low_high = f"[{number(row.ci_low)}, {number(row.ci_high)}]" if row.ci_low is not None else "unknown"
        name = f"{row.label} {ARROWS[row.direction]}"
        values = _value(row, both=True), low_high, row.unit, _count(row)
        made.add_row(name, *values, row.stderr_method, row.protocol)
    out.print(made)
    for label, every in slices.items():
        if len(every) > SHOWN_SLICES:
            out.print(f"{label}: the worst {SHOWN_SLICES} of {len(every)} slices; --json lists all", highlight=False)
    if taken := taken_samples(provenance):
        out.print(taken, highlight=False)


def taken_samples(provenance: Mapping[str, Any]) -> str:
    """The number of samples that an evaluation used and of those available; empty if it used all."""
    samples = provenance.get("samples", {})
    if "of" not in samples:
        return ""
    chosen = f", a random subset (order {samples['order']})" if samples["taken"] < samples["of"] else ""
    return f"{samples['taken']:,} samples of {samples['of']:,} in the source{chosen}"


def print_provenance(run: Evaluation, files: dict[str, str]) -> None:
    """The provenance of an evaluation, and its files."""
    provenance = run.provenance
    memory = f"{run.peak_memory / 2**30:.2f} GB peak" if run.peak_memory else ""
    cost = (f"{duration(run.device_seconds)} device time", memory, energy(run.energy))
    seconds = "  ".join(f"{stage} {spent:.1f} s" for stage, spent in provenance["seconds"].items())
    versions = "  ".join(f"{name} {version}" for name, version in provenance["packages"].items())
    what = run.checkpoint
    lines = {
        "submitted by": run.by,
        "generator": f"{what.generator} ({what.generator_version})" if what.generator_version else what.generator,
        "options": json.dumps(what.options, ensure_ascii=False) if what.options else "",
        "took": seconds,
        "speed": f"{provenance['samples_per_second']:.0f} samples/s" if provenance["samples_per_second"] else "",
        "cost": "  ".join(filter(None, cost)),
        "device": f"{provenance['device']} ({provenance['device_name']}), {provenance['threads']} threads",
        "weights": provenance.get("weights", ""),
        "seed": str(provenance["seed"]),
        "commit": provenance["git_commit"] or "",
        "versions": versions,
        "no right value": "; ".join(f"{label}: {why}" for label, why in provenance.get("no_right_value", {}).items()),
        "not applicable": "; ".join(f"{label}: {why}" for label, why in provenance["not_applicable"].items()),
        **files,
    }
    for name, text in lines.items():
        if text:
            out.print(styled(f"{name:>15}", "dim"), text, sep="  ", highlight=False, soft_wrap=True)


def _count(row: ScoreColumns) -> str:
    """The number of samples, and of independent units if these are fewer."""
    fewer = row.independent is not None and row.independent != row.n
    return f"{row.n} of {row.independent} {row.independent_unit}" if fewer else str(row.n)
