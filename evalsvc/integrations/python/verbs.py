"""The verbs of the Python interface. They work in this process, on the store of this user (``EVALSVC_HOME``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from evalsvc.analysis import leaderboard as ranking
from evalsvc.analysis.leaderboard import Which
from evalsvc.analysis.runs import runs_beside
from evalsvc.core.errors import InputError
from evalsvc.core.observability.progress_bars import progress_bars
from evalsvc.core.settings import Settings
from evalsvc.inputs import stored_checkpoints
from evalsvc.integrations.python.results import Comparison, Leaderboard, Run, Scores
from evalsvc.metrics.score import Reference
from evalsvc.store import queries, tables
from evalsvc.store.artifacts import Artifacts, open_artifacts
from evalsvc.store.session import Database

if TYPE_CHECKING:  # reading verbs do not import torch
    import numpy as np
    from sqlalchemy.orm import Session

    from evalsvc.evaluation.context import EvaluationContext, Progress
    from evalsvc.evaluation.lifecycle import Deadlines, Submission
    from evalsvc.evaluation.spec import EvaluationSpec
    from evalsvc.inputs.suites import Suite
    from evalsvc.integrations.python.given import Given


def evaluate(
    given: Given,
    suite: str | Suite = "digits",
    *,
    model: str | None = None,
    step: int | None = None,
    generator: str | None = None,
    options: Mapping[str, Any] | None = None,
    reference: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    batch_size: int = 250,
    plugins: Sequence[str | Path] = (),
    rerun: bool = False,
    progress: bool | None = None,
) -> Run:
    """Score an object under a suite in this process; stored scores are reused.

    Args:
        given: One of: the path of a checkpoint, which ``generator`` loads, or of samples; images as an array or tensor
            (n, h, w), (n, h, w, c) or (n, c, h, w), uint8 or floats in [0, 1]; a list of texts; a ``torch.nn.Module``
            with a method ``sample(request)``, or fed latents with ``options={"latent": SHAPE}`` as by generator
            ``torch-module``; a function of a :class:`evalsvc.SampleRequest` that returns samples. Arrays, texts and
            modules are recognized by their content. A function is not: it is scored again each time.
        suite: Name, ``name@version``, path of a YAML file, or a :class:`evalsvc.Suite`.
        model: Name of the model; by default inferred from the path, otherwise the name of the class or function.
        step: Training step; by default inferred from the path, otherwise 0.
        generator: Plug-in that loads the path.
        options: Options of the generator.
        reference: Reference, for suites that require one.
        seed: Sampling seed; by default the suite's.
        device: torch device; ``auto`` uses a GPU if there is one. A module stays on its device.
        batch_size: Samples per batch.
        plugins: Python files that register plug-ins.
        rerun: Compute again, superseding stored scores.
        progress: Whether to show progress; by default in notebooks and terminals.

    Raises:
        InputError: an argument cannot be scored or does not fit the others; the message names it.
    """
    from evalsvc.evaluation import service

    asked = _Asked(given, suite, model, step, generator, options, reference, seed, tuple(map(Path, plugins)))
    computed = False

    def watched(stages: Progress) -> Progress:
        def stage(name: str, total: int) -> Callable[[int], None]:
            nonlocal computed
            computed = True
            return stages(name, total)

        return stage

    with _progress(progress) as stages, asked.planned(device, batch_size, watched(stages)) as (context, spec):
        [number] = service.run(context, [spec], rerun=rerun)
        with context.database.read() as session:
            return _run(session, context.artifacts, number, computed=computed)


def submit(
    path: Given,
    *,
    suite: str | Suite = "digits",
    model: str | None = None,
    step: int | None = None,
    generator: str | None = None,
    options: Mapping[str, Any] | None = None,
    reference: str | None = None,
    seed: int | None = None,
    priority: int = 10,
    deadlines: Deadlines | None = None,
    rerun: bool = False,
) -> Submission:
    """Put an evaluation on the queue of this store, for workers; the same again is the same evaluation.

    ``path`` and what follows are those of :func:`evaluate`, but for modules and functions, which exist in this process
    only. Lower priorities go first.

    Raises:
        InputError: an argument cannot be scored or does not fit the others; the message names it.
    """
    from evalsvc.evaluation import service
    from evalsvc.evaluation.lifecycle import Deadlines

    asked = _Asked(path, suite, model, step, generator, options, reference, seed)
    with asked.planned("auto", 250) as (context, spec):
        if spec.generator in ("module", "callable"):
            raise InputError(f"{type(path).__name__} exists in this process only: evaluate it, or save its samples")
        deadlines = deadlines or Deadlines()
        return service.submit(context, [spec], priority=priority, deadlines=deadlines, rerun=rerun)[0]


def compare(a: str | Run, b: str | Run, suite: str | None = None, label: str | None = None) -> Comparison:
    """Differences of two checkpoints (a run or a name each), b minus a, of all scores or of one ``label``.

    Raises:
        InputError: there is no such checkpoint, or the two have no comparable scores.
    """
    wanted = suite or next((side.suite for side in (a, b) if isinstance(side, Run)), None)
    with _store() as database, database.read() as session:
        chosen = queries.pick_suite(session, wanted)
        sides = [queries.side(session, _checkpoint(session, side), chosen, label) for side in (a, b)]
        artifacts = open_artifacts(Settings())
        found = [ranking.Side(rows, runs_beside(session, artifacts, rows)) for _, rows in sides]
    return Comparison(chosen, sides[0][0], sides[1][0], ranking.compare(*found))


def leaderboard(
    suite: str | None = None, metric: str | None = None, which: Which = "latest", reference: Reference = "sampled"
) -> Leaderboard:
    """Models ranked by one score, one board for each of its protocols; ``which`` is ``latest`` or ``all``.

    Raises:
        InputError: nothing was scored under this suite, or it has no such score.
    """
    with _store() as database, database.read() as session:
        rows = queries.scores(session, suite=queries.pick_suite(session, suite))
    return Leaderboard(ranking.boards(rows, metric, which, reference))


def scores(
    suite: str | None = None,
    model: str | None = None,
    step: int | None = None,
    label: str | None = None,
    *,
    digest: str | None = None,
    configuration: str | None = None,
) -> Scores:
    """Current scores, by model and step; of digests the first 8 digits or more."""
    with _store() as database, database.read() as session:
        rows = queries.scores(session, suite=suite, model=model, label=label)
    return Scores(
        [
            row
            for row in rows
            if step in (None, row.step)
            and row.digest.startswith(digest or "")
            and row.configuration.startswith(configuration or "")
        ]
    )


class _Asked:
    """An object to score, and the settings."""

    def __init__(
        self,
        given: Any,
        suite: str | Suite,
        model: str | None,
        step: int | None,
        generator: str | None,
        options: Mapping[str, Any] | None,
        reference: str | None,
        seed: int | None,
        plugin_files: tuple[Path, ...] = (),
    ) -> None:
        self.given, self.suite, self.model, self.step, self.generator = given, suite, model, step, generator
        self.options, self.reference, self.seed = dict(options or {}), reference or "", seed
        self.plugin_files = plugin_files

    @contextmanager
    def planned(
        self, device: str, batch_size: int, progress: Progress | None = None
    ) -> Iterator[tuple[EvaluationContext, EvaluationSpec]]:
        """The spec, and the context that it was planned in, which is closed at the end."""
        from evalsvc.evaluation import service
        from evalsvc.evaluation.context import EvaluationContext, silent
        from evalsvc.inputs.checkpoint_names import Naming, UnknownStepError
        from evalsvc.integrations.python.given import prepare
        from evalsvc.plugins.registry import Plugins

        settings, plugins = Settings(), Plugins(self.plugin_files)
        with _store() as database:
            named = self.suite
            suite = service.resolve_suite(named, database, plugins) if isinstance(named, str) else named
        suite = suite.on(self.reference)
        prepared = prepare(self.given, self.generator, suite.modality, settings.uploads)
        if prepared.plugin:
            plugins.add(prepared.plugin)
        if prepared.device and device not in ("auto", prepared.device, prepared.device.partition(":")[0]):
            raise InputError(f"the module is on {prepared.device}, not on {device}: move it, or leave 'device' out")
        naming = Naming(self.model or prepared.model, prepared.step if self.step is None else self.step)
        context = EvaluationContext(settings, plugins, prepared.device or device, batch_size, progress or silent)
        try:
            files = plugins.checkpoint_files(prepared.generator)
            try:
                found = service.find_checkpoints([prepared.path], naming, files)
            except UnknownStepError:
                raise InputError(f"cannot infer the step from {prepared.path}: pass step=NUMBER") from None
            if len(found) > 1:
                raise InputError(f"{prepared.path} matches {len(found)} checkpoints: pass one at a time")
            yield (
                context,
                service.plan(context, found[0].checkpoint, prepared.generator, self.options, suite, self.seed),
            )
        finally:
            context.database.engine.dispose()


@contextmanager
def _store() -> Iterator[Database]:
    database = Database(Settings().database)
    try:
        yield database
    finally:
        database.engine.dispose()


@contextmanager
def _progress(wanted: bool | None) -> Iterator[Progress]:
    from evalsvc.evaluation.context import silent

    console = Console(stderr=True)
    if wanted is False or not (wanted or console.is_terminal or console.is_jupyter):
        yield silent
    elif console.is_terminal or console.is_jupyter:
        with progress_bars(console) as bars:
            yield bars.stage
    else:
        yield _told


def _told(stage: str, total: int) -> Callable[[int], None]:
    """A line on stderr at the end of each stage."""
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        if done == total:
            sys.stderr.write(f"{stage}: {done}/{total}\n")

    return advance


def _run(session: Session, artifacts: Artifacts, number: int, *, computed: bool) -> Run:
    evaluation = session.get_one(tables.Evaluation, number)
    checkpoint = session.get_one(tables.Checkpoint, evaluation.checkpoint_id)
    rows = queries.scores(session, evaluation=number)
    return Run(
        evaluation=number,
        model=checkpoint.model.name,
        step=checkpoint.step,
        suite=rows[0].suite,
        checkpoint=checkpoint.digest,
        checkpoint_id=checkpoint.id,
        scores={row.label: row for row in rows},
        provenance=evaluation.provenance,
        samples=_samples(evaluation, artifacts),
        computed=computed,
        callable=checkpoint.generator == "callable",
    )


def _samples(evaluation: tables.Evaluation, artifacts: Artifacts) -> np.ndarray | None:
    for artifact in evaluation.artifacts:
        if artifact.kind == "gallery" and artifacts.is_sound(artifact.path):
            return artifacts.read_arrays(artifact.path).get("pixels")
    return None


def _checkpoint(session: Session, side: str | Run) -> tables.Checkpoint:
    if isinstance(side, Run):
        return session.get_one(tables.Checkpoint, side.checkpoint_id)
    return stored_checkpoints.find(session, side)
