"""``evalsvc --server URL COMMAND``: the commands that a server supports, run there instead of on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from evalsvc.api.client import Client, ClientError
from evalsvc.cli import alias, browse, gate, items, queue, remote_gate, submit
from evalsvc.cli.backends.server import Server
from evalsvc.cli.console import err

app = typer.Typer(
    help="Commands on a server. EVALSVC_TOKEN contains the token.", no_args_is_help=True, pretty_exceptions_enable=False
)
SHARED: tuple[Callable[..., None], ...] = (
    browse.leaderboard,
    browse.ratings,
    browse.compare,
    items.items,
    browse.models,
    browse.checkpoints,
    submit.submit,
    queue.wait,
    queue.status,
    queue.cancel,
    queue.retry,
)
for command in SHARED:
    app.command()(command)
gates = typer.Typer(help="Decide whether a release may ship.", no_args_is_help=True)
gates.command("run")(remote_gate.run)
gates.command("history")(gate.history)
app.add_typer(gates, name="gate")
app.add_typer(alias.app, name="alias")


@app.callback()
def connect(context: typer.Context, server: Annotated[str, typer.Option(help="URL of the server.")]) -> None:
    """Open the client that all commands use."""
    context.obj = Server(context.with_resource(Client(server)))


def run() -> None:
    """Entry point of ``--server``: refusals of the server exit with 2, an unreachable server with 6, as for gates."""
    try:
        app()
    except ClientError as error:
        err.print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        sys.exit(gate.UNAVAILABLE if error.status in (0, 503) else 2)
