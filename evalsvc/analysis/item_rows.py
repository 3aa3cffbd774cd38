"""Rows of an item set as people read them: prompts, targets, sources and tags as texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.plugins.items import Prompt


@dataclass(frozen=True)
class ItemRow:
    """One item. A chat is one line a message, several targets or choices are separated by " | ".

    ``source`` and ``target`` are names of files of the item set where ``media`` names their modality.
    """

    id: str
    prompt: str = ""
    source: str = ""
    target: str = ""
    label: int | None = None
    group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)


def item_row(items: ItemSet, row: int) -> ItemRow:
    """The item at a row of the set; the target of a multiple choice is the right choice."""
    return ItemRow(
        id=items.ids[row],
        prompt=_said(items.prompts[row]) if items.prompts else "",
        source=items.sources[row] if items.sources else "",
        target=target_of(items, row),
        label=None if items.labels is None else int(items.labels[row]),
        group=items.groups[row] if items.groups else "",
        tags={tag: values[row] for tag, values in items.tags.items()},
        media=items.media,
    )


def target_of(items: ItemSet, row: int) -> str:
    """The texts that are right, or the right choice, or the name of the target's file; "" without any."""
    if items.targets and items.targets[row]:
        return " | ".join(items.targets[row])
    if not items.answers:
        return ""
    answer, choices = items.answers[row], items.choices[row] if items.choices else ()
    if isinstance(answer, int):
        return choices[answer] if 0 <= answer < len(choices) else ""
    return answer


def _said(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(f"{role}: {content}" for role, content in prompt)
