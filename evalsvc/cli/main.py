"""``evalsvc``: one command per question."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, TextIO, cast

import typer
from sqlalchemy.exc import DBAPIError

from evalsvc.cli import (
    agreement,
    alias,
    audit,
    browse,
    cache,
    dashboard,
    export,
    gate,
    gate_advice,
    items,
    judge,
    manage,
    queue,
    rescore,
    score,
    serve,
    statistics,
    submit,
    watch,
    weights,
)
from evalsvc.cli.backends.local import Local
from evalsvc.cli.console import Checked, err
from evalsvc.core.errors import EvalsvcError, detail_of
from evalsvc.core.observability import logs
from evalsvc.metrics.score import MetricError
from evalsvc.store.faults import sentence

app = typer.Typer(
    help="Score checkpoints of generative models and compare them over time, with the uncertainty of every number.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Score": {
        "demo": score.demo,
        "score": score.score,
        "rescore": rescore.rescore,
        "watch": watch.watch,
        "judge": judge.judge,
    },
    "Queue": {
        "submit": submit.submit,
        "wait": queue.wait,
        "status": queue.status,
        "cancel": queue.cancel,
        "retry": queue.retry,
    },
    "Read": {
        "leaderboard": browse.leaderboard,
        "ratings": browse.ratings,
        "agreement": agreement.agreement,
        "compare": browse.compare,
        "items": items.items,
        "show": browse.show,
        "models": browse.models,
        "checkpoints": browse.checkpoints,
        "export": export.export,
    },
    "Gate": {"gate": gate.app, "alias": alias.app},
    "Serve": {
        "dashboard": dashboard.dashboard,
        "serve": serve.serve,
        "worker": queue.worker,
        "token": serve.token,
        "audit": audit.app,
    },
    "Manage": {
        "suite": manage.suite,
        "reference": manage.reference,
        "plugins": manage.plugins,
        "weights": weights.app,
        "cache": cache.app,
        "db": manage.db,
        "doctor": manage.doctor,
    },
}
"""Commands grouped by task."""

manage.reference.command("statistics")(statistics.convert)
gate.app.command("init")(gate_advice.init)
gate.app.command("explain")(gate_advice.explain)
for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"evalsvc {importlib.metadata.version('evalsvc')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(help="Use this server; 'evalsvc --server URL --help' lists the commands that support it."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Score checkpoints of generative models, compare them over time, and keep every number's uncertainty."""
    context.obj = Local()


def run() -> None:
    """Entry point: expected errors are one sentence and exit with 2."""
    sys.stdout = cast(TextIO, Checked(sys.stdout))
    logs.setup_command()
    try:
        if len(sys.argv) > 1 and sys.argv[1].partition("=")[0] == "--server":
            from evalsvc.cli import remote  # only this branch needs the client, whose import is slow

            remote.run()
        app()
    except (EvalsvcError, MetricError) as error:
        _say(error)
        sys.exit(2)
    except DBAPIError as error:
        _say(sentence(error))
        sys.exit(2)


def _say(error: object) -> None:
    detail = detail_of(error) if isinstance(error, BaseException) else ""
    with suppress(OSError):  # standard error itself may be full
        err.print(f"error: {error}{f' ({detail})' if detail else ''}", style="red", highlight=False, soft_wrap=True)
