"""Requirements on the objects of an image, and whether boxes meet them: the rules of GenEval (Ghosh et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from evalsvc.builtin.boxes import Box
from evalsvc.builtin.scorers.rows import NotApplicable

Color = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"]
Relation = Literal["left of", "right of", "above", "below"]
COLORS: tuple[Color, ...] = get_args(Color)
MARGIN = 0.1
"""Share of the sides of both boxes by which centers have to differ."""
SLANT = 0.5
"""Least share of a direction in the distance of the centers."""
T = TypeVar("T")
NamesColors: TypeAlias = Callable[[str, Sequence[Box]], Sequence[str]]
"""From a class and boxes of its objects to the color of each."""


class Limit(BaseModel):
    """Fewer than ``count`` objects of a class."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(alias="class")
    count: Annotated[int, Field(ge=1)] = 1


class Requirement(Limit):
    """At least ``count`` objects of a class, of a color, and in a relation to those of an earlier requirement."""

    color: Color | None = None
    position: tuple[Relation, Annotated[int, Field(ge=0)]] | None = None


def requirements(text: str) -> tuple[Requirement, ...]:
    """Requirements from the JSON of GenEval's ``include``; none from an empty text.

    Raises:
        NotApplicable: the text is something else, or a position refers to the requirement itself or to a later one.
    """
    read = _read(text, "include", _REQUIREMENTS)
    for number, each in enumerate(read):
        if each.position and each.position[1] >= number:
            raise NotApplicable(f"requirement {number} of the tag 'include' is placed by one that is not before it")
    return read


def limits(text: str) -> tuple[Limit, ...]:
    """Limits from the JSON of GenEval's ``exclude``; none from an empty text.

    Raises:
        NotApplicable: the text is something else.
    """
    return _read(text, "exclude", _LIMITS)


def faults(
    boxes: Mapping[str, Sequence[Box]],
    include: Sequence[Requirement],
    exclude: Sequence[Limit],
    colors: NamesColors,
) -> list[str]:
    """One sentence for each requirement that is not met and each limit that is reached; none if the image is right.

    ``boxes`` are the objects by class, the best first. Colors and positions are those of the first ``count`` alone.
    """
    reasons: list[str] = []
    groups: list[Sequence[Box] | None] = []
    for wanted in include:
        found = boxes.get(wanted.name, ())[: wanted.count]
        reason = _unmet(wanted, found, groups, colors)
        groups.append(None if reason else found)
        reasons += [reason] if reason else []
    for limit in exclude:
        number = len(boxes.get(limit.name, ()))
        if number >= limit.count:
            reasons.append(f"expected fewer than {limit.count} {limit.name}, found {number}")
    return reasons


def relations(box: Box, other: Box) -> set[Relation]:
    """The relations of a box to another one: none if their centers are near each other for their sizes."""
    offsets, beyond = [], []
    for low, high in ((0, 2), (1, 3)):
        offset = (box[low] + box[high] - other[low] - other[high]) / 2
        margin = MARGIN * (abs(box[high] - box[low]) + abs(other[high] - other[low]))
        offsets.append(offset)
        beyond.append(math.copysign(max(abs(offset) - margin, 0), offset))
    if all(abs(each) < 1e-3 for each in beyond):
        return set()
    x, y = (each / math.hypot(*offsets) for each in beyond)
    holds: dict[Relation, bool] = {
        "left of": x < -SLANT,
        "right of": x > SLANT,
        "above": y < -SLANT,
        "below": y > SLANT,
    }
    return {relation for relation, true in holds.items() if true}


def _side(share: float, negative: Relation, positive: Relation) -> set[Relation]:
    return {negative} if share < -SLANT else {positive} if share > SLANT else set()


_REQUIREMENTS, _LIMITS = TypeAdapter(tuple[Requirement, ...]), TypeAdapter(tuple[Limit, ...])


def _read(text: str, tag: str, kind: TypeAdapter[tuple[T, ...]]) -> tuple[T, ...]:
    try:
        return kind.validate_json(text) if text else ()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NotApplicable(
            f"the tag {tag!r} is not a list of requirements ({place or 'it'}: {first['msg']})"
        ) from None


def _unmet(
    wanted: Requirement, found: Sequence[Box], groups: Sequence[Sequence[Box] | None], colors: NamesColors
) -> str:
    """Why a requirement is not met; empty if it is."""
    name, count = wanted.name, wanted.count
    if len(found) < count:
        return f"expected {count} {name}, found {len(found)}"
    if wanted.color:
        seen = colors(name, found)
        if seen.count(wanted.color) < count:
            return f"expected {count} {wanted.color} {name}, found {' and '.join(seen)}"
    if wanted.position:
        relation, number = wanted.position
        others = groups[number]
        if others is None:
            return f"the object that {name} has to be {relation} was not found"
        if not all(relation in relations(box, other) for box in found for other in others):
            return f"expected {name} {relation} the other object"
    return ""
