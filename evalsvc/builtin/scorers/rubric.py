"""Grades of an answer by a rubric, from a served model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from evalsvc.builtin.judge_prompts import filled, marked, require_fields
from evalsvc.builtin.scorers.judge_model import DATA, PRICE, REASON, Field, JudgeModel, Shown
from evalsvc.builtin.scorers.rows import checked
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import Column, ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

Scale = Sequence[int] | Literal["yes-no"]
WHO = "rubric"
CRITERIA = {"quality": "The answer does what the request asks: it is correct, complete and clear."}
TEMPLATE = """[Request]
{prompt}

[Answer]
{answer}"""
MOST_STEPS, MOST_GRADINGS, MOST_CRITERIA, LARGEST = 100, 100, 20, 10**6
SPREAD = "_spread"
_WORDS = {"yes": 1.0, "no": 0.0}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


@open_to_clients("endpoint", "criteria", "scale", "template", "gradings", "temperature", "max_tokens", "itself")
@versioned("1")
class Rubric:
    """The plug-in ``rubric``: grades of an answer by a chat model behind ``endpoint``, one for each of ``criteria``.

    ``criteria`` maps names, which become quantities, to descriptions; a high grade or a yes must be good. ``scale`` is
    ``[LOWEST, HIGHEST]`` in whole steps, or ``yes-no`` (1 and 0). ``template`` has ``{answer}``, and may have
    ``{prompt}`` and ``{target}``. The model gives its reason before its grades (Liu et al. 2023, "G-Eval"; Kim et al.
    2024, "Prometheus 2"). With several ``gradings``, the value is their mean, and ``NAME_spread`` their standard
    deviation. ``temperature`` is 0 for one grading and 1 for several by default. ``judge_price`` is the price of all
    requests for a sample in US dollars, NaN without a price of the endpoint.

    An answer whose grades are malformed twice fails, as does one that the server refuses.
    """

    @staticmethod
    def quantities(
        *,
        criteria: Mapping[str, str] = CRITERIA,
        scale: Scale = (1, 5),
        gradings: int = 1,
        **_other: Any,
    ) -> tuple[Quantity, ...]:
        """A grade by criterion, its spread if there are several gradings, and the price."""
        grades = _grades_of(scale)
        low, high = (0.0, 1.0) if scale == "yes-no" else (float(grades[0]), float(grades[-1]))
        unit = "share" if scale == "yes-no" else "grade"
        named = [(name, name.replace("_", " ").capitalize()) for name in _checked_criteria(criteria)]
        means = [
            Quantity(name, Direction.HIGHER, unit, low, high, title=title, title_zh=title) for name, title in named
        ]
        if checked(WHO, "gradings", gradings, int) == 1:
            return (*means, PRICE)
        spreads = [
            Quantity(
                f"{name}{SPREAD}",
                Direction.LOWER,
                unit,
                0.0,
                high - low,
                title=f"{title}, spread of gradings",
                title_zh=f"{title}，重复评分的离散度",
            )
            for name, title in named
        ]
        return (*means, *spreads, PRICE)

    def __init__(
        self,
        device: torch.device,
        *,
        endpoint: str = "",
        criteria: Mapping[str, str] = CRITERIA,
        scale: Scale = (1, 5),
        template: str = TEMPLATE,
        gradings: int = 1,
        temperature: float | None = None,
        max_tokens: int = 1024,
        itself: bool = False,
    ) -> None:
        quantities = self.quantities(criteria=criteria, scale=scale, gradings=gradings)
        if not 1 <= gradings <= MOST_GRADINGS:
            raise InputError(f"invalid option gradings={gradings} of scorer {WHO!r}: use 1 to {MOST_GRADINGS}")
        require_fields(f"scorer {WHO!r}", checked(WHO, "template", template, str), ["answer"])
        if temperature is None:
            temperature = 1.0 if gradings > 1 else 0.0
        self._criteria, self._gradings, grades = _checked_criteria(criteria), gradings, _grades_of(scale)
        self._model = JudgeModel(
            WHO,
            endpoint,
            dict.fromkeys(self._criteria, grades),
            temperature=temperature,
            max_tokens=max_tokens,
            itself=itself,
        )
        self.models = self._model.models
        self._template = _whole(self._criteria, grades, template)
        columns: tuple[Column, ...] = ("prompt", "target")
        self.info = ScorerInfo(
            WHO,
            frozenset({"text"}),
            quantities,
            frozenset(name for name in columns if f"{{{name}}}" in self._template),
            facts={
                **self._model.facts,
                "question": digest_json(self._template)[:16],
                "criteria": json.dumps(self._criteria, ensure_ascii=False),
                "scale": "yes-no" if scale == "yes-no" else f"{grades[0]} to {grades[-1]}",
                "gradings": str(gradings),
            },
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The grades of each text."""
        return self._model.score(self.info, samples, items, self._questions, self._values)

    def receipt(self) -> Callable[[], None]:
        """A function that deletes the paid answers that were kept since the last receipt."""
        return self._model.receipt()

    def _questions(self, shown: Shown) -> list[str]:
        values = {"prompt": shown.prompt, "answer": shown.answer, "target": "\n".join(shown.targets)}
        return [filled(self._template, {name: marked(name, text) for name, text in values.items()})] * self._gradings

    def _values(self, answers: Sequence[Mapping[str, Field]]) -> list[float]:
        grades = np.array([[_number(each[name]) for name in self._criteria] for each in answers])
        spreads = grades.std(axis=0, ddof=1).tolist() if len(answers) > 1 else []
        return [*grades.mean(axis=0).tolist(), *spreads]


def _grades_of(scale: Scale) -> tuple[Field, ...]:
    """The grades of a scale, the lowest first.

    Raises:
        InputError: it is not a scale.
    """
    if scale == "yes-no":
        return ("no", "yes")
    if isinstance(scale, list | tuple) and len(scale) == 2 and all(type(end) is int for end in scale):
        low, high = scale
        if 1 <= high - low <= MOST_STEPS and abs(low) <= LARGEST:
            return tuple(range(low, high + 1))
    raise InputError(
        f"invalid option scale={scale!r:.80} of scorer {WHO!r}: use yes-no, or [LOWEST, HIGHEST] in whole numbers, at "
        f"most {MOST_STEPS} apart"
    )


def _checked_criteria(criteria: Mapping[str, str]) -> dict[str, str]:
    """The criteria by name, in the order of their names: databases keep no order of keys.

    Raises:
        InputError: there are none or too many, or a name is not one of a quantity.
    """
    checked(WHO, "criteria", criteria, dict[str, str])
    if not 1 <= len(criteria) <= MOST_CRITERIA:
        raise InputError(f"option criteria of scorer {WHO!r} has {len(criteria)} names: use 1 to {MOST_CRITERIA}")
    for name in criteria:
        if not _NAME.fullmatch(name) or name in (REASON, PRICE.name) or name.endswith(SPREAD):
            raise InputError(
                f"invalid name {name!r:.80} in option criteria of scorer {WHO!r}: use letters a-z, digits and _, "
                f"but not {REASON}, {PRICE.name} or an end in {SPREAD}"
            )
    return dict(sorted(criteria.items()))


def _number(grade: Field) -> float:
    return _WORDS[grade] if isinstance(grade, str) else float(grade)


def _whole(criteria: Mapping[str, str], grades: Sequence[Field], template: str) -> str:
    """The whole question: the criteria, the template, and the form of the answer."""
    allowed = (
        "yes or no" if grades == ("no", "yes") else f"a whole number from {grades[0]} (worst) to {grades[-1]} (best)"
    )
    listed = "\n".join(f"- {name}: {text}" for name, text in criteria.items())
    form = json.dumps({REASON: "...", **dict.fromkeys(criteria, grades[-1])})
    return f"""Grade an answer by each criterion: {allowed}.

[Criteria]
{listed}

{DATA}

{template}

Reply with one JSON object alone, of this form: {form}
First the reason in one or two sentences, then the grades."""
