"""``wait``, ``status``, ``cancel``, ``retry`` and ``worker``: evaluations on a queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from sqlalchemy.exc import OperationalError

from evalsvc.cli.backends import backend
from evalsvc.cli.console import err, print_json, table
from evalsvc.cli.options import AsJson, BatchSize, PluginFiles
from evalsvc.core.cards import cards_of
from evalsvc.core.observability import telemetry
from evalsvc.core.settings import Settings
from evalsvc.evaluation.progress import Progress
from evalsvc.store.tables import Failure, Status, Worker

LARGEST = 2**31 - 1
Ids = Annotated[list[int], typer.Argument(max=LARGEST, help="Evaluation ids, as printed by 'submit'.")]
Seconds = float | None

TIMED_OUT, FAILED, UNAVAILABLE, CANCELLED = 4, 1, 6, 8
"""Exit codes of ``wait``, in order of precedence, consistent with those of gates."""


def wait(
    context: typer.Context,
    evaluations: Annotated[
        list[int] | None, typer.Argument(max=LARGEST, help="Ids; by default all on the queue.")
    ] = None,
    timeout: Annotated[Seconds, typer.Option(help="Seconds after which to stop waiting (exit 4).")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until evaluations have ended, and show their progress.

    Exit codes: 0 all succeeded, 1 one failed by its model, by memory or a time limit, 6 by the infrastructure, 8 one
    was canceled, 4 the timeout expired first.
    """
    asked = backend(context)
    ids = evaluations or asked.pending()
    found = asked.progress(ids)
    until = time.monotonic() + timeout if timeout is not None else None
    with Live(console=err, transient=True, auto_refresh=False) as live:
        while not all(each.ended for each in found) and (until is None or time.monotonic() < until):
            live.update(evaluations_table(found), refresh=True)
            time.sleep(1)
            with suppress(OperationalError):  # a restarted database does not fail an evaluation
                found = asked.progress(ids)
    if as_json:
        print_json([document(each) for each in found])
    else:
        for each in found:
            err.print(line(each), highlight=False, soft_wrap=True)
    raise typer.Exit(_exit_code(found))


def status(
    context: typer.Context,
    evaluations: Annotated[
        list[int] | None, typer.Argument(max=LARGEST, help="Ids; by default those in progress or recently finished.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of finished evaluations.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show queued, running and finished evaluations, and the workers."""
    backend(context).status(evaluations or (), limit).show(as_json=as_json)


def cancel(context: typer.Context, evaluations: Ids) -> None:
    """Cancel evaluations; running ones stop within a batch. Computed shards are kept for 'retry'."""
    for evaluation in evaluations:
        backend(context).cancel(evaluation)
        err.print(f"evaluation {evaluation} is canceled")


def retry(context: typer.Context, evaluations: Ids) -> None:
    """Put failed or canceled evaluations on the queue again; finished shards are kept."""
    for evaluation in evaluations:
        err.print(f"evaluation {evaluation} is queued, attempt {backend(context).retry(evaluation)}")


def worker(
    devices: Annotated[
        str, typer.Option(help="Devices, one slot each: cuda:0,cuda:1, MIG-UUID or cpu,cpu; auto uses every GPU.")
    ] = "auto",
    batch_size: BatchSize = 250,
    plugin: PluginFiles = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics of all processes at this port.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to serve metrics at.")] = "127.0.0.1",
) -> None:
    """Run evaluations of the queue. Ctrl-C or SIGTERM finishes the current shards and exits; a second one exits at
    once.
    """
    from evalsvc.inputs.server_file import server_file
    from evalsvc.queue.supervisor import ProcessRole, supervise
    from evalsvc.queue.worker_metrics import serve_metrics

    server_file()  # an invalid setting must end the command, not each evaluation

    cards = cards_of(devices)
    files = tuple(file.resolve() for file in plugin or ())
    duties = [ProcessRole(role="coordinator", place="coordinator")]
    duties += [
        ProcessRole(role="slot", place=f"slot-{i}", card=card, batch_size=batch_size, plugins=files)
        for i, card in enumerate(cards)
    ]
    settings = Settings()
    telemetry.begin(settings)
    if metrics_port is None:
        raise typer.Exit(supervise(settings, duties))
    with serve_metrics(metrics_host, metrics_port) as folder:
        raise typer.Exit(supervise(settings, [duty.model_copy(update={"metrics": folder}) for duty in duties]))


def _exit_code(found: Sequence[Progress]) -> int:
    codes = {_code(each) for each in found}
    return next((code for code in (FAILED, UNAVAILABLE, CANCELLED, TIMED_OUT) if code in codes), 0)


def _code(each: Progress) -> int:
    if not each.ended:
        return TIMED_OUT
    if each.status == Status.FAILED:
        return UNAVAILABLE if each.failure == Failure.INFRASTRUCTURE else FAILED
    return CANCELLED if each.status == Status.CANCELLED else 0


def evaluations_table(found: Sequence[Progress]) -> Table:
    """A table of evaluations and their progress."""
    made = table(
        "", "id", "checkpoint", "suite", "status", "done", "priority", "since", right=("id", "done", "priority")
    )
    for each in found:
        since = each.finished_at or each.started_at or each.requested_at
        made.add_row(
            str(each.id),
            each.name,
            each.suite,
            each.status if each.failure is None else f"{each.status} ({each.failure.replace('_', ' ')})",
            f"{each.fraction:.0%}",
            str(each.priority),
            _ago(since),
        )
    return made


def _ago(then: datetime) -> str:
    seconds = (datetime.now(UTC) - then).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def line(each: Progress) -> str:
    """An evaluation and its outcome in one line."""
    reason = f" ({each.failure}): {each.error}" if each.failure else ""
    return f"evaluation {each.id}, {each.name} under {each.suite}: {each.status}{reason}"


def document(each: Progress) -> dict[str, Any]:
    """An evaluation as JSON."""
    return asdict(each)


def worker_document(row: Worker, now: datetime) -> dict[str, Any]:
    """A worker as JSON."""
    columns = ("id", "host", "pid", "role", "device", "status", "started_at", "evaluation_id", "stage")
    return {name: getattr(row, name) for name in columns} | {"seen_seconds_ago": (now - row.seen_at).total_seconds()}
