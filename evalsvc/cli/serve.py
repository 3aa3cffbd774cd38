"""``serve`` and ``token``: the HTTP API and its tokens."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from evalsvc.api.server import token_store
from evalsvc.cli.console import err, out, print_json, table
from evalsvc.cli.options import AsJson, PluginFiles
from evalsvc.core.errors import InputError
from evalsvc.core.observability import telemetry
from evalsvc.core.settings import Settings
from evalsvc.store.session import Database
from evalsvc.store.tables import Scope

token = typer.Typer(help="Manage tokens of the HTTP API.", no_args_is_help=True)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; for other machines see docs/guides/api.md.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8642,
    plugin: PluginFiles = None,
) -> None:
    """Serve the HTTP API. Every request requires a token ('evalsvc token create')."""
    try:
        import uvicorn

        from evalsvc.api.server.access_log import Repeats
        from evalsvc.api.server.app import create_app
        from evalsvc.api.server.bind_address import hosts_for
        from evalsvc.api.server.connections import ConnectionLimits, configured, open_files
        from evalsvc.api.server.state import Server, ServerSettings
        from evalsvc.inputs.server_file import server_file
    except ImportError as error:
        raise InputError(f"the server is not installed ({error}): pip install 'evalsvc[server]'") from None
    settings = ServerSettings()
    server_file()  # an invalid setting must end the command, not each request
    opened = Settings()
    telemetry.begin(opened)
    server = Server.open(opened, settings, tuple(Path(file).resolve() for file in plugin or ()))
    known = token_store.usable(server.database)
    hosts = hosts_for(host, settings.allowed_hosts, known)
    if not known:
        err.print("there are no tokens, so every request will be refused: create one with 'evalsvc token create NAME'")
    logging.getLogger("uvicorn.error").addFilter(Repeats())
    server.task_processes.warm()
    limits = ConnectionLimits(open_files(settings.connections), settings.connections_per_address)
    config = configured(
        create_app(server, hosts),
        host,
        port,
        limits,
        settings.trusted_proxies,
        log_config=None,  # uvicorn's messages use our handlers; requests are logged by the middleware
        access_log=False,
        timeout_graceful_shutdown=5,  # an event stream lasts as long as its evaluation
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()


@token.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="Owner: a person or a CI job.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="Scope of the token; may be repeated.")] = None,
    days: Annotated[int, typer.Option(min=0, max=36500, help="Days until it expires; 0 for never.")] = 90,
) -> None:
    """Create a token and print it. Its secret is not stored and cannot be shown again."""
    lifetime = timedelta(days=days) if days else None
    row, secret = token_store.create(Database(Settings().database), name, scope or [Scope.READ], lifetime)
    until = f"until {row.expires_at:%Y-%m-%d}" if row.expires_at else "no expiry"
    err.print(f"token {row.id} for {name}: {', '.join(row.scopes)}, {until}; shown only once")
    out.print(secret, highlight=False, soft_wrap=True)


@token.command("list")
def token_list(as_json: AsJson = False) -> None:
    """List tokens with their scopes and last use."""
    from sqlalchemy import select

    from evalsvc.store.tables import Token

    with Database(Settings().database).read() as session:
        rows = list(session.scalars(select(Token).order_by(Token.id)))
    headings = ("id", "name", "scopes", "created_at", "expires_at", "last_used_at")
    if as_json:
        print_json([{key: getattr(row, key) for key in headings} for row in rows])
        return
    made = table("tokens", "id", "name", "scopes", "made", "ends", "last used")
    for row in rows:
        moments = [f"{moment:%Y-%m-%d %H:%M}" if moment else "never" for moment in (row.expires_at, row.last_used_at)]
        made.add_row(str(row.id), row.name, ", ".join(row.scopes), f"{row.created_at:%Y-%m-%d %H:%M}", *moments)
    out.print(made)


@token.command("revoke")
def token_revoke(number: Annotated[int, typer.Argument(help="Id from 'evalsvc token list'.")]) -> None:
    """Revoke a token at once."""
    token_store.revoke(Database(Settings().database), number)
    err.print(f"token {number} is revoked")
