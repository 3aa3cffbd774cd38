"""``evalsvc``: one command a question."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, TextIO, cast

import typer
from sqlalchemy.exc import DBAPIError

from evalsvc.cli import (
    alias,
    audit,
    browse,
    cache,
    dashboard,
    gate,
    gate_advice,
    judge,
    manage,
    queue,
    score,
    serve,
    statistics,
    watch,
    weights,
)
from evalsvc.cli.console import Checked, err
from evalsvc.core.errors import EvalsvcError, detail_of
from evalsvc.core.observability import logs
from evalsvc.metrics.score import MetricError
from evalsvc.store.faults import sentence

app = typer.Typer(
    help="Score checkpoints of generative models, compare them over time, and keep every number's uncertainty.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(score.demo)
app.command(name="score")(score.score)
app.command()(watch.watch)
for command in (queue.submit, queue.wait, queue.status, queue.cancel, queue.retry, queue.worker):
    app.command()(command)
app.command()(browse.leaderboard)
app.command(name="judge")(judge.judge)
app.command()(browse.compare)
app.command()(browse.show)
app.command()(browse.models)
app.command()(browse.checkpoints)
app.command()(browse.export)
app.command()(dashboard.dashboard)
app.command()(serve.serve)
manage.reference.command("statistics")(statistics.convert)
app.command()(manage.doctor)
app.add_typer(manage.reference, name="reference")
app.add_typer(manage.suite, name="suite")
app.add_typer(manage.plugins, name="plugins")
app.add_typer(manage.db, name="db")
app.add_typer(weights.app, name="weights")
app.add_typer(cache.app, name="cache")
gate.app.command("init")(gate_advice.init)
gate.app.command("explain")(gate_advice.explain)
app.add_typer(gate.app, name="gate")
app.add_typer(alias.app, name="alias")
app.add_typer(serve.token, name="token")
app.add_typer(audit.app, name="audit")


@app.callback()
def main(
    server: Annotated[
        str | None, typer.Option(help="Ask this server instead; the commands that can: evalsvc --server URL --help.")
    ] = None,
) -> None:
    """Score checkpoints of generative models, compare them over time, and keep every number's uncertainty."""


def run() -> None:
    """Entry point: errors on purpose are one sentence and exit 2."""
    sys.stdout = cast(TextIO, Checked(sys.stdout))
    logs.setup_command()
    try:
        if len(sys.argv) > 1 and sys.argv[1].partition("=")[0] == "--server":
            from evalsvc.cli import remote  # it alone needs the client, whose import takes a while

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
    with suppress(OSError):  # it may be standard error that is full
        err.print(f"error: {error}{f' ({detail})' if detail else ''}", style="red", highlight=False, soft_wrap=True)
