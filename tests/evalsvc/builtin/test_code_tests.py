"""The scorer of programs: from texts of models to values."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
import torch

from evalsvc.builtin.scorers.code_tests import CodeTests, programs_of
from evalsvc.core.errors import InputError
from evalsvc.metrics.functional import pass_at
from evalsvc.plugins.items import ItemBatch, Message
from evalsvc.plugins.samples import Texts
from tests.namespaces import needs_namespaces

pytestmark = needs_namespaces

CPU = torch.device("cpu")
PROMPT = 'def double(x):\n    """Twice x."""\n'
BODY = "    return 2 * x\n"
WHOLE = "def double(x):\n    return 2 * x\n"


def scored(samples, targets, prompts=(), **options):
    ids = tuple(map(str, range(len(samples))))
    items = ItemBatch(ids, torch.zeros(len(ids), dtype=torch.int64), prompts=tuple(prompts), targets=tuple(targets))
    return CodeTests(CPU, **options).score(Texts(tuple(samples)), items)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (BODY, (PROMPT + BODY, BODY)),
        ("Sure:\n```python\nx = 1\n```\nor\n```python\nx = 2\n```", (PROMPT + "\nx = 1\n", "x = 1\n")),
        ("```\nls\n```\n```Python\nx\n```", (PROMPT + "\nx\n", "x\n")),
        ("```sh\nls\n```", (PROMPT + "\nls\n", "ls\n")),
        ("```py\nx = '`'", (PROMPT + "\nx = '`'", "x = '`'")),
        ("~~~~python\n~~~\n~~~~", (PROMPT + "\n~~~\n", "~~~\n")),
        ("1. one\n   ```python\n   x\n   ```\n", (PROMPT + "\n   x\n", "   x\n")),
        ("`x`", (PROMPT + "`x`", "`x`")),
        ("", (PROMPT, "")),
    ],
)
def test_the_program_is_the_first_block_of_python_or_the_continuation_of_the_prompt(text, program):
    assert programs_of(text, PROMPT) == program


def test_blocks_are_found_in_time_linear_in_the_text():
    for text in ("```" * 200_000, "```python\n" * 50_000, "\n``" * 200_000, " " * 10**6):
        programs_of(text, "")


def test_a_row_has_whether_all_tests_pass_the_share_and_the_first_failure():
    chat = (Message("user", "Double x."),)
    found = scored(
        [BODY, f"```python\n{WHOLE}```", "    return x + 1\n", "no", WHOLE],
        [("assert double(1) == 2", "assert double(2) == 4")] * 4 + [()],
        [PROMPT, chat, PROMPT, "Double x.", PROMPT],
    )
    assert found.values["passed"].tolist()[:4] == [1, 1, 0, 0]
    assert found.values["tests_passed"].tolist()[:4] == [1, 1, 0.5, 0]
    assert {row: why.split(":")[0] for row, why in found.reasons.items()} == {
        2: "AssertionError",
        3: "NameError",
        4: "the item has no target",
    }


def test_limits_are_part_of_the_protocol_and_checked():
    assert CodeTests(CPU).info.protocol != CodeTests(CPU, time_limit=3.0).info.protocol
    assert CodeTests(CPU).info.protocol != CodeTests(CPU, memory_limit=512).info.protocol
    for wrong in ({"time_limit": 0.0}, {"time_limit": float("nan")}, {"memory_limit": 63}, {"memory_limit": "64"}):
        with pytest.raises(InputError, match=f"invalid option {next(iter(wrong))}=.* of scorer 'code-tests'"):
            CodeTests(CPU, **wrong)
    found = scored([BODY], [("import re\nassert double(2) == 4",)], [PROMPT], memory_limit=64)
    assert found.values["passed"].tolist() == [1]


@pytest.mark.parametrize("k", [1, 2, 10])
def test_pass_at_k_is_the_estimator_of_humaneval(k):
    draws, right = 20, range(21)
    passed = np.array([float(draw < c) for c in right for draw in range(draws)])
    items = np.repeat(np.arange(len(right)), draws)
    exact = sum(1 - Fraction(comb(draws - c, k), comb(draws, k)) for c in right) / len(right)
    assert pass_at(passed, items, CodeTests.quantities[0], k=k).value == pytest.approx(float(exact), abs=1e-15)
