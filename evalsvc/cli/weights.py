"""``evalsvc weights``: the published weights of extractors."""

from __future__ import annotations

from typing import Annotated

import typer

from evalsvc.cli.console import err, out, print_json, table
from evalsvc.core.errors import InputError

app = typer.Typer(help="List, download and verify published weights of extractors.", no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Argument(help="Names from 'evalsvc weights list'; all by default.")]


@app.command("list")
def weights_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """List all weight files: extractor, presence, digest."""
    from evalsvc.inputs import published_weights

    rows = [
        {
            "name": file.name,
            "used by": file.used_by,
            "status": str(published_weights.status(file)),
            "file": file.file_names[0],
            "sha256": file.sha256,
            "path": str(published_weights.find(file) or ""),
        }
        for file in published_weights.WEIGHTS.values()
    ]
    if as_json:
        print_json(rows)
        return
    made = table(f"weights in {published_weights.weights_folder()}", *list(rows[0])[:4], "sha256")
    for row in rows:
        made.add_row(*(row[key] for key in list(row)[:4]), row["sha256"][:16])
    out.print(made)


@app.command("fetch")
def weights_fetch(names: Names = None) -> None:
    """Download missing files, verify them, and print their paths; a failed download does not stop the others."""
    from evalsvc.inputs import published_weights

    reasons = []
    for file in [published_weights.get(name) for name in names or published_weights.WEIGHTS]:
        try:
            out.print(str(published_weights.locate(file)), soft_wrap=True)
        except InputError as error:
            reasons.append(str(error))
    if reasons:
        raise InputError("\nerror: ".join(reasons))


@app.command("verify")
def weights_verify(names: Names = None) -> None:
    """Verify the digests of downloaded files; a damaged file, or a missing one that was named, exits with 2."""
    from evalsvc.inputs import published_weights

    bad = []
    for file in [published_weights.get(name) for name in names or published_weights.WEIGHTS]:
        found = published_weights.status(file)
        err.print(f"{file.name}: {found}")
        if found is published_weights.Status.DAMAGED or (names and found is published_weights.Status.ABSENT):
            bad.append(f"{file.name} ({found})")
    if bad:
        raise InputError(f"weights differ from the published files: {', '.join(bad)}; see 'evalsvc weights list'")
