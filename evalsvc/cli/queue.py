"""``submit``, ``wait``, ``status``, ``cancel``, ``retry`` and ``worker``: evaluations on a queue."""

from __future__ import annotations

import os
import subprocess
import sys
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

from evalsvc.cli.checkpoint_arguments import Checkpoints, ModelName, ModelPattern, Step, StepPattern, find_checkpoints
from evalsvc.cli.console import err, out, print_json, table
from evalsvc.cli.score import (
    BatchSize,
    GeneratorName,
    GeneratorOptions,
    PluginFiles,
    ReferenceName,
    Seed,
    SkipBad,
    SuiteFile,
    parse_options,
    progress_bars,
    say_skipped,
)
from evalsvc.core.errors import InputError
from evalsvc.core.observability import telemetry
from evalsvc.core.settings import Settings
from evalsvc.evaluation.lifecycle import PRIORITY, Deadlines
from evalsvc.evaluation.progress import Progress, failure_details, progress, workers
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.queue.pending import pending_evaluations
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import IN_PROGRESS, Failure, Status, Worker

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
LARGEST = 2**31 - 1
Ids = Annotated[list[int], typer.Argument(max=LARGEST, help="Evaluation ids, as 'submit' prints them.")]
Seconds = float | None

TIMED_OUT, FAILED, UNAVAILABLE, CANCELLED = 4, 1, 6, 8
"""How ``wait`` ends, in the order in which one outweighs another: as gates do, where they have a word for it."""


def submit(
    checkpoints: Checkpoints,
    generator: GeneratorName,
    suite: SuiteFile = "digits",
    reference: ReferenceName = "",
    model: ModelName = "",
    step: Step = None,
    model_pattern: ModelPattern = "",
    step_pattern: StepPattern = "",
    option: GeneratorOptions = None,
    seed: Seed = None,
    priority: Annotated[int, typer.Option(min=1, max=1000, help="Lower ones go first.")] = PRIORITY,
    queue_timeout: Annotated[Seconds, typer.Option(help="Seconds to wait for a worker before it fails.")] = None,
    shard_timeout: Annotated[Seconds, typer.Option(help="Seconds that one shard may take.")] = None,
    metrics_timeout: Annotated[Seconds, typer.Option(help="Seconds that the metrics may take.")] = None,
    plugin: PluginFiles = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Put evaluations on the queue, and print their ids. What is queued or scored already is not asked for twice."""
    from evalsvc.evaluation import service
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.plugins.registry import Plugins

    options = parse_options(option or [])
    plugins = Plugins(tuple(plugin or ()))
    naming = Naming(model, step, model_pattern, step_pattern)
    found = find_checkpoints(checkpoints, naming, plugins.checkpoint_files(generator))
    limits = {"queued": queue_timeout, "shard": shard_timeout, "metrics": metrics_timeout}
    deadlines = Deadlines.model_validate(limits)
    with progress_bars() as show:
        context = EvaluationContext(Settings(), plugins, "cpu")
        chosen = service.resolve_suite(suite, context.database, plugins, reference=reference)
        skipped = say_skipped if skip_bad else None
        specs = service.plan_checkpoints(context, found, generator, options, chosen, seed, skipped=skipped)
        advance = show.stage("checkpoints", len(found))
        submissions = service.submit(context, specs, priority=priority, deadlines=deadlines, advance=advance)
    if as_json:
        print_json([asdict(submission) for submission in submissions])
        return
    for there, submission in zip(_seen(context.database, [each.id for each in submissions]), submissions, strict=True):
        what = "queued" if submission.created else f"{submission.status} already"
        err.print(f"{there.name}: {what}")
        typer.echo(submission.id)


def wait(
    evaluations: Annotated[
        list[int] | None, typer.Argument(max=LARGEST, help="Ids; by default all that are on the queue.")
    ] = None,
    timeout: Annotated[Seconds, typer.Option(help="Seconds after which to stop waiting (exit 4).")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until evaluations have ended, and show how far they are.

    Exit code: 0 all succeeded, 1 one failed by its model, by memory or a deadline, 6 by the infrastructure, 8 one was
    cancelled, 4 the timeout came first.
    """
    database = Database(Settings().database)
    ids = evaluations or [ticket.attempt.evaluation for ticket in pending_evaluations(database)]
    found = _seen(database, ids)
    until = time.monotonic() + timeout if timeout is not None else None
    with Live(console=err, transient=True, auto_refresh=False) as live:
        while not all(each.ended for each in found) and (until is None or time.monotonic() < until):
            live.update(evaluations_table(found), refresh=True)
            time.sleep(1)
            with suppress(OperationalError):  # a database that is restarted has not failed an evaluation
                found = _seen(database, ids)
    tell_ends(found, as_json=as_json)


def status(
    evaluations: Annotated[
        list[int] | None, typer.Argument(max=LARGEST, help="Ids; by default what is in progress or new.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many that have ended are shown.")] = 10,
    as_json: AsJson = False,
) -> None:
    """What is queued, what runs and how far it is, what ended last, and who works."""
    database = Database(Settings().database)
    if evaluations:
        found = _seen(database, evaluations)
    with database.read() as session:
        now, at_work = clock(session), workers(session)
        details = failure_details(session, evaluations or ())
        if not evaluations:
            ended = [each for each in Status if each not in IN_PROGRESS]
            found = [*progress(session, statuses=IN_PROGRESS), *progress(session, statuses=ended, limit=limit)]
    if as_json:
        shown = [document(each) | ({"detail": details[each.id]} if each.id in details else {}) for each in found]
        print_json({"evaluations": shown, "workers": [_worker(row, now) for row in at_work]})
        return
    out.print(evaluations_table(found) if found else "nothing has been submitted yet")
    if evaluations:
        for each in found:
            _tell(each)
            if detail := details.get(each.id):
                err.print(detail, highlight=False, soft_wrap=True)
        return
    made = table("workers", "host", "role", "device", "status", "seen", "evaluation", right=("seen",))
    for row in at_work:
        seen, at = f"{(now - row.seen_at).total_seconds():.0f} s ago", str(row.evaluation_id or "–")
        made.add_row(row.host, row.role, row.device or "–", row.status, seen, at)
    out.print(made if at_work else "no worker is running: start one with 'evalsvc worker'")


def cancel(evaluations: Ids) -> None:
    """Stop evaluations: within a batch where they run. What was computed is kept for 'retry'."""
    from evalsvc.evaluation import lifecycle

    database = Database(Settings().database)
    for evaluation in evaluations:
        lifecycle.cancel(database, evaluation)
        err.print(f"evaluation {evaluation} is cancelled")


def retry(evaluations: Ids) -> None:
    """Put failed or cancelled evaluations on the queue again; shards that are done stay done."""
    from evalsvc.evaluation import lifecycle

    database = Database(Settings().database)
    for evaluation in evaluations:
        err.print(f"evaluation {evaluation} is queued, attempt {lifecycle.retry(database, evaluation)}")


def worker(
    devices: Annotated[
        str, typer.Option(help="One slot for each: cuda:0,cuda:1 or cpu,cpu; auto takes every GPU.")
    ] = "auto",
    batch_size: BatchSize = 250,
    plugin: PluginFiles = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics of all processes at this port.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address that they are served at.")] = "127.0.0.1",
) -> None:
    """Work for the queue until Ctrl-C or SIGTERM, which finish the shard in hand; a second one does not."""
    from evalsvc.inputs.server_file import server_file
    from evalsvc.queue.supervisor import Duty, supervise
    from evalsvc.queue.worker_metrics import served

    server_file()  # one that is wrong ends the command and not each evaluation

    names = _every_device() if devices == "auto" else [name.strip() for name in devices.split(",") if name.strip()]
    if not names:
        raise InputError("--devices names no device: give cuda:0, cpu or auto")
    on_cpu = sum(name == "cpu" for name in names)
    threads = max(1, (os.cpu_count() or 1) // on_cpu) if on_cpu > 1 else None
    files = tuple(file.resolve() for file in plugin or ())
    duties = [Duty(role="coordinator", place="coordinator")]
    duties += [
        Duty(role="slot", place=f"slot-{i}", device=name, batch_size=batch_size, plugins=files, threads=threads)
        for i, name in enumerate(names)
    ]
    settings = Settings()
    telemetry.begin(settings)
    if metrics_port is None:
        raise typer.Exit(supervise(settings, duties))
    with served(metrics_host, metrics_port) as folder:
        raise typer.Exit(supervise(settings, [duty.model_copy(update={"metrics": folder}) for duty in duties]))


def _every_device() -> list[str]:
    """In a process of its own, because torch and a CUDA context would stay in the supervisor for nothing."""
    count = "import torch; print(torch.cuda.device_count())"
    found = int(subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True).stdout)
    return [f"cuda:{number}" for number in range(found)] or ["auto"]


def _seen(database: Database, ids: Sequence[int]) -> list[Progress]:
    """These evaluations in this order; an unknown one is an error."""
    with database.read() as session:
        found = {each.id: each for each in progress(session, ids)}
    for unknown in (evaluation for evaluation in ids if evaluation not in found):
        raise InputError(f"there is no evaluation {unknown}: 'evalsvc status' lists them")
    return [found[evaluation] for evaluation in ids]


def tell_ends(found: Sequence[Progress], *, as_json: bool) -> None:
    """Say how evaluations ended, and exit with the code for it."""
    if as_json:
        print_json([document(each) for each in found])
    else:
        for each in found:
            _tell(each)
    raise typer.Exit(_exit_code(found))


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
    """Evaluations and how far they are."""
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


def _tell(each: Progress) -> None:
    reason = f" ({each.failure}): {each.error}" if each.failure else ""
    text = f"evaluation {each.id}, {each.name} under {each.suite}: {each.status}{reason}"
    err.print(text, highlight=False, soft_wrap=True)


def document(each: Progress) -> dict[str, Any]:
    """An evaluation for machines."""
    return asdict(each)


def _worker(row: Worker, now: datetime) -> dict[str, Any]:
    columns = ("id", "host", "pid", "role", "device", "status", "started_at", "evaluation_id", "stage")
    return {name: getattr(row, name) for name in columns} | {"seen_seconds_ago": (now - row.seen_at).total_seconds()}
