"""``watch``: submit checkpoints as training writes them."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy.exc import OperationalError

from evalsvc.api.schemas import EvaluationOptions
from evalsvc.cli.checkpoint_arguments import ModelPattern, StepPattern, generator_of
from evalsvc.cli.console import out
from evalsvc.cli.options import PluginFiles, takes
from evalsvc.core.errors import EvalsvcError, InputError, StorageError, first_line, printable
from evalsvc.core.observability import logs, telemetry
from evalsvc.core.settings import Settings
from evalsvc.inputs.checkpoint_names import CheckpointName, Labels, Naming
from evalsvc.store import queries

if TYPE_CHECKING:
    from evalsvc.inputs.checkpoints import Checkpoint

log = logging.getLogger(__name__)


@takes(EvaluationOptions, without=("step", "priority", "deadlines", "rerun", "skip_bad"))
def watch(
    folder: Annotated[Path, typer.Argument(help="Folder that training writes checkpoints to.")],
    pattern: Annotated[str, typer.Option(help="Glob of checkpoints in the folder; '**/' searches subfolders.")],
    asked: EvaluationOptions,
    model_pattern: ModelPattern = "",
    step_pattern: StepPattern = "",
    ready: Annotated[
        str,
        typer.Option(help="Marker of a complete checkpoint: a file in its folder, or its own name with this suffix."),
    ] = "",
    settle: Annotated[float, typer.Option(min=0, help="Without a marker: seconds without a change.")] = 30,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between scans.")] = 5,
    plugin: PluginFiles = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the checkpoints that would be submitted now, and exit.")
    ] = False,
) -> None:
    """Submit each new checkpoint as soon as it is complete, in any order of steps; print evaluation ids.

    Checkpoints whose content already has an evaluation are skipped, so the command can be restarted at any time.
    """
    from evalsvc.core.digests import digest_configuration
    from evalsvc.evaluation import service
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.earlier_digests import move_earlier
    from evalsvc.evaluation.progress import progress
    from evalsvc.inputs.watched_folder import WatchedFolder
    from evalsvc.plugins.registry import PluginKind, Plugins

    settings = Settings()
    telemetry.begin(settings)
    generator, options, seed = generator_of(asked.generator, [str(folder)]), asked.options, asked.seed
    naming, labels = Naming(asked.model or "", None, model_pattern, step_pattern), Labels()
    plugins = Plugins(tuple(plugin or ()))
    # To see that it loads; the GPU belongs to training.
    context = EvaluationContext(settings, plugins, "cpu")
    chosen = service.resolve_suite(str(asked.suite), context.database, plugins, reference=asked.reference or "")

    def step(path: Path) -> int | None:
        with suppress(InputError):
            return naming.read(path).step
        return None

    version = plugins.get(PluginKind.GENERATOR, generator).recorded_version
    configuration = digest_configuration(generator, version, plugins.pinned(generator, options))
    watched = WatchedFolder(folder, pattern, settle, ready, step=step)

    def known(checkpoint: Checkpoint) -> str:
        with context.database.read() as session:
            for same in queries.known_by_digest(session, checkpoint.model, checkpoint.digest):
                if same.configuration != configuration:
                    continue
                for run in queries.evaluations(session, same.id):
                    same_as = run.suite.digest, run.spec["seed"]
                    if same_as == (chosen.digest, chosen.seed if seed is None else seed):
                        return f"evaluation {run.id} of it is {run.status}"
        return ""

    def handle(path: Path, shown: str) -> None:
        checkpoint = service.open_checkpoint(path, naming, generator, plugins)
        move_earlier(context.database, lambda: context.artifacts, checkpoint, generator)
        labels.claim(CheckpointName(checkpoint.model, checkpoint.step), checkpoint.digest, str(path))
        name = f"{checkpoint.model}@{checkpoint.step}"
        if there := known(checkpoint):
            log.info("%s is %s: %s", shown, name, there)
            return
        spec = service.plan(context, checkpoint, generator, options, chosen, seed)
        if dry_run:
            log.info("%s would be submitted as %s", shown, name)
            return
        (submitted,) = service.submit(context, [spec])
        with context.database.read() as session:
            name = progress(session, [submitted.id])[0].name
        log.info("%s submitted as %s", shown, name, extra=logs.fields(evaluation=submitted.id))
        out.print(submitted.id)

    log.info("watching %s for %s; press Ctrl-C to stop", folder, pattern)
    try:
        while True:
            for path in watched.whole():
                shown = printable(str(path))
                try:
                    handle(path, shown)
                except (StorageError, OperationalError, OSError) as error:
                    # The database or the disk may be unavailable for a while: retry at the next scan.
                    log.warning("%s: %s", shown, first_line(error))
                    continue
                except EvalsvcError as error:
                    log.error("%s: %s", shown, error)
                watched.take(path)
            if dry_run and not watched.pending:
                for path in watched.waiting:
                    log.info("%s is not complete", printable(str(path)))
                return
            time.sleep(every)
    except KeyboardInterrupt:
        log.info("stopped; run the same command again to continue")
        raise typer.Exit(130) from None
