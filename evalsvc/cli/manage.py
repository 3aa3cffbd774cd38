"""``reference``, ``suite``, ``plugins``, ``db`` and ``doctor``: manage the parts of evaluations, and check the
installation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from evalsvc.cli.checkpoint_arguments import say_skipped
from evalsvc.cli.console import err, out, print_json, styled, table
from evalsvc.cli.options import AsJson, Device, PluginFiles, SkipBad, parse_options, takes
from evalsvc.core.errors import EvalsvcError, ModelError, printable
from evalsvc.core.settings import Settings
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.store.session import HEAD, Database
from evalsvc.store.urls import shown

if TYPE_CHECKING:
    from evalsvc.inputs.suites import Suite
    from evalsvc.plugins.registry import Plugin

reference = typer.Typer(help="Manage sets of real samples.", no_args_is_help=True)
suite = typer.Typer(help="Show and check suites, the definitions of evaluations.", no_args_is_help=True)
plugins = typer.Typer(
    help="List and check generators, extractors, references and metrics of installed packages.", no_args_is_help=True
)
db = typer.Typer(help="Upgrade and back up the database.", no_args_is_help=True)


@reference.command("add")
@takes(ReadingOptions)
def reference_add(
    name: Annotated[str, typer.Argument(help="Name for use in suites.")],
    path: Annotated[
        Path,
        typer.Argument(
            help="Images: folder, .zip, .npz, .npy. Audio: folder of sounds. Texts: .txt, .jsonl. Any: .parquet, .tar, "
            "dataset, hub:org/name."
        ),
    ],
    asked: ReadingOptions,
    heldout: Annotated[Path | None, typer.Option(help="Real samples that were not used in training.")] = None,
    heldout_split: Annotated[str, typer.Option(help="Split of the held-out samples, if not that of --split.")] = "",
    skip_bad: SkipBad = False,
) -> None:
    """Register real samples under a name. All samples are read once, so that damaged files are found now."""
    from evalsvc.inputs.published_statistics import beside_images
    from evalsvc.inputs.references import add_reference
    from evalsvc.plugins.registry import Plugins

    held = asked.model_copy(update={"split": heldout_split}) if heldout_split else asked
    if heldout_split and heldout is None:
        heldout = path
    row = add_reference(
        Database(Settings().database),
        Plugins(),
        name,
        path,
        heldout,
        skip_bad=skip_bad,
        reading=asked,
        heldout_reading=held,
    )
    splits = f"{row.count} samples" + (f" and {row.heldout_count} held out" if row.heldout_count else "")
    say_skipped([*row.skipped, *row.heldout_skipped])
    if beside_images(Path(row.path)):
        err.print(
            f"{path} also contains a mean and a covariance, which do not belong to these {row.count} images: to use "
            f"them, run 'evalsvc reference statistics {path} OUT.npz --count N --preprocess tf1' and add OUT.npz",
            soft_wrap=True,
        )
    err.print(f"reference {row.name}: {splits}, digest {row.digest[:12]}")


def _how(reading: dict[str, Any]) -> str:
    """How a reference is read, beside its path."""
    said = (f"{name}={' and '.join(each) if isinstance(each, list) else each}" for name, each in reading.items())
    return f" ({', '.join(said)})" if reading else ""


@reference.command("list")
def reference_list(as_json: AsJson = False) -> None:
    """List the references of the database and of plug-ins."""
    from sqlalchemy import select

    from evalsvc.plugins.registry import PluginKind, Plugins
    from evalsvc.store.tables import Reference

    with Database(Settings().database).read() as session:
        rows = list(session.scalars(select(Reference).order_by(Reference.name)))
    found = [
        (row.name, row.modality, str(row.count), str(row.heldout_count or "–"), printable(row.path + _how(row.reading)))
        for row in rows
    ]
    found += [
        (p.name, "", "", "", f"{p.distribution} {p.version}") for p in Plugins() if p.kind is PluginKind.REFERENCE
    ]
    headings = ("name", "modality", "samples", "held out", "from")
    if as_json:
        print_json([dict(zip(headings, row, strict=True)) for row in found])
        return
    made = table("references", *headings, right=("samples", "held out"))
    for row in found:
        made.add_row(*row)
    out.print(made)


@suite.command("list")
def suite_list() -> None:
    """List the shipped suites."""
    from evalsvc.inputs.suites import load_suite, shipped_suites

    for name in shipped_suites():
        out.print(styled(name, "bold"), load_suite(name).description, soft_wrap=True)


@suite.command("show")
def suite_show(name: Annotated[str, typer.Argument(help="name, name@version or a .yaml file.")]) -> None:
    """Print a suite with all its defaults as YAML."""
    typer.echo(yaml.safe_dump(_suite(name).model_dump(mode="json"), sort_keys=False), nl=False)


@suite.command("validate")
def suite_validate(
    name: Annotated[str, typer.Argument(help="name, name@version or a .yaml file.")], plugin: PluginFiles = None
) -> None:
    """Check a suite: keys, metrics, options, features, labels."""
    checked = _suite(name, plugin)
    err.print(f"{checked.id} is valid: {len(checked.labels)} scores of {checked.samples} samples")


def _suite(name: str, plugin: list[Path] | None = None) -> Suite:
    """The suite with this name; no database is opened for a file or a shipped suite."""
    from evalsvc.evaluation.suite_resolution import needs_store, resolve_suite
    from evalsvc.inputs.suites import load_suite
    from evalsvc.plugins.registry import Plugins

    found = Plugins(tuple(plugin or ()))
    return resolve_suite(name, Database(Settings().database), found) if needs_store(name) else load_suite(name, found)


@plugins.command("list")
def plugins_list(
    plugin: PluginFiles = None,
    check: Annotated[bool, typer.Option("--check", help="Load each plug-in, and report failures.")] = False,
    as_json: AsJson = False,
) -> None:
    """List all plug-ins: name, kind, origin; with --check also whether they load."""
    from evalsvc.plugins.registry import Plugins

    found = []
    for item in Plugins(tuple(plugin or ())):
        status = _loads(item) if check else "not checked"
        found.append((item.name, item.kind.removesuffix("s"), item.distribution, item.version, status))
    headings = ("name", "kind", "distribution", "version", "status")
    if as_json:
        print_json([dict(zip(headings, row, strict=True)) for row in found])
        return
    made = table("plug-ins", *headings)
    for row in found:
        made.add_row(*row)
    out.print(made)


def _loads(plugin: Plugin) -> str:
    try:
        plugin.load()
    except EvalsvcError as error:
        return str(error)
    return "ok"


@plugins.command("check")
def plugins_check(
    name: Annotated[str, typer.Argument(help="Plug-in, by its name in 'evalsvc plugins list'.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint that the generator can load.")] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="generator, extractor, scorer, reference, metric or judge, if several plug-ins share the name."
        ),
    ] = "",
    option: Annotated[list[str] | None, typer.Option(help="Option of the plug-in as key=value.")] = None,
    plugin: PluginFiles = None,
    device: Device = "auto",
) -> None:
    """Check the contract of a plug-in: types, shapes and ranges, determinism, independence of batch and order."""
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.plugin_check import check_plugin, kind_of
    from evalsvc.plugins.registry import Plugins

    context = EvaluationContext(Settings(), Plugins(tuple(plugin or ())), device)
    found = kind_of(context.plugins, name, kind)
    findings = check_plugin(context, found, name, parse_options(option or []), checkpoint)
    what = found.removesuffix("s")
    made = table(f"{what} {name}", "check", "", "finding")
    for finding in findings:
        made.add_row(finding.check, styled("ok", "green") if finding.ok else styled("broken", "red"), finding.detail)
    out.print(made)
    if not all(finding.ok for finding in findings):
        raise ModelError(f"{what} {name!r} violates its contract: see the table")


@db.command("upgrade")
def db_upgrade() -> None:
    """Upgrade the database to the tables of this version."""
    database = Database(Settings().database, upgrade=True)
    err.print(f"{shown(database.engine.url)} is at revision {HEAD}")


@db.command("backup")
def db_backup(
    target: Annotated[Path, typer.Argument(help="New file to write. Copy the artifacts after it, not before.")],
) -> None:
    """Copy an embedded (SQLite) database while it is in use. For restoring see docs/guides/operations.md."""
    from evalsvc.store.backup import back_up

    back_up(Database(Settings().database), target)
    err.print(f"backup {target}: copy the artifacts next", markup=False)


def doctor(plugin: PluginFiles = None, as_json: AsJson = False) -> None:
    """Check database, queue, disk, devices, weights and plug-ins; exits with 1 if something is broken."""
    from dataclasses import asdict

    from evalsvc.cli.doctor_checks import Level, examine
    from evalsvc.plugins.registry import Plugins

    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.BROKEN: "red"}
    found = []
    for finding in examine(Settings(), Plugins(tuple(plugin or ()))):
        found.append(finding)
        if not as_json:
            style = styles[finding.level]
            out.print(styled(f"{finding.level:>8}", style), styled(finding.thing, "bold"), finding.detail, sep="  ")
    if as_json:
        print_json([asdict(finding) for finding in found])
    if any(finding.level is Level.BROKEN for finding in found):
        raise typer.Exit(1)
