"""Examples before the prompt of each item (few-shot prompts): the same for all items, never the item itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evalsvc.core.errors import InputError
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.schema import Examples
from evalsvc.plugins.items import Message, Prompt, messages_of

MOST_CHARACTERS = 2**28
"""Most characters of all prompts with their examples."""


def with_examples(items: ItemSet, pool: ItemSet, use: Examples, path: str) -> ItemSet:
    """The items with examples before their prompts; ids stay as they are.

    Examples are the first of ``pool`` in the order of the hashes of their ids, which no other example changes.

    Raises:
        InputError: an example has no answer, there are too few, or the prompts become too long.
    """
    order = np.argsort(pool.hashes, kind="stable").tolist()
    shown = [(pool.prompts[row], _answer(pool, row, path)) for row in order[: use.count + 1]]
    prompts: list[Prompt] = []
    length = 0
    for prompt in items.prompts:
        others = [each for each in shown if each[0] != prompt]
        if len(others) < use.count:  # its own prompt occurs more than once among the first
            rest = ((pool.prompts[row], row) for row in order if pool.prompts[row] != prompt)
            others = [(text, _answer(pool, row, path)) for (text, row), _ in zip(rest, range(use.count), strict=False)]
        if len(others) < use.count:
            raise InputError(f"{path} has {len(others)} examples beside an item itself: set 'count' to that at most")
        prompts.append(_preceded(prompt, others[: use.count], use))
        length += sum(len(each["content"]) for each in messages_of(prompts[-1]))
        if length > MOST_CHARACTERS:
            raise InputError(
                f"the prompts with their examples have more than {MOST_CHARACTERS:,} characters: use fewer"
            )
    return replace(items, prompts=tuple(prompts))


def _answer(pool: ItemSet, row: int, path: str) -> str:
    if pool.answers and pool.choices and isinstance(index := pool.answers[row], int):
        return pool.choices[row][index]
    if pool.targets and pool.targets[row]:
        return pool.targets[row][0]
    raise InputError(f"{path}: row {row + 1} has no answer, which an example needs: add a target, or remove the row")


def _preceded(prompt: Prompt, examples: list[tuple[Prompt, str]], use: Examples) -> Prompt:
    if isinstance(prompt, str):
        return use.separator.join([*(f"{text}{use.before_answer}{answer}" for text, answer in examples), prompt])
    system = tuple(message for message in prompt[:1] if message.role == "system")
    turns: list[Message] = []
    for asked, answer in examples:
        messages = asked if isinstance(asked, tuple) else (Message("user", asked),)
        turns += [*(each for each in messages if each.role != "system"), Message("assistant", answer)]
    return (*system, *turns, *prompt[len(system) :])
