"""Entry point for evaluations: plan checkpoints in a configuration under a suite, then run or submit them.

The command line, the HTTP API, gates and the Python interface use these functions:

1. :func:`resolve_suite` and :func:`open_checkpoint` (or :func:`find_checkpoints`) resolve names;
2. :func:`plan`, :func:`plan_checkpoints` or :func:`plan_stored` open the resources of an evaluation and freeze it;
3. :func:`run` computes it in this process, :func:`submit` queues it for workers.
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
from evalsvc.evaluation.suite_resolution import resolve_suite as resolve_suite
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import tables


def open_checkpoint(path: Path, naming: Naming, generator: str, plugins: Plugins) -> Checkpoint:
    """The checkpoint at ``path``, named and digested; ``generator`` selects the files of a folder.

    Raises:
        UnknownStepError: the step is not given and cannot be inferred from the path.
        InputError: the path or the generator does not exist.
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

    If ``skipped`` is given, unreadable files of stored samples are skipped, and their names are passed to it. They are
    part of the spec, so that every worker skips the same files.

    Raises:
        InputError: something is incompatible, as in :func:`plan`, or files are to be skipped for a generator without
            files.
    """
    if skipped is not None and generator != "samples":
        raise InputError(f"--skip-bad requires --generator samples (got {generator!r})")
    for checkpoint in checkpoints:
        skip: list[str] = []
        if skipped is not None:
            skip = list(unreadable(open_samples(checkpoint.path, reading=ReadingOptions.among(options))))
            skipped(skip)
        yield plan(context, checkpoint, generator, {**options, **({"skip": skip} if skip else {})}, suite, seed)


def plan_stored(
    context: EvaluationContext, checkpoint: tables.Checkpoint, suite: Suite, seed: int | None = None
) -> EvaluationSpec:
    """A spec for a stored checkpoint in its own configuration, with the installed versions.

    Raises:
        CheckpointError: its content has changed.
        InputError: something is incompatible, as in :func:`plan`.
    """
    opened = stored_checkpoints.reopen(checkpoint, context.plugins)
    return plan(context, opened, checkpoint.generator, checkpoint.options, suite, seed)


def run(
    context: EvaluationContext, specs: Iterable[EvaluationSpec], *, rerun: bool = False, advance: Advance | None = None
) -> list[int]:
    """Evaluate in this process; return the ids of the evaluations, and report each to ``advance`` when it ends."""
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
    """Queue evaluations, as described for :func:`evalsvc.evaluation.lifecycle.submit`."""
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
