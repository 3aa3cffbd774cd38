"""``evalsvc --server URL COMMAND``: the same commands, asked of a server instead of this machine's database."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.live import Live

from evalsvc.analysis.leaderboard import Board, Column, Difference, Entry
from evalsvc.api import schemas
from evalsvc.api.client import Client, ClientError
from evalsvc.cli import browse, queue
from evalsvc.cli.alias import show_aliases
from evalsvc.cli.checkpoint_arguments import ModelPattern, StepPattern, show_names
from evalsvc.cli.console import err, out, print_json, table
from evalsvc.cli.gate import UNAVAILABLE, reachable, say_notices, show_decision
from evalsvc.cli.score import parse_options
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_folders import digest_checkpoint, endpoint_name
from evalsvc.inputs.checkpoint_names import CheckpointName, Labels, Naming
from evalsvc.inputs.stored_checkpoints import is_path

app = typer.Typer(
    help="Ask a server. EVALSVC_TOKEN holds the token.", no_args_is_help=True, pretty_exceptions_enable=False
)
gate = typer.Typer(help="Whether a release may ship.", no_args_is_help=True)
alias = typer.Typer(help="Names that point at checkpoints.", no_args_is_help=True)
app.add_typer(gate, name="gate")
app.add_typer(alias, name="alias")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
SuiteName = Annotated[str | None, typer.Option(help="Suite; by default the one used last.")]
Ids = Annotated[list[int], typer.Argument(help="Evaluation ids.")]


@app.callback()
def connect(context: typer.Context, server: Annotated[str, typer.Option(help="URL of the server.")]) -> None:
    """Open the client that every command uses."""
    context.obj = context.with_resource(Client(server))


@app.command()
def leaderboard(
    context: typer.Context,
    suite: SuiteName = None,
    metric: Annotated[str | None, typer.Option(help="Score to rank by; by default the suite's first.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every checkpoint, not only each model's last.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rank models."""
    which: Literal["latest", "all"] = "all" if every else "latest"
    boards = [_board(board) for board in _client(context).leaderboard(suite, metric, which)]
    if as_json:
        print_json([browse.board_document(board) for board in boards])
        return
    for board in boards:
        for made in browse.board_tables(board, out.width):
            out.print(made)


@app.command()
def compare(context: typer.Context, a: str, b: str, suite: SuiteName = None, as_json: AsJson = False) -> None:
    """Differences of two checkpoints, b minus a."""
    found = _client(context).compare(_name(a), _name(b), suite)
    browse.show_comparison(found.suite, found.a, found.b, list(map(_difference, found.differences)), as_json=as_json)


@app.command()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """The models, their checkpoints and evaluations."""
    found = [model.model_dump(mode="json") for model in _client(context).models()]
    _show(found, "models", ("name", "family", "checkpoints", "last_step", "evaluations"), as_json=as_json)


@app.command()
def checkpoints(context: typer.Context, model: str | None = None, as_json: AsJson = False) -> None:
    """The checkpoints, the newest first."""
    found = [checkpoint.model_dump(mode="json") for checkpoint in _client(context).checkpoints(model)]
    _show(found, "checkpoints", ("model", "step", "mark", "generator", "digest", "path"), as_json=as_json)


@app.command()
def submit(
    context: typer.Context,
    checkpoints: Annotated[
        list[str], typer.Argument(help="Paths of the server, or endpoint:NAME; files, with --upload.")
    ],
    generator: Annotated[str | None, typer.Option(help="Generator plug-in that loads them.")] = None,
    suite: Annotated[str, typer.Option(help="Suite name or name@version.")] = "digits",
    reference: Annotated[str | None, typer.Option(help="Reference, for a suite that leaves it open.")] = None,
    model: Annotated[str | None, typer.Option(help="Model name; by default the name of the folder.")] = None,
    step: Annotated[int | None, typer.Option(help="Training step; by default read from the name.")] = None,
    model_pattern: ModelPattern = "",
    step_pattern: StepPattern = "",
    option: Annotated[list[str] | None, typer.Option(help="Generator option as key=value.")] = None,
    seed: Annotated[int | None, typer.Option(help="Sampling seed; by default the suite's.")] = None,
    priority: Annotated[int, typer.Option(min=1, max=1000, help="Lower ones go first.")] = 10,
    upload: Annotated[bool, typer.Option("--upload", help="Send the files: server and you share no disk.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put evaluations on the server's queue, and print their ids."""
    naming = Naming(model or "", step, model_pattern, step_pattern)
    named = _named(checkpoints, naming, upload=upload)
    client, made = _client(context), []
    for path, name in named.items():
        endpoint = endpoint_name(path)
        where: dict[str, Any] = {"path": path} if endpoint is None else {"endpoint": endpoint}
        if upload:
            where = {"upload": client.upload(Path(path)).digest}
        made.append(
            client.submit(
                **where,
                model=name.model if name and (upload or model_pattern) else model,
                step=name.step if name and (upload or step_pattern) else step,
                generator=generator,
                suite=suite,
                reference=reference,
                options=parse_options(option or []),
                seed=seed,
                priority=priority,
            )
        )
    if as_json:
        print_json([each.model_dump(mode="json") for each in made])
        return
    for each in made:
        err.print(f"{each.model}@{each.step}{each.mark}: {each.status}")
        typer.echo(each.id)


def _named(checkpoints: list[str], naming: Naming, *, upload: bool) -> dict[str, CheckpointName | None]:
    """What the names say, listed where there are several; None where only the server, which sees the files, can say."""
    names: dict[str, CheckpointName | None] = {}
    digests: dict[str, str] = {}
    for given in checkpoints:
        if upload and not Path(given).is_file():
            raise InputError(f"{given} is not a file: --upload sends files")
        try:
            names[given] = naming.read(Path(given))
        except InputError:
            if upload or naming.model_pattern or naming.step_pattern:
                raise
            names[given] = None
        digests[given] = digest_path(Path(given)) if upload else ""
    if len(names) > 1:
        show_names((given, *(name or ("–", "–")), digests[given][:8] or "–") for given, name in names.items())
    labels = Labels()
    for given, name in names.items():
        if name:
            labels.claim(name, digests[given] or given, given)
    return names


@app.command()
def wait(
    context: typer.Context,
    evaluations: Annotated[list[int] | None, typer.Argument(help="Ids; by default all that are in progress.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which to stop waiting (exit 4).")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until evaluations have ended; exit codes as without --server."""
    client = _client(context)
    ids = evaluations or [each.id for each in client.evaluations("queued", "running")]
    until = time.monotonic() + timeout if timeout is not None else None
    with Live(console=err, transient=True, auto_refresh=False) as live:
        while True:
            found = [client.evaluation(each) for each in ids]
            if all(each.ended for each in found) or (until is not None and time.monotonic() >= until):
                break
            live.update(queue.evaluations_table(found), refresh=True)
            time.sleep(1)
    queue.tell_ends(found, as_json=as_json)


@app.command()
def status(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The newest evaluations, and who works."""
    client = _client(context)
    found = [each for each, _ in zip(client.evaluations(), range(limit), strict=False)]
    workers = [each.model_dump(mode="json") for each in client.workers()]
    if as_json:
        print_json({"evaluations": list(map(queue.document, found)), "workers": workers})
        return
    out.print(queue.evaluations_table(found) if found else "nothing has been submitted yet")
    _show(workers, "workers", ("host", "role", "device", "status", "seen_at", "evaluation_id"), as_json=False)


@app.command()
def cancel(context: typer.Context, evaluations: Ids) -> None:
    """Stop evaluations."""
    for evaluation in evaluations:
        _client(context).cancel(evaluation)
        err.print(f"evaluation {evaluation} is cancelled")


@app.command()
def retry(context: typer.Context, evaluations: Ids) -> None:
    """Put failed or cancelled evaluations on the queue again."""
    for evaluation in evaluations:
        err.print(f"evaluation {evaluation} is queued, attempt {_client(context).retry(evaluation).attempt}")


@gate.command("run")
def gate_run(
    context: typer.Context,
    policy: Annotated[Path, typer.Argument(help="Policy file.")],
    candidate: Annotated[str | None, typer.Option(help="model@step, model, alias or digest.")] = None,
    seed: Annotated[int | None, typer.Option(help="The candidate's sampling seed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge what the server has stored; exit codes as without --server."""
    try:
        found = _client(context).gate(policy, _name(candidate) if candidate else None, seed=seed)
    except OSError as error:
        raise InputError(f"policy {policy} cannot be read ({error.strerror})") from None
    body = found.model_dump(mode="json")
    with reachable():
        if as_json:
            say_notices(body)
            print_json(body)
        else:
            baseline = {"rule": found.baseline} if found.baseline else None
            show_decision(found.id, body | {"baseline": baseline})
    raise typer.Exit(0 if found.shadow else found.exit_code)


@gate.command("history")
def gate_history(context: typer.Context, model: str | None = None, as_json: AsJson = False) -> None:
    """Decisions, the newest first."""
    found = [gate.model_dump(mode="json") for gate in _client(context).gates(model)]
    rows = [
        row | {"candidate": row["candidate"]["name"] or f"{row['candidate']['model']}@{row['candidate']['step']}"}
        for row in found
    ]
    columns = ("id", "created_at", "candidate", "suite", "baseline", "outcome", "by", "reason")
    _show(rows, "gates", columns, as_json=as_json)


@alias.command("list")
def alias_list(context: typer.Context, as_json: AsJson = False) -> None:
    """Every alias and what it points at."""
    rows = []
    for each in _client(context).aliases():
        at = each.checkpoint
        rows.append((each.name, f"{at.model}@{at.step}{at.mark}", each.protected_by))
    show_aliases(rows, as_json=as_json)


@alias.command("set")
def alias_set(
    context: typer.Context,
    name: str,
    checkpoint: str,
    by: Annotated[int | None, typer.Option("--gate", help="A gate that this checkpoint has passed.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why a protected alias goes back to an earlier one.")] = None,
) -> None:
    """Point an alias at a checkpoint: a protected one by a gate under its policy; anything else takes scope admin."""
    found = _client(context).promote(name, _name(checkpoint), by, reason=reason).checkpoint
    err.print(f"{name} is now {found.model}@{found.step}{found.mark}")


@alias.command("history")
def alias_history(context: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Where an alias pointed, the newest first: who moved it, how, and by which decision."""
    found = [
        {
            "at": each.created_at.isoformat(timespec="seconds"),
            "event": each.kind,
            "checkpoint": f"{each.checkpoint.model}@{each.checkpoint.step}{each.checkpoint.mark}",
            "gate": each.gate,
            "by": each.by,
            "reason": each.reason,
        }
        for each in _client(context).promotions(name)
    ]
    _show(found, f"alias {name}", ("at", "event", "checkpoint", "gate", "by", "reason"), as_json=as_json)


@alias.command("protect")
def alias_protect(
    context: typer.Context,
    name: str,
    policy: Annotated[Path, typer.Option(help="Policy by whose decisions alone the alias moves.")],
) -> None:
    """Pin a policy: the alias then moves only by a gate under exactly this policy. Takes scope admin."""
    try:
        found = _client(context).protect(name, policy)
    except OSError as error:
        raise InputError(f"policy {policy} cannot be read ({error.strerror})") from None
    err.print(f"{name} is protected by policy {found.policy_digest[:12]} under {found.suite}")


@alias.command("unprotect")
def alias_unprotect(context: typer.Context, name: str) -> None:
    """End the protection of an alias. Takes scope admin."""
    _client(context).unprotect(name)
    err.print(f"{name} is no longer protected")


def run() -> None:
    """Entry point of ``--server``: what the server refuses exits 2, a server that is not reached 6, as for gates."""
    try:
        app()
    except ClientError as error:
        err.print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        sys.exit(UNAVAILABLE if error.status in (0, 503) else 2)


def _label(candidate: dict[str, Any]) -> str:
    """Of a server that gives no names yet."""
    return f"{candidate['model']}@{candidate['step']}"


def _name(given: str) -> str:
    """A name, or the digest of what lies at a path; a word without a separator is a folder's only as ./word."""
    if os.path.isfile(given) or (os.path.basename(given) != given and is_path(given)):  # noqa: PTH113, PTH119
        return digest_checkpoint(Path(given))
    return given


def _client(context: typer.Context) -> Client:
    client: Client = context.obj
    return client


def _show(rows: list[dict[str, Any]], title: str, columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    made = table(title, *columns)
    for row in rows:
        made.add_row(*("–" if row[column] is None else str(row[column]) for column in columns))
    out.print(made)


def _board(board: schemas.Board) -> Board:
    entries = [
        Entry(
            rank=entry.rank,
            model=entry.model,
            family=entry.family,
            step=entry.step,
            checkpoint_id=entry.checkpoint_id,
            digest=entry.digest,
            mark=entry.mark,
            scores={(score.label, score.protocol): score for score in entry.scores},
        )
        for entry in board.entries
    ]
    columns = [Column(**column.model_dump()) for column in board.columns]
    return Board(board.suite, columns[0], columns, entries)


def _difference(found: schemas.Difference) -> Difference:
    return Difference(
        found.label,
        found.a,
        found.b,
        found.difference,
        found.stderr,
        found.reason or "",
        found.interval,
        found.paired,
        found.unpaired or "",
        found.independent,
    )
