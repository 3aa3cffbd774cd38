"""``evalsvc cache``: cached arrays of references, and garbage collection of unused files."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.filesize import decimal

from evalsvc.cli.console import err, out, print_json, table
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.store import audit
from evalsvc.store.session import Database

HEADINGS = ("reference", "half", "extractor and backend", "files", "size")
app = typer.Typer(help="List and prune cached arrays of references; delete unused files.", no_args_is_help=True)


@app.command("list")
def cache_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """List cached arrays: reference and split, extractor and backend, size."""
    from dataclasses import asdict

    from evalsvc.inputs.reference_features import entries
    from evalsvc.plugins.registry import Plugins
    from evalsvc.store.artifacts import open_artifacts

    settings = Settings()
    found = entries(open_artifacts(settings), Database(settings.database), Plugins())
    if as_json:
        documents = (asdict(entry).items() for entry in found)
        print_json([{"half" if key == "split" else key: value for key, value in facts} for facts in documents])
        return
    size = decimal(sum(entry.bytes for entry in found))
    made = table(f"{size} of cached reference arrays", *HEADINGS, right=HEADINGS[3:])
    for entry in found:
        reference = entry.reference or f"none ({entry.digest[:12]})"
        made.add_row(reference, entry.split, entry.extractor, str(entry.files), decimal(entry.bytes))
    out.print(made)


@app.command("prune")
def cache_prune(
    reference: Annotated[list[str] | None, typer.Option(help="Remove the arrays of this reference.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all arrays.")] = False,
) -> None:
    """Remove arrays that no reference uses, or those that the options select; they can be extracted again."""
    from evalsvc.inputs.reference_features import entries, prune
    from evalsvc.plugins.registry import Plugins
    from evalsvc.store.artifacts import open_artifacts

    settings = Settings()
    artifacts, database = open_artifacts(settings), Database(settings.database)
    found = entries(artifacts, database, Plugins())
    unknown = set(reference or ()) - {entry.reference for entry in found}
    if unknown:
        raise InputError(f"there are no cached arrays of reference {min(unknown)!r}: see 'evalsvc cache list'")
    named = set(reference or ("",))
    doomed = [entry for entry in found if everything or entry.reference in named]
    with database.write() as session:  # first the files, so that every remaining file has a row
        for entry in doomed:
            audit.record(session, audit.Action.CACHE_PRUNE, f"cache {entry.key}", {"reference": entry.reference})
    err.print(f"removed {len(doomed)} of {len(found)} entries, {decimal(prune(artifacts, doomed))}")


@app.command("sweep")
def cache_sweep(
    days: Annotated[float, typer.Option(min=0, max=36500, help="Keep files that are younger.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the files that would be deleted.")] = False,
) -> None:
    """Delete shards of failed or canceled evaluations, uploads without scores, and partial files of killed processes.

    A retry computes such shards again, and requires such an upload again.
    """
    from datetime import timedelta

    from evalsvc.core.files.atomic_files import file_time
    from evalsvc.evaluation.garbage_collection import orphaned_shards, partial_files, unused_uploads
    from evalsvc.store.artifacts import open_artifacts
    from evalsvc.store.session import database_time

    settings, remove = Settings(), not dry_run
    database, artifacts, size = Database(settings.database), open_artifacts(settings), 0
    age = timedelta(days=days)
    before = database_time(database) - age
    for removable in (
        orphaned_shards(database, artifacts, before, remove=remove),
        unused_uploads(database, settings.uploads, before, remove=remove),
        partial_files(artifacts, file_time(artifacts.root) - age, remove=remove),
    ):
        for each in removable:
            size += each.bytes
            out.print(each.name, highlight=False, soft_wrap=True)
    err.print(f"{'would free' if dry_run else 'freed'} {decimal(size)}")
