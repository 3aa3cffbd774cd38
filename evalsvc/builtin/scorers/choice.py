"""Multiple choice by likelihood: is the right choice the most likely text after the prompt?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.scorers import CandidateLikelihoods, ScorerInfo

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@open_to_clients("delimiter")
@versioned("1")
class Choice:
    """The plug-in ``choice``: ``acc`` and ``acc_norm`` of lm-evaluation-harness 0.4.13; ``nll`` of the right choice.

    ``acc`` is 1 where the right choice has the largest log-likelihood after the prompt, ``acc_norm`` where it has the
    largest log-likelihood per character (without ``delimiter``), 0 otherwise. Where m choices share the first place and
    one of them is right, it is 1 / m; the harness takes the first, which rewards a position. ``nll`` is in nats: small
    differences between two models, which accuracies hide, are paired by it.

    ``delimiter`` stands between a prompt and a choice; a chat has none. The answer of an item is the index of the right
    choice, its text, its letter (A is the first), or the index in digits, tried in this order.
    """

    quantities = (
        Quantity("acc", Direction.HIGHER, "share", 0.0, 1.0, True, title="Accuracy", title_zh="准确率"),
        Quantity(
            "acc_norm",
            Direction.HIGHER,
            "share",
            0.0,
            1.0,
            True,
            title="Accuracy by length",
            title_zh="按长度归一的准确率",
        ),
        Quantity(
            "nll",
            Direction.LOWER,
            "nats",
            0.0,
            unbiased_in_n=True,
            title="NLL of the answer",
            title_zh="正确答案的负对数似然",
        ),
    )

    def __init__(self, device: torch.device, *, delimiter: str = " ") -> None:
        self._delimiter = delimiter
        facts = {"delimiter": delimiter, "length": "characters", "ties": "shared"}
        self.info = ScorerInfo(
            "choice", frozenset({"text"}), self.quantities, frozenset({"prompt", "choices", "answer"}), facts=facts
        )

    def candidates(self, items: ItemBatch) -> tuple[tuple[str, ...], ...]:
        """The choices of each item after the delimiter; none where the item cannot be scored."""
        delimiters = [self._delimiter if isinstance(prompt, str) else "" for prompt in items.prompts]
        return tuple(
            () if isinstance(_right(choices, answer), str) else tuple(delimiter + choice for choice in choices)
            for delimiter, choices, answer in zip(delimiters, items.choices, items.answers, strict=True)
        )

    def score_likelihoods(self, likelihoods: Sequence[CandidateLikelihoods], items: ItemBatch) -> Scored:
        """One row per item; an item without choices or a right one among them has no value, and the reason says why."""
        values = {
            quantity.name: torch.full((len(items),), torch.nan, dtype=torch.float64) for quantity in self.quantities
        }
        reasons = {}
        for row, (found, choices, answer) in enumerate(zip(likelihoods, items.choices, items.answers, strict=True)):
            right = _right(choices, answer)
            if isinstance(right, str):
                reasons[row] = right
                continue
            lengths = np.array([len(choice) for choice in choices])
            values["acc"][row] = _share(-found.nats, right)
            values["acc_norm"][row] = _share(-found.nats / lengths, right)
            values["nll"][row] = max(0.0, float(found.nats[right]))  # rounding may leave -1e-6
        return Scored(values, reasons)


def _share(likelihoods: Float64[np.ndarray, " choices"], right: int) -> float:
    """The right choice's share of the first place."""
    first = likelihoods == likelihoods.max()
    return float(first[right]) / float(first.sum())


def _right(choices: Sequence[str], answer: str | int) -> int | str:
    """Index of the right choice, or the reason why there is none."""
    if len(choices) < 2:
        return "the item has no choices" if not choices else "the item has one choice"
    if empty := [number for number, choice in enumerate(choices, start=1) if not choice]:
        return f"choice {empty[0]} is empty"
    if isinstance(answer, str):
        if not answer:
            return "the item has no answer"
        if answer in choices:
            return choices.index(answer)
        if len(answer) == 1 and answer.upper() in LETTERS:
            answer = LETTERS.index(answer.upper())
        elif answer.isascii() and answer.isdecimal() and len(answer) <= 9:
            answer = int(answer)
        else:
            return "the answer is not a choice"
    return answer if 0 <= answer < len(choices) else f"the answer is number {answer + 1} of {len(choices)} choices"
