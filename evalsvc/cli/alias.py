"""``alias``: names that point at checkpoints, and the gate that lets one be moved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalsvc.cli.console import err, out, print_json, table
from evalsvc.cli.gate import AsJson, Stored, open_gate, reachable, show_decision
from evalsvc.cli.score import Device, PluginFiles
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.store import audit, names
from evalsvc.store.session import Database

if TYPE_CHECKING:
    from evalsvc.gates.runner import Recorded

app = typer.Typer(help="Names that point at checkpoints.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Alias, such as production.")]


@app.command("set")
def alias_set(
    name: Name,
    checkpoint: Annotated[
        str, typer.Argument(help="model@step, model, alias, digest, or the path of what was scored.")
    ],
    require_gate: Annotated[Path | None, typer.Option(help="Policy that the checkpoint must pass first.")] = None,
    by_gate: Annotated[int | None, typer.Option("--gate", help="A gate that this checkpoint has passed.")] = None,
    reason: Annotated[str, typer.Option(help="Why; a protected alias goes back to an earlier checkpoint by it.")] = "",
    stored: Stored = False,
    device: Device = "auto",
    plugin: PluginFiles = None,
) -> None:
    """Point an alias at a checkpoint; with --require-gate only if it passes now. The decision is always recorded.

    A protected alias moves by a gate under the pinned policy (--require-gate or --gate), for the first time, or back
    to an earlier checkpoint with a --reason.
    """
    from evalsvc.gates.promote import check_policy, promote, protection
    from evalsvc.inputs import stored_checkpoints

    if require_gate is not None and by_gate is not None:
        raise InputError("give --require-gate, which runs a gate, or --gate, which names one that was run")
    gate: Recorded | None = None
    target: str | int = checkpoint
    with reachable():
        if require_gate is None:
            database = Database(Settings().database)
            with database.read() as session:
                target = stored_checkpoints.find(session, checkpoint).id
        else:
            from evalsvc.evaluation.context import EvaluationContext
            from evalsvc.gates.candidate import Asked
            from evalsvc.gates.several import run_policy
            from evalsvc.store.tables import Checkpoint

            opened = open_gate(require_gate, plugin, None if stored else device, 250)
            read, suites, database, context, plugins = opened
            with database.read() as session:
                check_policy(name, protection(session, name), read.digest)
            anew = partial(EvaluationContext, Settings(), plugins, "cpu")
            wanted = partial(Asked(checkpoint, Naming()).find, suites[0], database, plugins, context)
            gate = run_policy(read, database, suites, context, candidate=wanted, plugins=plugins, open_bench=anew)
            show_decision(gate.id, gate.document)
            if gate.document["verdict"]["status"] != "PASS":
                err.print(f"{name} stays as it is", style="red")
                raise typer.Exit(gate.exit_code or 4)
            judged = gate.decision.sides.candidate
            assert isinstance(judged, Checkpoint)
            target = judged.id
        number = gate.id if gate else by_gate
        now_at = promote(database, name, target, number, by=audit.current().name, reason=reason)
    err.print(f"{name} is now {now_at}" + (f", by gate {number}" if number else ""))


@app.command("protect")
def alias_protect(
    name: Name,
    policy: Annotated[Path, typer.Option(help="Policy by whose decisions alone the alias moves from now on.")],
    plugin: PluginFiles = None,
) -> None:
    """Pin a policy and its suite: the alias then moves only by a gate under exactly this policy."""
    from evalsvc.gates.promote import protect

    with reachable():
        read, suites, database, *_ = open_gate(policy, plugin, None, 1)
        with database.write() as session:
            pinned = protect(session, name, read, suites, audit.current().name)
    if read.baseline is not None and str(read.baseline) != f"alias {name}":
        err.print(
            f"warning: the policy compares with {read.baseline}, and {name} moves only by gates that compared with "
            f"what it points at: use 'baseline: {{alias: {name}}}'",
            style="yellow",
            soft_wrap=True,
        )
    err.print(f"{name} is protected by policy {read.digest[:12]} under {pinned.suite}")


@app.command("unprotect")
def alias_unprotect(name: Name) -> None:
    """End the protection of an alias; that it was protected stays in its history."""
    from evalsvc.gates.promote import unprotect

    with reachable(), Database(Settings().database).write() as session:
        unprotect(session, name, audit.current().name)
    err.print(f"{name} is no longer protected")


@app.command("list")
def alias_list(as_json: AsJson = False) -> None:
    """Every alias, what it points at, and the policy that protects it."""
    from evalsvc.store import queries

    with Database(Settings().database).read() as session:
        aliases = queries.aliases(session)
        titles = names.titles(session, [row.checkpoint for row in aliases])
        pinned = {row.alias: row.policy_digest for row in queries.protections(session) if row.ended_at is None}
    targets = dict.fromkeys(pinned, "") | {row.name: titles[row.checkpoint_id] for row in aliases}
    show_aliases([(name, targets[name], pinned.get(name)) for name in sorted(targets)], as_json=as_json)


@app.command("history")
def alias_history(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="How many moves.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Where an alias pointed, the newest first: who moved it, how, and by which decision; and what protected it."""
    from evalsvc.store import queries

    with Database(Settings().database).read() as session:
        moves = queries.promotions(session, name, limit)
        titles = names.titles(session, [move.checkpoint for move in moves])
        pinned = queries.protections(session, name)
    if not moves and not pinned:
        raise InputError(f"alias {name!r} was never set: 'evalsvc alias list' shows those that were")
    events: list[tuple[Any, dict[str, Any]]] = [
        (
            move.created_at,
            {
                "event": move.kind,
                "checkpoint": titles[move.checkpoint_id],
                "gate": move.gate_id,
                "policy": None,
                "by": move.by,
                "reason": move.reason,
            },
        )
        for move in moves
    ]
    for rule in pinned:
        fact: dict[str, Any] = {"checkpoint": None, "gate": None, "policy": rule.policy_digest, "reason": ""}
        events.append((rule.created_at, {"event": "protected", "by": rule.by} | fact))
        if rule.ended_at is not None:
            events.append((rule.ended_at, {"event": "protection ended", "by": rule.ended_by or ""} | fact))
    events.sort(key=lambda event: event[0], reverse=True)
    documents = [{"at": at.isoformat(timespec="seconds")} | facts for at, facts in events]
    if as_json:
        print_json(documents)
        return
    made = table(f"alias {name}", "at", "event", "checkpoint", "gate", "policy", "by", "reason")
    for each in documents:
        row = dict(
            each, policy=(each["policy"] or "")[:12], gate=each["gate"] or "", checkpoint=each["checkpoint"] or ""
        )
        made.add_row(*(str(row[key]) for key in ("at", "event", "checkpoint", "gate", "policy", "by", "reason")))
    out.print(made)


def show_aliases(rows: Sequence[tuple[str, str, str | None]], *, as_json: bool) -> None:
    """Name, checkpoint and digest of the pinned policy of each alias."""
    if as_json:
        pinned = {name: {"protected_by": digest} if digest else {} for name, _, digest in rows}
        print_json([{"alias": name, "checkpoint": target or None} | pinned[name] for name, target, _ in rows])
        return
    made = table("aliases", "alias", "checkpoint", "protected by policy")
    for name, target, digest in rows:
        made.add_row(name, target or "never set", (digest or "–")[:12])
    out.print(made)
