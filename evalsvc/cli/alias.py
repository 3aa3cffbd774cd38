"""``alias``: names that point at checkpoints, and the gate that lets one be moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from evalsvc.cli.console import err, out, print_json, table
from evalsvc.cli.gate import AsJson, Stored, open_gate, reachable, show_decision
from evalsvc.cli.score import Device, PluginFiles
from evalsvc.settings import Settings
from evalsvc.store.session import Database

if TYPE_CHECKING:
    from evalsvc.gates.gate import Recorded

app = typer.Typer(help="Names that point at checkpoints.", no_args_is_help=True)


@app.command("set")
def alias_set(
    name: Annotated[str, typer.Argument(help="Alias, such as production.")],
    checkpoint: Annotated[str, typer.Argument(help="model@step, model, alias or digest.")],
    require_gate: Annotated[Path | None, typer.Option(help="Policy that the checkpoint must pass first.")] = None,
    stored: Stored = False,
    device: Device = "auto",
    plugin: PluginFiles = None,
) -> None:
    """Point an alias at a checkpoint; with --require-gate only if it passes now. The decision is always recorded."""
    from evalsvc.gates.promote import promote

    gate: Recorded | None = None
    target: str | int = checkpoint
    with reachable():
        if require_gate is None:
            database = Database(Settings().database)
        else:
            from evalsvc.gates.gate import run_gate
            from evalsvc.store.tables import Checkpoint

            read, suite, database, bench = open_gate(require_gate, plugin, None if stored else device, 250)
            gate = run_gate(read, database, suite, bench, candidate=checkpoint)
            show_decision(gate.id, gate.document)
            if gate.document["verdict"]["status"] != "PASS":
                err.print(f"{name} stays as it is", style="red", markup=False)
                raise typer.Exit(gate.exit_code or 4)
            judged = gate.decision.sides.candidate
            assert isinstance(judged, Checkpoint)
            target = judged.id
        now_at = promote(database, name, target, gate.id if gate else None)
    err.print(f"{name} is now {now_at}" + (f", by gate {gate.id}" if gate else ""), markup=False)


@app.command("list")
def alias_list(as_json: AsJson = False) -> None:
    """Every alias and what it points at."""
    from evalsvc.store import names, queries

    with Database(Settings().database).read() as session:
        found = queries.aliases(session)
        titles = names.titles(session, [row.checkpoint for row in found])
        rows = [(row.name, titles[row.checkpoint_id]) for row in found]
    if as_json:
        print_json([{"alias": name, "checkpoint": target} for name, target in rows])
        return
    made = table("aliases", "alias", "checkpoint")
    for row in rows:
        made.add_row(*map(escape, row))
    out.print(made)
