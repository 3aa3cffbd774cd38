"""``gate``: release gates. The exit code tells the status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy.exc import OperationalError

from evalsvc.api.schemas import GateOptions
from evalsvc.cli.backends import backend
from evalsvc.cli.checkpoint_arguments import ModelPattern, StepPattern
from evalsvc.cli.console import err, lines, number, out, print_commands, print_json, styled, table
from evalsvc.cli.options import AsJson, Device, PluginFiles, parse_options, takes
from evalsvc.core.deadline import Deadline, TimeLimit
from evalsvc.core.errors import InputError, StorageError
from evalsvc.core.settings import Settings
from evalsvc.gates.reports.text import candidate as candidate_of
from evalsvc.gates.reports.text import notices, plain, scoped, title
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.faults import sentence
from evalsvc.store.session import database_time

if TYPE_CHECKING:
    from evalsvc.gates.opening import OpenGate
    from evalsvc.gates.runner import Recorded
    from evalsvc.store.session import Database

app = typer.Typer(help="Decide whether a release may ship, with statistical confidence.", no_args_is_help=True)

PolicyFile = Annotated[Path, typer.Argument(help="Policy file, such as evalsvc-gate.yaml.")]
Stored = Annotated[bool, typer.Option("--stored", help="Judge stored scores; compute nothing.")]
UNAVAILABLE = 6
ALL = 10_000
"""Maximum number of characters of a printed reason, enough for all of them."""
STYLES = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "UNKNOWN": "dim"}


@app.command("run")
@takes(GateOptions)
def run(
    policy: PolicyFile,
    asked: GateOptions,
    generator: Annotated[str | None, typer.Option(help="Generator plug-in that loads the candidate's file.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Generator option as key=value.")] = None,
    model: Annotated[str, typer.Option(help="Model of the candidate's file; by default the name of its folder.")] = "",
    step: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Step of the candidate's file; by default inferred from its name."),
    ] = None,
    model_pattern: ModelPattern = "",
    step_pattern: StepPattern = "",
    stored: Stored = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Time limit in seconds; exceeding it exits with 6.")
    ] = None,
    report: Annotated[
        list[str] | None,
        typer.Option(
            help="FORMAT=PATH; formats: json, junit, markdown, comment, annotations, github-output, gitlab-metrics, "
            "badge, model-index, eval-results, html."
        ),
    ] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per batch.")] = 250,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Decide whether a release may ship.

    Exit codes: 0 passed, 2 invalid policy, 3 failed, 4 inconclusive, 5 missing, 6 timeout or unavailable, 7 not
    comparable. Samples are generated as needed: clear decisions cost a tenth, close ones more.
    """
    from evalsvc.gates.candidate import RequestedCandidate
    from evalsvc.gates.reports.write import requested

    reports = requested(report or [])
    limit = TimeLimit(timeout)
    with unavailable_exits_6():
        try:
            with limit.block():
                opened = open_gate(policy, plugin, None if stored else device, batch_size)
        except Deadline:
            if plugin:  # importing a plug-in may hang
                raise
            opened = open_gate(policy, plugin, None, batch_size)  # to record that it is late
        options = parse_options(option or [])
        naming = Naming(model, step, model_pattern, step_pattern)
        if (generator is not None or options or naming != Naming()) and asked.candidate is None:
            raise InputError("--generator, --option, --model and --step require --candidate")
        candidate = (
            RequestedCandidate(asked.candidate, naming, generator, options) if asked.candidate is not None else None
        )
        done = opened.decide(candidate, seed=asked.seed, timeout=limit, warn_only=asked.warn_only, shadow=asked.shadow)
        _report(done, opened.database, reports)
        if as_json:
            say_notices(done.document)
            print_json(done.document)
        else:
            show_decision(done.id, done.document)
    raise typer.Exit(done.exit_code)


def _report(done: Recorded, database: Database, reports: Mapping[str, Sequence[Path]]) -> None:
    """Write the reports, and the summary and the commands of a GitHub job, with the items that got worse most."""
    from evalsvc.gates.item_regressions import ItemRegressions, item_regressions
    from evalsvc.gates.reports.write import tell_github, write
    from evalsvc.gates.runner import sample_grids

    items, document = ItemRegressions(), done.document
    if reports or "GITHUB_STEP_SUMMARY" in os.environ:
        items = item_regressions(document, database, open_artifacts(Settings()))
    if items.tables:
        document = {**document, "items": items.tables}
    write(document, reports, {**sample_grids(done, database), **items.pictures} if "html" in reports else None)
    print_commands(tell_github(document, os.environ))


@app.command("check")
def check(policy: PolicyFile, plugin: PluginFiles = None) -> None:
    """Check a policy against its suite: keys, limits, directions, waivers. Exits with 2 if it is invalid."""
    with unavailable_exits_6():
        opened = open_gate(policy, plugin, None, 1)
    read, suites = opened.policy, opened.suites
    limits = sum(len(metric.limits) for part in read.parts for metric in part.metrics.values())
    scores = sum(len(part.metrics) for part in read.parts)
    named = ", ".join(suite.id for suite in suites)
    err.print(
        f"{policy} is valid: {limits} limits on {scores} scores of {named}, digest {read.digest[:12]}",
        soft_wrap=True,
    )


@app.command("schema")
def schema() -> None:
    """JSON Schema of the policy, for editors."""
    from evalsvc.gates.policy import json_schema

    print_json(json_schema())


@app.command("calibrate")
def calibrate(
    policy: PolicyFile,
    candidate: Annotated[
        str | None, typer.Option(help="Scored checkpoint to repeat, by name or path; by default the policy's.")
    ] = None,
    runs: Annotated[int, typer.Option(min=2, help="Number of seeds.")] = 5,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per batch.")] = 250,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Score one checkpoint with several seeds, to estimate how often the policy would fail it and what
    it can detect.
    """
    from evalsvc.gates.calibrate import calibrate as compare_runs
    from evalsvc.gates.resolution import find_candidate, labels_of
    from evalsvc.gates.sources import Computed
    from evalsvc.inputs import stored_checkpoints
    from evalsvc.store import names
    from evalsvc.store.tables import Checkpoint

    with unavailable_exits_6():
        opened = open_gate(policy, plugin, device, batch_size)
        read, (suite, *others), database, context = opened.policy, opened.suites, opened.database, opened.context
        assert context is not None
        if others:
            raise InputError("calibration supports one suite only: use a policy without 'also'")
        with database.read() as session:
            side = find_candidate(session, read, stored_checkpoints.find(session, candidate).id if candidate else None)
            if not isinstance(side, Checkpoint):
                raise InputError(side.reason)
            title = names.title_of(session, side)
        source = Computed(context, suite, frozenset(labels_of(read, suite).values()))
        found = compare_runs(read, suite, source.full(side, runs, suite.seed), database_time(database).date())
    if as_json:
        print_json(asdict(found))
        return
    made = table(
        f"{title} against itself, {found.runs} seeds under {suite.id}",
        "score",
        "mean",
        "spread",
        "claimed error",
        "detectable",
        "margin to pass",
        "as a share",
    )
    for each in found.noise:
        numbers = (each.mean, each.spread, each.claimed, each.detectable, each.margin, each.margin_rel)
        made.add_row(each.metric, *map(number, numbers))
    out.print(made)
    out.print(
        f"of {found.pairs} pairs {found.failed:.1%} failed and {found.unsure:.1%} were undecided", highlight=False
    )


@app.command("history")
def history(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Only gates of this model.")] = None,
    of_model: Annotated[str | None, typer.Option("--model", help="Alternative to the argument.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List decisions, newest first, with the aliases that they moved."""
    backend(context).gates(model or of_model, limit).show(as_json=as_json)


def open_gate(path: Path, plugin: Sequence[Path] | None, device: str | None, batch_size: int) -> OpenGate:
    """The policy, opened and checked; without a device it computes nothing."""
    from evalsvc.gates import opening
    from evalsvc.plugins.registry import Plugins

    return opening.open_gate(path, Plugins(tuple(plugin or ())), device, batch_size)


@contextmanager
def unavailable_exits_6() -> Iterator[None]:
    """Convert failures to reach a store, a disk or an output, and timeouts, to exit code 6: they are
    not usage errors.
    """
    try:
        yield
    except (StorageError, OperationalError, OSError, Deadline) as error:
        with suppress(OSError):  # standard error itself may be full
            said = sentence(error) if isinstance(error, OperationalError) else str(error)
            err.print(f"error: {' '.join(said.split())}", style="red", soft_wrap=True)
        sys.exit(UNAVAILABLE)


def say_notices(body: Mapping[str, Any]) -> None:
    """Print the notices of a decision to stderr."""
    for notice in notices(body):
        err.print(f"warning: {notice}", style="yellow", highlight=False, soft_wrap=True)


def show_decision(number: int, body: Mapping[str, Any]) -> None:
    """Print the verdict as a table to stdout, and warnings to stderr."""
    verdict, looks = body["verdict"], body["evidence"]["looks"]
    say_notices(body)
    against = f" against {body['baseline']['rule']}" if body["baseline"] else ""
    made = table(
        f"gate {number}: {candidate_of(body)}{against} under {body['suite']}", "score", "tier", "status", "why"
    )
    for metric in verdict["metrics"]:
        style = STYLES.get(metric["status"], "magenta")
        status = styled(metric["status"], style).append(" (waived)" if metric["waiver"] else "")
        why = [f"{limit['kind']} {limit['limit']:g}: {limit['reason']}" for limit in metric["limits"]]
        said = lines(plain(each, ALL) for each in why or [metric["reason"]])
        made.add_row(metric["metric"], metric["tier"], status, said)
    out.print(made)
    style = STYLES.get(verdict["status"], "magenta")
    reason = plain(verdict["reason"], ALL)
    out.print(styled(title(body), style).append(f": {reason}"), highlight=False, soft_wrap=True)
    count = f"{len(looks)} look" + ("" if len(looks) == 1 else "s")
    out.print(f"decided{scoped(body)} on {body['evidence']['samples']} samples in {count}", highlight=False)
    for warning in verdict["warnings"]:
        err.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
