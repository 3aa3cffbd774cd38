"""Points of a judge's verdicts on two answers in both orders."""

from __future__ import annotations

from evalsvc.plugins.interfaces import Answer


def points_of(straight: Answer, swapped: Answer) -> float:
    """Points of the answer that is shown first in ``straight`` and second in ``swapped``.

    1 is a win in both orders, 0 a loss in both; 1/2 is a tie, or verdicts that contradict each other (Zheng et al.
    2023, "Judging LLM-as-a-judge with MT-Bench").
    """
    return {("first", "second"): 1.0, ("second", "first"): 0.0}.get((straight, swapped), 0.5)
