"""``export``: all current scores as a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from evalsvc.cli.console import err
from evalsvc.core.columns import ScoreColumns
from evalsvc.core.errors import InputError, first_line
from evalsvc.core.settings import Settings
from evalsvc.core.spreadsheets import as_csv
from evalsvc.store import queries
from evalsvc.store.queries import ScoreRow
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint


def export(
    path: Annotated[Path, typer.Argument(help="File to write: .csv, .parquet or .json.")],
    suite: Annotated[str | None, typer.Option(help="Only scores of this suite.")] = None,
) -> None:
    """Write all current scores to a file, one row per score."""
    import pandas as pd

    with Database(Settings().database).read() as session:
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
        raise InputError(f"cannot export to {path}: use a file name that ends in {', '.join(writers)}")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        writers[path.suffix](temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written ({error.strerror or first_line(error)})") from None
    err.print(f"wrote {len(frame)} scores to {path}")


def _exported(row: ScoreRow, checkpoint: Checkpoint) -> dict[str, Any]:
    """A score as a row of the file, with its configuration; options are JSON."""
    columns = {each.name: getattr(row, each.name) for each in fields(ScoreColumns)}
    options = json.dumps(checkpoint.options, sort_keys=True)
    generator = {"generator": checkpoint.generator, "generator_version": checkpoint.generator_version}
    return columns | {"name": row.name, **generator, "options": options}
