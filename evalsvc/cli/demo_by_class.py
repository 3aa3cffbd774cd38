"""The class-conditional part of the demo: a good distance, and the slice that says which class was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evalsvc.analysis.confusions import confusions
from evalsvc.analysis.items import items_of_checkpoints
from evalsvc.builtin.demo import LOST, WITHOUT, shipped_by_class
from evalsvc.cli.console import err, out
from evalsvc.cli.slice_tables import worst_slices
from evalsvc.evaluation import service
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite

SUITE = "digits-by-class@1"
PREDICTED = "digit/predicted_label"


def score_by_class(context: EvaluationContext, run: Callable[[list[EvaluationSpec]], Sequence[int]]) -> None:
    """Score all class-conditional checkpoints of the package."""
    suite = load_suite(SUITE, context.plugins)
    run(
        [
            service.plan(context, Checkpoint.open(each.path, each.family, each.step), each.generator, {}, suite)
            for each in shipped_by_class()
        ]
    )


def show_by_class(context: EvaluationContext) -> None:
    """The worst class of each checkpoint, and what the one that lost a class draws in its place."""
    lost = next(each.family for each in shipped_by_class() if each.family.endswith(WITHOUT))
    with context.database.read() as session:
        out.print(worst_slices(session, SUITE, 2))
        checkpoint = stored_checkpoints.find(session, lost)
        (table,) = items_of_checkpoints(session, context.artifacts, [checkpoint], SUITE)
    counts = confusions(table, PREDICTED)[LOST]
    taken = sorted(range(len(counts)), key=lambda each: -counts[each])[:3]
    shares = ", ".join(f"a {each} ({counts[each] / counts.sum():.0%})" for each in taken)
    err.print(
        f"{lost} never saw a {LOST}. Its distance is good, and the worst slice says what is missing: asked for a "
        f"{LOST}, it draws what the classifier reads as {shares}.",
        highlight=False,
    )
