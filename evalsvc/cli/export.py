"""``export``: all current scores as a file, or the samples of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalsvc.cli.console import err
from evalsvc.cli.items import stored_tables
from evalsvc.core.columns import ScoreColumns
from evalsvc.core.errors import InputError, first_line
from evalsvc.core.settings import Settings
from evalsvc.core.spreadsheets import as_csv
from evalsvc.store import queries
from evalsvc.store.queries import ScoreRow
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint

if TYPE_CHECKING:
    from evalsvc.analysis.items import ItemTable


def export(
    path: Annotated[Path, typer.Argument(help="File to write: .csv, .parquet or .json.")],
    suite: Annotated[str | None, typer.Option(help="Only scores of this suite.")] = None,
    items: Annotated[
        str | None,
        typer.Option(help="Checkpoint whose samples are written instead, one row each, to a .parquet file."),
    ] = None,
) -> None:
    """Write all current scores to a file, one row per score; with ``--items``, the samples of a checkpoint."""
    from evalsvc.analysis.item_export import export_items

    if items is not None:
        _write(path, {".parquet": lambda to: export_items(_table(items, suite), to)}, "samples")
        return
    import pandas as pd

    with Database(Settings().database).read() as session:
        rows = queries.scores(session, suite=queries.pick_suite(session, suite) if suite else None)
        what = {row.id: row for row in queries.checkpoints(session)}
    columns = [each.name for each in fields(ScoreColumns)]
    columns += ["name", "generator", "generator_version", "options"]
    table = [_exported(row, what[row.checkpoint_id]) for row in rows]
    frame = pd.DataFrame(table, columns=columns)

    def done(_: object) -> int:
        return len(frame)

    writers: dict[str, Callable[[Path], int]] = {
        ".csv": lambda to: done(to.write_text(as_csv(table, columns), newline="")),
        ".parquet": lambda to: done(frame.to_parquet(to, index=False)),
        ".json": lambda to: done(frame.to_json(to, orient="records", date_format="iso", indent=2)),
    }
    _write(path, writers, "scores")


def _table(checkpoint: str, suite: str | None) -> ItemTable:
    (table,) = stored_tables(Database(Settings().database), suite, checkpoint)
    return table


def _write(path: Path, writers: Mapping[str, Callable[[Path], int]], what: str) -> None:
    """Write by the suffix of a path, atomically; a writer returns the number of rows."""
    if path.suffix not in writers:
        raise InputError(f"cannot export {what} to {path}: use a file name that ends in {', '.join(writers)}")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        count = writers[path.suffix](temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path} could not be written ({error.strerror or first_line(error)})") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    err.print(f"wrote {count} {what} to {path}")


def _exported(row: ScoreRow, checkpoint: Checkpoint) -> dict[str, Any]:
    """A score as a row of the file, with its configuration; options are JSON."""
    columns = {each.name: getattr(row, each.name) for each in fields(ScoreColumns)}
    options = json.dumps(checkpoint.options, sort_keys=True)
    generator = {"generator": checkpoint.generator, "generator_version": checkpoint.generator_version}
    return columns | {"name": row.name, **generator, "options": options}
