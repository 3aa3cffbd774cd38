"""Preference of a served model between a sample and the other side of its item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evalsvc.builtin.judge_prompts import filled, marked, require_fields
from evalsvc.builtin.scorers.judge_model import DATA, PRICE, REASON, JudgeModel, Shown
from evalsvc.builtin.scorers.rows import checked
from evalsvc.core.digests import digest_json
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.interfaces import Answer
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo
from evalsvc.plugins.verdicts import points_of

WHO = "pairwise"
WINNER = "winner"
TEMPLATE = """Two assistants answered the same request. Decide whose answer is better: more correct, more complete,
clearer. Neither length nor the order in which the answers are shown is a merit.

[Request]
{prompt}

[Answer A]
{first}

[Answer B]
{second}"""
FORM = f"""Reply with one JSON object alone, of this form: {{"{REASON}": "...", "{WINNER}": "A"}}
First the reason in one or two sentences, then the winner: A, B or tie."""
_MEANING: dict[str | int, Answer] = {"A": "first", "B": "second", "tie": "tie"}
_PLACE = {"first": 0.5, "tie": 0.0, "second": -0.5}


@open_to_clients("endpoint", "template", "temperature", "max_tokens", "itself")
@versioned("1")
class Pairwise:
    """The plug-in ``pairwise``: whether a chat model behind ``endpoint`` prefers the text to the item's target.

    The target is the answer of the other side: of a baseline, or of a person. The model sees both in both orders.
    ``win`` is 1 if it prefers the text in both, 0 if it prefers the target in both, and 1/2 otherwise (Zheng et al.
    2023, "Judging LLM-as-a-judge with MT-Bench"). ``position_bias`` is the share of its verdicts for the first answer,
    ties by half, minus 1/2: its mean is 0 for a judge without position bias. With several targets, both are means over
    them. ``judge_price`` is the price of all requests for a sample in US dollars, NaN without a
    price of the endpoint. ``template`` has ``{first}`` and ``{second}``, and may have ``{prompt}``.

    A text whose verdict is malformed twice fails, as does one that the server refuses.
    """

    quantities = (
        Quantity("win", Direction.HIGHER, "share", 0.0, 1.0, title="Win rate", title_zh="胜率"),
        Quantity("position_bias", Direction.NEUTRAL, "share", -0.5, 0.5, title="Position bias", title_zh="位置偏差"),
        PRICE,
    )

    def __init__(
        self,
        device: torch.device,
        *,
        endpoint: str = "",
        template: str = TEMPLATE,
        temperature: float = 0.0,
        max_tokens: int = 1024,
        itself: bool = False,
    ) -> None:
        require_fields(f"scorer {WHO!r}", checked(WHO, "template", template, str), ("first", "second"))
        self._model = JudgeModel(
            WHO,
            endpoint,
            {WINNER: tuple(_MEANING)},
            temperature=temperature,
            max_tokens=max_tokens,
            itself=itself,
        )
        self.models = self._model.models
        self._template = f"{DATA}\n\n{template}\n\n{FORM}"
        self.info = ScorerInfo(
            WHO,
            frozenset({"text"}),
            self.quantities,
            frozenset({"target", "prompt"} if "{prompt}" in template else {"target"}),
            facts={**self._model.facts, "question": digest_json(self._template)[:16], "orders": "both"},
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """Whether each text wins against its targets."""
        return self._model.score(self.info, samples, items, self._questions, values_of)

    def receipt(self) -> Callable[[], None]:
        """A function that deletes the paid answers that were kept since the last receipt."""
        return self._model.receipt()

    def _questions(self, shown: Shown) -> list[str]:
        """Both orders for each target."""
        sides = [side for target in shown.targets for side in ((shown.answer, target), (target, shown.answer))]
        prompt = marked("prompt", shown.prompt)
        pairs = [(marked("answer-A", first), marked("answer-B", second)) for first, second in sides]
        return [filled(self._template, {"prompt": prompt, "first": a, "second": b}) for a, b in pairs]


def values_of(answers: Sequence[Mapping[str, str | int]]) -> list[float]:
    """Win and position bias of one text, means over its targets."""
    verdicts = [_MEANING[each[WINNER]] for each in answers]
    wins = [points_of(*pair) for pair in zip(verdicts[::2], verdicts[1::2], strict=True)]
    places = [_PLACE[each] for each in verdicts]
    return [sum(wins) / len(wins), sum(places) / len(places)]
