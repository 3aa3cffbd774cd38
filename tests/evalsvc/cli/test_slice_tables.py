"""The checkpoint that lost a class: its worst slice, and what it draws instead."""

import numpy as np
import pytest
from rich.console import Console

from evalsvc.analysis.confusions import confusions
from evalsvc.analysis.items import items_of_checkpoints
from evalsvc.builtin.demo import shipped_by_class
from evalsvc.cli.demo_by_class import PREDICTED
from evalsvc.cli.slice_tables import worst_slices
from evalsvc.core.errors import InputError
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import load_suite


@pytest.fixture
def small(context, tmp_path):
    """300 samples of the checkpoint that lost a class, under a small suite."""
    path = tmp_path / "suite.yaml"
    path.write_text(
        "name: few\nversion: 1\nmodality: image\nsamples: 300\nitems: {labels: {classes: 10}}\n"
        "scorers:\n  digit: {use: label-accuracy, options: {extractor: digits-cnn}}\n"
        "metrics:\n  - {metric: mean, of: digit/label_accuracy, by: label}\n"
    )
    run = next(each for each in shipped_by_class() if each.family != each.generator)
    suite = load_suite(str(path), context.plugins)
    evaluate(plan(context, Checkpoint.open(run.path, run.family, run.step), run.generator, {}, suite), context)
    return context


def test_the_worst_slice_says_which_class_was_lost(small):
    with small.database.read() as session:
        made = worst_slices(session, "few@1", 2)
        console = Console(width=200)
        with console.capture() as captured:
            console.print(made)
        (table,) = items_of_checkpoints(
            session, small.artifacts, [stored_checkpoints.find(session, "conditional-gan-without-3")], None
        )
    (line,) = [line for line in captured.get().splitlines() if "without-3" in line]
    assert "label=3: 0." in line
    counts = confusions(table, PREDICTED)
    assert counts.sum(1).tolist() == [30] * 10
    assert np.argmin(np.diag(counts)) == 3
    assert counts[3, 3] < 5
    with pytest.raises(InputError, match="add a scorer 'label-accuracy'"):
        confusions(table, "digit/other")
