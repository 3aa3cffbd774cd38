"""The way in: these checkpoints, in this configuration, under this suite; planned, then run here or submitted.

Command line, HTTP API, gates and Python interface assemble evaluations by these functions:

1. :func:`resolve_suite` and :func:`open_checkpoint` (or :func:`find_checkpoints`) turn names into content;
2. :func:`plan`, :func:`plan_checkpoints` or :func:`plan_stored` open what an evaluation needs and freeze it;
3. :func:`run` computes in this process, :func:`submit` leaves it to workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.context import Advance, EvaluationContext
from evalsvc.evaluation.given_checkpoints import GivenCheckpoint as GivenCheckpoint
from evalsvc.evaluation.given_checkpoints import find_checkpoints as find_checkpoints
from evalsvc.evaluation.given_checkpoints import require_distinct as require_distinct
from evalsvc.evaluation.lifecycle import PRIORITY, Deadlines, Submission
from evalsvc.evaluation.planning import plan as plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.inputs.suites import Suite, is_shipped, load_suite, parse_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import queries, tables
from evalsvc.store.session import Database


def resolve_suite(
    named: str, database: Database, plugins: Plugins, *, reference: str | None = None, folder: Path = Path()
) -> Suite:
    """The suite that a name means: a file, else a shipped suite, else one that was used before and is stored.

    A name that ends in ``.yaml`` or ``.yml`` is a file's, looked for in ``folder`` first. ``reference`` is that of a
    suite that leaves it open; ``None`` leaves it open.

    Raises:
        InputError: there is no such suite, the reference does not fit it, or several versions of it were used and none
            is named: whoever may submit can add a version, and must not choose by which others are scored or judged.
    """
    if named.endswith((".yaml", ".yml")):
        beside = folder / named
        suite = load_suite(str(beside if beside.is_file() else named), plugins)
    else:
        stored = None if is_shipped(named) else _stored_suite(named, database, plugins)
        suite = stored or load_suite(named, plugins)
    return suite if reference is None else suite.on(reference)


def open_checkpoint(path: Path, naming: Naming, generator: str, plugins: Plugins) -> Checkpoint:
    """The checkpoint at ``path``, named and digested; ``generator`` decides which files of a folder count.

    Raises:
        UnknownStepError: no step is given, and the path does not state one for sure.
        InputError: nothing is there, or there is no such generator.
    """
    return Checkpoint.open(path, *naming.read(path), plugins.checkpoint_files(generator))


def plan_checkpoints(
    context: EvaluationContext,
    checkpoints: Iterable[Checkpoint],
    generator: str,
    options: Mapping[str, Any],
    suite: Suite,
    seed: int | None = None,
    *,
    skipped: Callable[[Sequence[str]], None] | None = None,
) -> Iterator[EvaluationSpec]:
    """A spec for each checkpoint in one configuration.

    With ``skipped`` the files of stored samples that cannot be read are left out, and their names are given to it. They
    stand in the spec, so that every worker leaves out the same.

    Raises:
        InputError: something does not fit, as of :func:`plan`; or files are to be skipped of a generator that reads
            none.
    """
    if skipped is not None and generator != "samples":
        raise InputError(f"--skip-bad is about files of images or sounds, which generator {generator!r} does not read")
    for checkpoint in checkpoints:
        skip: list[str] = []
        if skipped is not None:
            skip = list(unreadable(open_samples(checkpoint.path)))
            skipped(skip)
        yield plan(context, checkpoint, generator, {**options, **({"skip": skip} if skip else {})}, suite, seed)


def plan_stored(
    context: EvaluationContext, checkpoint: tables.Checkpoint, suite: Suite, seed: int | None = None
) -> EvaluationSpec:
    """A spec for a stored checkpoint in its own configuration, by the versions that are installed.

    Raises:
        CheckpointError: its content has changed.
        InputError: something does not fit, as of :func:`plan`.
    """
    opened = stored_checkpoints.reopen(checkpoint, context.plugins)
    return plan(context, opened, checkpoint.generator, checkpoint.options, suite, seed)


def run(
    context: EvaluationContext, specs: Iterable[EvaluationSpec], *, rerun: bool = False, advance: Advance | None = None
) -> list[int]:
    """Evaluate in this process; the ids of the evaluations, each known to ``advance`` as it ends."""
    ids = []
    for spec in specs:
        ids.append(evaluate(spec, context, rerun=rerun))
        if advance:
            advance(1)
    return ids


def submit(
    context: EvaluationContext,
    specs: Iterable[EvaluationSpec],
    *,
    priority: int = PRIORITY,
    deadlines: Deadlines = Deadlines(),  # noqa: B008  (frozen)
    rerun: bool = False,
    restricted: bool = False,
    advance: Advance | None = None,
) -> list[Submission]:
    """Put evaluations on the queue, as :func:`evalsvc.evaluation.lifecycle.submit` describes it."""
    submissions = []
    for spec in specs:
        submissions.append(
            lifecycle.submit(
                context.database, spec, priority=priority, deadlines=deadlines, rerun=rerun, restricted=restricted
            )
        )
        if advance:
            advance(1)
    return submissions


def _stored_suite(named: str, database: Database, plugins: Plugins) -> Suite | None:
    with database.read() as session:
        versions = queries.suite_versions(session, named)
        body = queries.suite_body(session, named)
    if len(versions) > 1:
        listed = ", ".join(f"{named}@{version}" for version in versions)
        raise InputError(f"suite {named!r} has several versions: name one of {listed}")
    return None if body is None else parse_suite(body, f"suite {named}", plugins)
