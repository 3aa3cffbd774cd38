"""States of samples: what a scorer that merges them kept of each."""

from __future__ import annotations

from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.merged import SampleStates
from evalsvc.plugins.scorers import MergesStates
from evalsvc.plugins.scoring import Values


def read_states(spec: EvaluationSpec, context: EvaluationContext, label: str, values: Values) -> SampleStates:
    """The states beside the values of a scorer, read by the scorer itself."""
    scorer = opening.scorer(context, spec.suite.scorers[label])
    assert isinstance(scorer, MergesStates)
    kept = values.states or (b"",) * len(values)
    states = tuple(scorer.read_state(each) if each else None for each in kept)
    return SampleStates(states, scorer.merge, scorer.value_of)
