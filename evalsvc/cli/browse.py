"""Commands that read: leaderboard, compare, show, models, checkpoints, export. None of them imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from evalsvc.analysis import leaderboard as ranking
from evalsvc.analysis.leaderboard import Board, Difference
from evalsvc.analysis.runs import runs_beside
from evalsvc.cli.console import ARROWS, duration, energy, err, number, out, print_json, styled, table, with_error
from evalsvc.core.columns import ScoreColumns
from evalsvc.core.errors import InputError, first_line, printable
from evalsvc.core.settings import Settings
from evalsvc.core.spreadsheets import as_csv
from evalsvc.inputs import stored_checkpoints
from evalsvc.store import names, queries
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.queries import ModelCost, ScoreRow
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint, Evaluation

SuiteName = Annotated[str | None, typer.Option(help="Suite; by default the one used last.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
BLOCKS = "▁▂▃▄▅▆▇█"


def leaderboard(
    suite: SuiteName = None,
    metric: Annotated[str | None, typer.Option(help="Score to rank by; by default the suite's first.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every checkpoint, not only each model's last.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rank models. Those whose intervals overlap share a rank: 1 + the number that is surely better."""
    with _database().read() as session:
        rows = queries.scores(session, suite=queries.pick_suite(session, suite))
    boards = ranking.boards(rows, metric, "all" if every else "latest")
    if as_json:
        print_json([board_document(board) for board in boards])
        return
    for board in boards:
        for made in board_tables(board, out.width):
            out.print(made)


def board_tables(board: Board, width: int) -> list[Table]:
    """One board, its columns dealt out over as many tables as the width needs; each says who stands where."""
    cells = {}
    for column in board.columns:
        found = [entry.scores.get((column.label, column.protocol)) for entry in board.entries]
        values = [with_error(score.value, score.stderr) if score else "–" for score in found]
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


def _width(heading: str, values: list[str]) -> int:
    return max(map(len, [heading, *values])) + 3


def show_trends(database: Database, suite: str) -> None:
    """The suite's first score over training steps, one row a model, on a logarithmic scale of heights."""
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


def compare(
    a: Annotated[str, typer.Argument(help="model, model@step, alias, digest or the path of what was scored.")],
    b: Annotated[str, typer.Argument(help="The same; differences are b minus a.")],
    suite: SuiteName = None,
    as_json: AsJson = False,
) -> None:
    """Differences of two checkpoints with 95 % intervals. Scores of different protocols are named, not compared."""
    with _database().read() as session:
        chosen = queries.pick_suite(session, suite)
        sides = [queries.side(session, stored_checkpoints.find(session, name), chosen) for name in (a, b)]
        artifacts = open_artifacts(Settings())
        found = [ranking.Side(rows, runs_beside(session, artifacts, rows)) for _, rows in sides]
    show_comparison(chosen, sides[0][0], sides[1][0], ranking.compare(*found), as_json=as_json)


def show_comparison(suite: str, a: str, b: str, differences: list[Difference], *, as_json: bool) -> None:
    """Differences as a table, or for machines."""
    if as_json:
        documents = [difference_document(difference) for difference in differences]
        print_json({"suite": suite, "a": a, "b": b, "differences": documents})
        return
    made = table(f"{suite}: {b} against {a}", "score", a, b, "difference", "95 %", "")
    for difference in differences:
        made.add_row(*_difference_cells(difference))
    out.print(made)
    for reason, labels in ranking.unpaired(differences).items():
        err.print(f"compared as independent: {', '.join(labels)} ({reason})")


def _difference_cells(difference: Difference) -> list[str | Text]:
    row = difference.a or difference.b
    arrow = ARROWS[row.direction] if row else ""
    sides = [with_error(side.value, side.stderr) if side else "–" for side in (difference.a, difference.b)]
    if difference.value is None:
        return [f"{difference.label} {arrow}", *sides, "not comparable", "", difference.reason]
    interval = difference.interval
    bounds = f"[{number(interval[0])}, {number(interval[1])}]" if interval else "unknown"
    style = {"better": "green", "worse": "red"}.get(difference.verdict, "dim")
    verdict = styled(difference.verdict, style)
    return [f"{difference.label} {arrow}", *sides, f"{difference.value:+.4g}", bounds, verdict]


def show(
    checkpoint: Annotated[str, typer.Argument(help="model, model@step, alias, digest or the path of what was scored.")],
    as_json: AsJson = False,
) -> None:
    """All scores of a checkpoint with their protocols, and how they came about."""
    with _database().read() as session:
        found = stored_checkpoints.find(session, checkpoint)
        title = names.title_of(session, found)
        runs = queries.evaluations(session, found.id)
        documents = []
        for run in runs:
            rows = queries.scores(session, evaluation=run.id)
            files = {artifact.kind: artifact.path for artifact in run.artifacts}
            suite = f"{run.suite.name}@{run.suite.version}"
            documents.append(
                {
                    "suite": suite,
                    "status": run.status,
                    "error": run.error,
                    "by": run.by,
                    "scores": [_score_document(row) for row in rows],
                    "provenance": run.provenance,
                    "cost": {
                        "device_seconds": run.device_seconds,
                        "peak_memory_bytes": run.peak_memory,
                        "energy_joules": run.energy,
                    },
                    "files": files,
                    "fingerprint": run.fingerprint,
                }
            )
            if not as_json and rows:
                print_scores(rows, run.provenance)
            elif not as_json:
                out.print(f"{suite}: {run.status}" + (f": {run.error}" if run.error else ""))
            if not as_json and run.provenance:
                _print_provenance(run, files)
    if as_json:
        print_json(
            {
                "name": title,
                "model": found.model.name,
                "family": found.model.family,
                "step": found.step,
                "digest": found.digest,
                "path": found.path,
                "generator": found.generator,
                "generator_version": found.generator_version,
                "options": found.options,
                "configuration": found.configuration,
                "evaluations": documents,
            }
        )


def print_scores(rows: Sequence[ScoreColumns], provenance: Mapping[str, Any]) -> None:
    """The scores of one evaluation as a table, and how many samples of how many they are of."""
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
    for row in rows:
        low_high = f"[{number(row.ci_low)}, {number(row.ci_high)}]" if row.ci_low is not None else "unknown"
        name = f"{row.label} {ARROWS[row.direction]}"
        values = with_error(row.value, row.stderr), low_high, row.unit, _count(row)
        made.add_row(name, *values, row.stderr_method, row.protocol)
    out.print(made)
    if taken := taken_samples(provenance):
        out.print(taken, highlight=False)


def taken_samples(provenance: Mapping[str, Any]) -> str:
    """How many samples of how many an evaluation took; empty where there was nothing to choose from."""
    samples = provenance.get("samples", {})
    if "of" not in samples:
        return ""
    chosen = f", a random part (order {samples['order']})" if samples["taken"] < samples["of"] else ""
    return f"{samples['taken']:,} samples, of {samples['of']:,} in the source{chosen}"


def _print_provenance(run: Evaluation, files: dict[str, str]) -> None:
    provenance = run.provenance
    memory = f"{run.peak_memory / 2**30:.2f} GB at most" if run.peak_memory else ""
    cost = (f"{duration(run.device_seconds)} of the device", memory, energy(run.energy))
    seconds = "  ".join(f"{stage} {spent:.1f} s" for stage, spent in provenance["seconds"].items())
    versions = "  ".join(f"{name} {version}" for name, version in provenance["packages"].items())
    what = run.checkpoint
    lines = {
        "asked for by": run.by,
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
        "not applicable": "; ".join(f"{label}: {why}" for label, why in provenance["not_applicable"].items()),
        **files,
    }
    for name, text in lines.items():
        if text:
            out.print(styled(f"{name:>15}", "dim"), text, sep="  ", highlight=False, soft_wrap=True)


def models(as_json: AsJson = False) -> None:
    """The models, their checkpoints and evaluations, and what these have cost."""
    with _database().read() as session:
        found = queries.models(session)
        costs = queries.costs(session)
    if as_json:
        keys = ("checkpoints", "last_step", "evaluations")
        documents = []
        for model, *counts in found:
            head = {"model": model.name, "family": model.family, **dict(zip(keys, counts, strict=True))}
            documents.append(head | {"cost": asdict(costs.get(model.id, ModelCost()))})
        print_json(documents)
        return
    made = table(
        "models",
        "model",
        "family",
        "checkpoints",
        "last step",
        "evaluations",
        "device time",
        "peak memory",
        "energy",
        right=("checkpoints", "last step", "evaluations", "device time", "peak memory", "energy"),
    )
    for model, count, last, evaluations in found:
        cost = costs.get(model.id, ModelCost())
        at_least = "≥ " if cost.metered < cost.evaluations else ""
        made.add_row(
            *(model.name, model.family, str(count), str(last), str(evaluations)),
            duration(cost.device_seconds),
            f"{cost.peak_memory / 2**30:.2f} GB" if cost.peak_memory else "–",
            at_least + energy(cost.energy) if cost.energy else "–",
        )
    out.print(made)


def checkpoints(
    model: Annotated[str | None, typer.Argument(help="Only this model's.")] = None,
    as_json: AsJson = False,
) -> None:
    """The checkpoints, by model and step."""
    with _database().read() as session:
        found = queries.checkpoints(session, model)
        marks = names.marks(session, {row.id for row in found})
    if as_json:
        print_json(
            [
                {
                    "name": names.title(each, marks),
                    "model": each.model.name,
                    "step": each.step,
                    "mark": marks.get(each.id, ""),
                    "digest": each.digest,
                    "path": each.path,
                    "generator": each.generator,
                    "generator_version": each.generator_version,
                    "options": each.options,
                }
                for each in found
            ]
        )
        return
    made = table("checkpoints", "model", "step", "generator", "digest", "path", right=("step",))
    for checkpoint in found:
        name, path = checkpoint.model.name, printable(checkpoint.path)
        step = f"{checkpoint.step}{marks.get(checkpoint.id, '')}"
        made.add_row(name, step, checkpoint.generator, checkpoint.digest[:12], path)
    out.print(made)


def export(
    path: Annotated[Path, typer.Argument(help="File to write: .csv, .parquet or .json.")],
    suite: Annotated[str | None, typer.Option(help="Only this suite's scores.")] = None,
) -> None:
    """Write all current scores to a file, one row a score."""
    import pandas as pd

    with _database().read() as session:
        rows = queries.scores(session, suite=queries.pick_suite(session, suite) if suite else None)
        what = {row.id: row for row in queries.checkpoints(session)}
    columns = [each.name for each in fields(ScoreColumns)]
    columns += ["name", "generator", "generator_version", "options"]
    table = [_exported(row, what[row.checkpoint_id]) for row in rows]
    frame = pd.DataFrame(table, columns=columns)
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda to: to.write_text(as_csv(table, columns), newline=""),
        ".parquet": lambda to: frame.to_parquet(to, index=False),
        ".json": lambda to: frame.to_json(to, orient="records", date_format="iso", indent=2),
    }
    if path.suffix not in writers:
        raise InputError(f"cannot export to {path}: name a file that ends in {', '.join(writers)}")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        writers[path.suffix](temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written ({error.strerror or first_line(error)})") from None
    err.print(f"{len(frame)} scores written to {path}")


def _exported(row: ScoreRow, checkpoint: Checkpoint) -> dict[str, Any]:
    """A score as a row of a file, with the configuration that it belongs to; the options as JSON."""
    columns = {each.name: getattr(row, each.name) for each in fields(ScoreColumns)}
    options = json.dumps(checkpoint.options, sort_keys=True)
    generator = {"generator": checkpoint.generator, "generator_version": checkpoint.generator_version}
    return columns | {"name": row.name, **generator, "options": options}


def evaluation_document(rows: Sequence[ScoreColumns]) -> dict[str, Any]:
    """One evaluation's scores for machines."""
    first = rows[0]
    who = {"name": first.name, "model": first.model, "step": first.step, "mark": first.mark, "digest": first.digest}
    what = {"suite": first.suite, "evaluation": first.evaluation_id}
    return who | what | {"scores": [_score_document(row) for row in rows]}


def board_document(board: Board) -> dict[str, Any]:
    """A board for machines."""
    entries = [
        {
            "rank": entry.rank,
            "name": f"{entry.model}@{entry.step}{entry.mark}",
            "model": entry.model,
            "family": entry.family,
            "step": entry.step,
            "digest": entry.digest,
            "mark": entry.mark,
            "scores": [_score_document(row) for row in entry.scores.values()],
        }
        for entry in board.entries
    ]
    by = {"score": board.ranked_by.label, "direction": board.ranked_by.direction, "protocol": board.ranked_by.protocol}
    return {"suite": board.suite, "ranked_by": by, "entries": entries}


def difference_document(difference: Difference) -> dict[str, Any]:
    """A difference for machines."""
    return {
        "score": difference.label,
        "a": difference.a.value if difference.a else None,
        "b": difference.b.value if difference.b else None,
        "difference": difference.value,
        "stderr": difference.stderr,
        "interval": difference.interval,
        "paired": difference.paired,
        "unpaired": difference.unpaired or None,
        "independent": difference.independent,
        "verdict": difference.verdict,
        "reason": difference.reason or None,
    }


def _count(row: ScoreColumns) -> str:
    """The number of samples, and of independent units where these are fewer."""
    fewer = row.independent is not None and row.independent != row.n
    return f"{row.n} of {row.independent} {row.independent_unit}" if fewer else str(row.n)


def _score_document(row: ScoreColumns) -> dict[str, Any]:
    return {key: getattr(row, key) for key in queries.SCORE_VALUES if key != "position"}


def _database() -> Database:
    return Database(Settings().database)
