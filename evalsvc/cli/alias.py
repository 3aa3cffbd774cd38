"""``alias``: names that point to checkpoints, and the gates that permit their moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsvc.api.schemas import PromoteOptions
from evalsvc.cli.backends import Answer, backend
from evalsvc.cli.console import err, table
from evalsvc.cli.gate import Stored, open_gate, show_decision, unavailable_exits_6
from evalsvc.cli.options import AsJson, Device, PluginFiles, takes
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.store import audit

if TYPE_CHECKING:
    pass

app = typer.Typer(help="Manage names that point to checkpoints.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Alias, such as production.")]


@app.command("set")
@takes(PromoteOptions)
def alias_set(
    context: typer.Context,
    name: Name,
    checkpoint: Annotated[
        str, typer.Argument(help="model@step, model, alias, digest, or the path of a scored checkpoint.")
    ],
    asked: PromoteOptions,
    require_gate: Annotated[Path | None, typer.Option(help="Policy that the checkpoint must pass first.")] = None,
    stored: Stored = False,
    device: Device = "auto",
    plugin: PluginFiles = None,
) -> None:
    """Point an alias to a checkpoint; with --require-gate only if it passes now. The decision is always recorded.

    A protected alias moves by a gate under the pinned policy (--require-gate or --gate), to its first checkpoint, or
    back to an earlier checkpoint with a --reason. With --server, an unprotected alias requires scope admin.
    """
    if require_gate is not None and asked.gate is not None:
        raise InputError("pass either --require-gate, which runs a gate, or --gate, which uses an existing one")
    number = asked.gate
    if require_gate is None:
        now_at = backend(context).promote(name, checkpoint, asked)
    elif not backend(context).here:
        raise InputError(
            "--require-gate runs a gate on this machine: with --server use 'gate run', and pass its number with --gate"
        )
    else:
        number, now_at = _set_by_gate(name, checkpoint, asked.reason, require_gate, stored, device, plugin)
    err.print(f"{name} is now {now_at}" + (f", by gate {number}" if number else ""))


def _set_by_gate(
    name: str, checkpoint: str, reason: str, policy: Path, stored: bool, device: str, plugin: list[Path] | None
) -> tuple[int, str]:
    """Run a gate and move the alias if it passed; return the number of the gate and the checkpoint's name."""
    from evalsvc.gates.candidate import RequestedCandidate
    from evalsvc.gates.promote import check_policy, promote, protection
    from evalsvc.store.tables import Checkpoint

    with unavailable_exits_6():
        opened = open_gate(policy, plugin, None if stored else device, 250)
        with opened.database.read() as session:
            check_policy(name, protection(session, name), opened.policy.digest)
        gate = opened.decide(RequestedCandidate(checkpoint, Naming()))
        show_decision(gate.id, gate.document)
        if gate.document["verdict"]["status"] != "PASS":
            err.print(f"{name} is unchanged", style="red")
            raise typer.Exit(gate.exit_code or 4)
        judged = gate.decision.sides.candidate
        assert isinstance(judged, Checkpoint)
        return gate.id, promote(opened.database, name, judged.id, gate.id, by=audit.current().name, reason=reason)


@app.command("protect")
def alias_protect(
    context: typer.Context,
    name: Name,
    policy: Annotated[Path, typer.Option(help="Policy whose decisions alone may move the alias from now on.")],
    plugin: PluginFiles = None,
) -> None:
    """Pin a policy and its suite: only gates under exactly this policy can then move the alias."""
    pinned = backend(context).protect(name, policy, plugin or ())
    if pinned.warning:
        err.print(pinned.warning, style="yellow", soft_wrap=True)
    err.print(f"{name} is protected by policy {pinned.policy_digest[:12]} under {pinned.suite}")


@app.command("unprotect")
def alias_unprotect(context: typer.Context, name: Name) -> None:
    """End the protection of an alias; the protection stays in its history."""
    backend(context).unprotect(name)
    err.print(f"{name} is no longer protected")


@app.command("list")
def alias_list(context: typer.Context, as_json: AsJson = False) -> None:
    """List every alias with its checkpoint and the policy that protects it."""
    backend(context).aliases().show(as_json=as_json)


@app.command("history")
def alias_history(
    context: typer.Context,
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of moves.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the moves of an alias, newest first: user, kind, decision or reason, and protections."""
    backend(context).alias_history(name, limit).show(as_json=as_json)


def show_aliases(rows: Sequence[tuple[str, str, str | None]]) -> Answer:
    """Print name, checkpoint and digest of the pinned policy of each alias, for ``alias list``."""
    pinned = {name: {"protected_by": digest} if digest else {} for name, _, digest in rows}
    made = table("aliases", "alias", "checkpoint", "protected by policy")
    for name, target, digest in rows:
        made.add_row(name, target or "never set", (digest or "–")[:12])
    return Answer([{"alias": name, "checkpoint": target or None} | pinned[name] for name, target, _ in rows], [made])
