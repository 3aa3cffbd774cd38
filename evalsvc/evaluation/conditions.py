"""Conditions that a suite gives, held against those that a generator takes and needs."""

from __future__ import annotations

from collections.abc import Collection

from evalsvc.core.errors import InputError
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.items import Column, Condition


def conditions_of(suite: Suite) -> frozenset[Condition]:
    """The conditions that a suite gives to generators."""
    items = suite.items
    if items is None:
        return frozenset({"prompt"} if suite.prompts else ())
    given: dict[Condition, object] = {
        "prompt": items.prompt,
        "label": items.labels or items.label,
        "source": items.source,
    }
    return frozenset(name for name, there in given.items() if there)


def check_conditions(suite: Suite, generator: str, info: GeneratorInfo, read: Collection[Column] = ()) -> None:
    """Make sure that a generator gets what it needs, and takes what the suite gives.

    A condition that it ignores is allowed beside one that it takes if a scorer reads it: ``read`` are the columns of
    items that scorers read. Generators that declare nothing are not checked.

    Raises:
        InputError: the suite lacks a condition, or gives one that the generator ignores.
    """
    if info.takes is None:
        return
    given = conditions_of(suite)
    if missing := sorted(info.needs - given):
        way = "labels: {classes: N}" if missing[0] == "label" else f"file: FILE, {missing[0]}: COLUMN"
        raise InputError(
            f"generator {generator!r} needs a {missing[0]} for each sample, which suite {suite.id} does not give: add "
            f"'items: {{{way}}}'"
        )
    other_uses = {*map(str, read), *(use.by for use in suite.metrics)}
    excused = other_uses if given & info.takes else set()
    if ignored := sorted(given - info.takes - excused):
        taken = " and ".join(f"{each}s" for each in sorted(info.takes)) or "no conditions"
        raise InputError(
            f"suite {suite.id} gives a {ignored[0]} for each sample, which generator {generator!r} ignores (it takes "
            f"{taken}): use another generator, or a suite without {ignored[0]}s"
        )
